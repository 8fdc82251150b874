# Each target that needs .venv first brings it up to date, so a fresh clone needs no other step.

# Set here, so that variables of the shell with these names have no say; `make run PORT=9000` has.
PORT = 8000
ARGS =

# Without compiled modules each of the many processes of a test run would compile the project again.
unexport PYTHONDONTWRITEBYTECODE
# These would make the Python in .venv find other modules than those in it and in the project.
unexport PYTHONHOME PYTHONPATH PYTHONSAFEPATH

# What the benchmark's contenders on Node are built from.
FASTIFY = benchmarks/peers/fastify

# The linters of the contract, in npm's packages.
CONTRACT = scripts/contract

# A client that works offline, and its packages.
OFFLINE = examples/offline

# The sign-in of development, and its packages.
AUTH = examples/better-auth

# The lock files are exact for every platform, carry hashes and name no registry, so that pip's and
# uv's own settings decide where packages come from.
COMPILE = "$$uv" pip compile -q --universal --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command 'make lock' $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup run auth offline test test-slow image-test fuzz chaos chaos-quick alarms bench bench-quick bench-test bench-setup coverage lint types format
.PHONY: rehearse check lock clean lint-contract licences audit audit-setup sbom

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv hold what requirements/development.txt names
	@scripts/setup

run: setup .env ## Serve on 127.0.0.1:8000 with example data (PORT=9000 for another port)
	@exec .venv/bin/python manage.py runserver --seed 127.0.0.1:$(PORT)

.env:
	@cp .env.example .env && echo 'Copied .env.example to .env.'

auth: setup .env $(AUTH)/node_modules ## Serve a sign-in on localhost:3000, beside `make run` (needs Node.js and npm)
	@exec .venv/bin/python $(AUTH)/start.py

$(AUTH)/node_modules: $(AUTH)/package-lock.json
	@cd $(AUTH) && npm ci --no-audit --no-fund --loglevel=error && touch node_modules

offline: setup $(OFFLINE)/build ## Change tasks offline on two devices with RxDB, 10,000 times, and count what is lost (needs Node.js and npm)
	@STORM=10000 .venv/bin/pytest -n 0 -q -s -k storm $(ARGS) tests/docs/test_offline_client.py

