# make run   the example app behind a local function URL, http://127.0.0.1:8000 (make run PORT=8001: another port)
# make test  every test, lint and types;  make test-lowest  some of them, with the oldest packages that pyproject.toml allows
# make bench  every benchmark, about TEN minutes;  make soak  hundreds of thousands of invocations with all that goes wrong
# All set up .venv first; nothing but Python 3.11 or newer, make, git and a package registry is needed.

PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
NODE_RIC := .cache/node/node_modules/aws-lambda-ric

.PHONY: run test test-lowest lint bench bench-node bench-page soak

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

# For another Python: make test-lowest PYTHON=python3.12. What has no wheel for it is an error: users have no compiler.
LOWEST = .cache/lowest/$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
LOWEST_TESTS = tests/test_asgi.py tests/test_event_sources.py tests/test_lifespan.py tests/test_mcp.py tests/test_one_function.py \
	tests/test_opentelemetry.py tests/test_powertools.py tests/test_sentry.py tests/test_slack.py tests/test_sqlalchemy.py \
	tests/test_sse_starlette.py tests/test_triggers.py tests/test_unmarshal.py tests/local/test_fronts.py

test-lowest:
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST) --no-build --compile-bytecode --resolution lowest-direct \
	  --requirements pyproject.toml --all-extras --group dev
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST) --no-deps --editable .
	$(LOWEST)/bin/pytest -n 3 --dist loadfile $(LOWEST_TESTS)

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
