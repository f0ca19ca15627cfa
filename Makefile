# Laneway: `make help` lists the commands.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check --no-input
COMPILE := $(BIN)/uv pip compile pyproject.toml --extra platform --group app --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate

# The tests with a whole platform come first: they mostly wait, and three processes keep two cores busy meanwhile.
TESTS = tests/test_architecture.py tests/acceptance tests/docs tests/wheel tests/benchmarks tests/laneway tests/app tests/fixtures
# The bytecode is kept: the tests start hundreds of processes.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest

# Without it each build of the site begins with an announcement of MkDocs 2.
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install install-dev up down demo test test-long test-fast check fix bench bench-answers bench-chunks bench-forecast bench-history bench-pipeline bench-platform bench-quotas bench-scale bench-throughput chaos load image lock clean docs docs-serve audit sbom

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.run ## Install what the platform needs into .venv
install-dev: $(VENV)/.dev ## Install what its tests and checks need, too

up: install ## Start everything: broker, database, workers, Beat, API, Flower (Ctrl-C stops it)
	@exec $(BIN)/laneway up

down: install ## Stop what `make up` started
	@exec $(BIN)/laneway down

demo: install ## Send real work through the platform and show what became of it
	@exec $(BIN)/laneway demo

test: install-dev ## Run every test
	@$(PYTEST) -n 4 --dist loadgroup --no-loadscope-reorder $(TESTS)

test-long: install-dev ## Run every test, with many more random calls
	@LANEWAY_TEST_LONG=1 $(PYTEST) -n 2 --dist loadgroup --no-loadscope-reorder --timeout 1800 -o faulthandler_timeout=2400 $(TESTS)

test-fast: install-dev ## Run the tests that need no server
	@$(PYTEST) -n 2 -m "not server" tests/laneway tests/app

check: install-dev ## Check style, types, layers and requirements
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	@if grep -nE '://|--(extra-)?index-url|--find-links|@ *file' requirements/*.txt; then \
		echo 'requirements/ must not name addresses: make lock' >&2; exit 1; fi

fix: install-dev ## Fix formatting, and the lint errors that have an automatic fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install-dev ## Measure the library beside other task queues, in one run of some minutes (options: BENCH="--help")
	@$(BIN)/python -m benchmarks.peers $(BENCH)

bench-platform: install-dev ## Measure the platform beside FastAPI with Celery by hand and others (options: BENCH="--help")
	@$(BIN)/python -m benchmarks.peers.platform $(BENCH)

bench-throughput: install-dev ## Measure the delivery engine against stock Celery in detail (options: THROUGHPUT="--help")
	@$(BIN)/python -m benchmarks.throughput $(THROUGHPUT)

bench-answers: install-dev ## Judge search and replies by questions over the example documents (options: ANSWERS="--failures")
	@$(BIN)/python -m benchmarks.answers $(ANSWERS)

bench-chunks: install-dev ## Compare tasks one by one with the same work in chunks (options: CHUNKS="--help")
	@$(BIN)/python -m benchmarks.chunks $(CHUNKS)

bench-history: install-dev ## Measure what the history costs per task (options: HISTORY="--help")
	@$(BIN)/python -m benchmarks.history $(HISTORY)

bench-pipeline: install-dev ## Measure submissions and tasks per second on engine and platform (options: PIPELINE="--help")
	@$(BIN)/python -m benchmarks.pipeline $(PIPELINE)

bench-forecast: install-dev ## Compare forecasts of start and end with what happens (options: FORECAST="--seconds 600")
	@$(BIN)/python -m benchmarks.forecast $(FORECAST)

bench-quotas: install-dev ## Measure what a flood by one token does to another token (options: QUOTAS_BENCH="--help")
	@$(BIN)/python -m benchmarks.quotas $(QUOTAS_BENCH)

bench-scale: install-dev ## Measure how cost grows with queues, consumers, messages, rows and workers (options: SCALE="--help")
	@$(BIN)/python -m benchmarks.scale $(SCALE)

chaos: install-dev ## Kill workers and server under load, and count lost and repeated tasks (options: CHAOS="--help")
	@$(BIN)/python -m benchmarks.chaos $(CHAOS)

load: install-dev ## Put many users on the whole platform, and account for every task (options: LOAD="--help")
	@$(BIN)/python -m benchmarks.load $(LOAD)

docs: install-dev ## Build the documentation site into build/docs; a warning is an error
	@$(BIN)/python -m scripts.reference
	@$(BIN)/python -m mkdocs build --strict

docs-serve: install-dev ## Show the documentation site on http://127.0.0.1:8008, and follow changes of docs/
	@$(BIN)/python -m scripts.reference
	@$(BIN)/python -m mkdocs serve --dev-addr 127.0.0.1:8008

image: install ## Build the image, start docker-compose.yml with it, and run the main job (options: IMAGE="--stand-ins")
	@PYTHON=$(BIN)/python scripts/image/try_image $(IMAGE)

audit: install-dev ## Audit what is installed, from files only (options: AUDIT="--advisories all.zip")
	@$(BIN)/python -m scripts.supply_chain.audit $(AUDIT)

sbom: install-dev ## Write the bill of materials of what the image installs into build/sbom.json (CycloneDX)
	@$(BIN)/python -m scripts.supply_chain.sbom build/sbom.json

lock: install-dev ## Compile requirements/ from pyproject.toml
	$(COMPILE) --output-file requirements/run.txt
	$(COMPILE) --group dev --output-file requirements/dev.txt

clean: ## Delete caches and build results (.venv and data stay)
	rm -rf .pytest_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis schemathesis-report build dist .coverage
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# pip is installed last, so an environment that was interrupted while it was made is made again.
$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || \
		{ echo '$(PYTHON) was not found: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Laneway needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V): make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv module: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/pip
	@echo 'installing into $(VENV) (a minute or two, the first time)'
	@$(PIP) install --require-hashes -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@echo 'installing what tests and checks need'
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@
