# make run   the example app behind a local function URL, http://127.0.0.1:8000 (make run PORT=8001: another port)
# make test  every test, lint and types
# make bench  every benchmark, about TEN minutes;  make soak  hundreds of thousands of invocations with all that goes wrong
# All set up .venv first; nothing but Python 3.11 or newer, make, git and a package registry is needed.

PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
NODE_RIC := .cache/node/node_modules/aws-lambda-ric

.PHONY: run test lint bench bench-node bench-page soak

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
	$(BIN)/pytest -n 3 --dist loadfile --cov --cov-report=term-missing:skip-covered

# Two minutes: make bench BENCH=--quick. Node's own runtime is among the peers where Node is installed.
bench: .venv/ready bench-node
	mkdir -p .cache
	$(BIN)/python -m benchmarks --json .cache/results.json $(BENCH)

soak: .venv/ready
	mkdir -p .cache
	$(BIN)/python -m benchmarks.soak --json .cache/soak.json $(SOAK)

# docs/benchmarks.md and its plots, of what `make bench` and `make soak` have written last; and, of .cache/others, the
# results of other Pythons (make bench PYTHON=…, in another clone).
bench-page: .venv/ready
	$(BIN)/python -m benchmarks.page $(wildcard .cache/results.json .cache/others/*.json .cache/soak.json)

bench-node:
	@if ! command -v npm >/dev/null; then echo "npm is not installed: no comparison with Node's own runtime"; \
	elif [ ! -e $(NODE_RIC)/rapid-client.node ]; then \
	echo "building Node's own runtime client (a minute or two, once)"; mkdir -p .cache/node && \
	npm install --prefix .cache/node --no-audit --no-fund --no-save --loglevel=error aws-lambda-ric@4.0.2; fi
