# make run   the example app behind a local function URL, http://127.0.0.1:8000 (make run PORT=8001: another port)
# make test  every test, lint and types
# Both set up .venv first; nothing but Python 3.11 or newer, make, git and a package registry is needed.

PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin

.PHONY: run test lint bench

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[local]' --group dev
	touch $@

run: .venv/ready
	SLACK_DEMO=1 SLACK_SIGNING_SECRET=local-demo \
	$(BIN)/function-url --port $(PORT) --app-dir examples/fastapi_app main.handler

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest --cov --cov-report=term-missing:skip-covered

bench: .venv/ready
	$(BIN)/python -m benchmarks