$(OFFLINE)/build: $(OFFLINE)/package-lock.json $(OFFLINE)/tsconfig.json $(wildcard $(OFFLINE)/*.ts $(OFFLINE)/test/*.ts)
	@! command -v npm >/dev/null || { cd $(OFFLINE) && \
		npm ci --no-audit --no-fund --loglevel=error && npm run --silent build && touch build; }

test: setup ## Run the tests (ARGS="-k name" for a part of them)
	@.venv/bin/pytest $(ARGS)

test-slow: setup ## Run the tests that take long: real servers, browsers, generated clients (they ask npm's registry)
	@.venv/bin/pytest -m slow $(ARGS)

image-test: setup ## Build the container's image and run it (needs podman, debootstrap and root)
	@.venv/bin/pytest -n 0 -m '' -rs $(ARGS) tests/containers

fuzz: setup ## Send 20,000 requests that the contract allows or forbids, and 80,000 in bent bytes (CASES=1000000, SEED=1 to repeat)
	@.venv/bin/python -m tests.fuzz

chaos: setup ## Break everything it depends on, an hour, and count what is lost (ARGS="deadlock" for one scenario)
	@.venv/bin/pytest -q tests/faults
	@.venv/bin/python -m tests.faults $(ARGS)
	@$(MAKE) --no-print-directory offline ARGS=

chaos-quick: setup ## The same in about five minutes, with fewer rounds
	@.venv/bin/pytest -q tests/faults
	@.venv/bin/python -m tests.faults --quick $(ARGS)

alarms: setup ## Fire each alarm of deploy/prometheus, follow its page in docs/runbook.md, and record it there
	@RECORD=1 .venv/bin/pytest -n 0 -m '' $(ARGS) tests/alarms

rehearse: setup ## Do what docs/operations.md says on a fresh Debian, about 10 minutes (needs podman, and root)
	@.venv/bin/pytest -n 0 -p no:randomly -s $(ARGS) tests/rehearsal

bench: bench-setup setup ## Measure this project beside others and against its goals, about 50 minutes (ARGS="side_by_side" for one study)
	@.venv/bin/pytest -q benchmarks/tests
	@.venv-bench/bin/python -m benchmarks $(ARGS)

bench-quick: bench-setup setup ## The same in about five minutes, with rougher figures
	@.venv/bin/pytest -q benchmarks/tests
	@.venv-bench/bin/python -m benchmarks --quick $(ARGS)

bench-test: bench-setup setup ## Test the benchmarks (ARGS="-m ''" for the shortest run of all contenders, too)
	@.venv/bin/pytest $(ARGS) benchmarks/tests

bench-setup: $(FASTIFY)/build
	@scripts/setup --production --into .venv-production
	@scripts/setup --benchmarks --into .venv-bench

# Without npm there is no build, and the benchmark says what is missing.
$(FASTIFY)/build: $(FASTIFY)/package-lock.json $(FASTIFY)/tsconfig.json $(wildcard $(FASTIFY)/*.ts)
	@! command -v npm >/dev/null || { cd $(FASTIFY) && \
		npm ci --include=dev --no-audit --no-fund --loglevel=error && npm run --silent build && touch build; }

coverage: setup ## Run all tests, the slow ones too, and check how much of the code they reach
	@.venv/bin/pytest -m '' --cov

lint: setup ## Check style, formatting and the layers' imports
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check || { echo '`make format` mends that.'; exit 1; }
	@.venv/bin/lint-imports

lint-contract: $(CONTRACT)/node_modules ## Check docs/openapi.json by Redocly and Spectral (needs npm, and asks its registry)
	@cd $(CONTRACT) && REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true npm run --silent lint

$(CONTRACT)/node_modules: $(CONTRACT)/package-lock.json
	@cd $(CONTRACT) && npm ci --no-audit --no-fund --loglevel=error && touch node_modules

types: setup ## Check the types
	@.venv/bin/mypy

format: setup ## Mend style and formatting
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

licences: ## Check the licences of what the server installs against the list in pyproject.toml
	@scripts/setup --production --into .venv-production
	@.venv-production/bin/python -I scripts/licences.py

# Strict, because pip-audit would pass packages that its data does not have, and so all of them where another index
# answers for PyPI.
audit: licences audit-setup ## The same, and look for known vulnerabilities (asks PyPI)
	@.venv-audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/production.txt || \
		{ echo 'Not passed: the lines above name a vulnerability, or what kept pip-audit from looking for some.'; exit 1; }

sbom: audit-setup ## Write sbom.json: what the server installs here, in CycloneDX form
	@.venv-audit/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o sbom.json $(ARGS) \
		.venv-production

audit-setup:
	@scripts/setup --production --into .venv-production
	@scripts/setup --audit --into .venv-audit

check: lint types coverage ## All of lint, types and tests

record-docs: setup ## Run the console sessions of README.md and docs/, and write what they print into the pages (ARGS="README.md" for one)
	@.venv/bin/python -m tests.support.record_docs $(ARGS)

# Production is locked first and constrains development, so that tests run what the server runs.
# uv's own file reaches down to Python 3.8, because any Python 3 may be the one that installs it.
lock: ## Write the lock files from pyproject.toml (ARGS=--upgrade for newer versions)
	@set -e; uv=$$(scripts/setup --uv); \
	$(COMPILE) --python-version 3.13 -o requirements/production.txt pyproject.toml; \
	$(COMPILE) --python-version 3.13 -o requirements/development.txt pyproject.toml \
		--group dev -c requirements/production.txt; \
	$(COMPILE) --python-version 3.13 -o requirements/benchmarks.txt pyproject.toml \
		--group bench -c requirements/production.txt; \
	$(COMPILE) --python-version 3.13 -o requirements/audit.txt --group audit; \
	echo uv | $(COMPILE) --python-version 3.8 -o requirements/uv.txt -
	@$(MAKE) --no-print-directory test ARGS=tests/server/test_gunicorn_internals.py

clean: ## Remove .venv and its like, .uv and all caches, but never the database in .postgres
	@rm -rf .venv .venv-audit .venv-bench .venv-production .uv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@rm -rf .coverage .coverage.* coverage.xml htmlcov sbom.json .hypothesis
	@rm -rf examples/typescript/node_modules examples/typescript/build examples/typescript/schema.ts
	@rm -rf examples/python/todo_client $(FASTIFY)/node_modules $(FASTIFY)/build
	@rm -rf $(CONTRACT)/node_modules $(AUTH)/node_modules $(OFFLINE)/node_modules $(OFFLINE)/build
	@find . -name '.postgres*' -prune -o -name __pycache__ -prune -exec rm -rf {} +
