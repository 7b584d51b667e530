PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := $(VENV)/.peers

.DEFAULT_GOAL := help
.PHONY: help install demo pictures openapi test test-quick soak lint format bench bench-quick scaling clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Set up .venv with jobq and its tools

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "jobq needs Python 3.11 or newer: make PYTHON=python3.12 install" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[media,web,client,dev]'
	@touch $@

demo: $(STAMP) ## Run fourteen real jobs and show what became of them
	$(BIN)/python -m tools.demo

pictures: $(STAMP) ## Draw the pictures of the docs again
	$(BIN)/python -m tools.pictures

openapi: $(STAMP) ## Write docs/openapi.json, the description of the HTTP API
	$(BIN)/python -m tools.openapi

PYTEST = $(BIN)/python -m pytest --dist worksteal -n
CPUS = $(shell $(PYTHON) -c 'import os; print(os.cpu_count() or 1)')

# Two more processes than there are processors, because many tests wait for processes.
test: $(STAMP) ## Run all tests
	$(PYTEST) $$(($(CPUS) + 2))

test-quick: $(STAMP) ## Run the unit and architecture tests that are not slow (40 s on 2 cores)
	$(PYTEST) $(CPUS) -m 'not slow' tests/unit tests/architecture

SECONDS ?= 600

soak: $(STAMP) ## Kill at every step, fill to the limits, disturb at random (SECONDS=600 SEED=…)
	JOBQ_TEST_EXAMPLES=500 $(PYTEST) $(CPUS) tests/contract/test_model.py tests/contract/test_model_schedules.py
	$(BIN)/python -m tools.soak.kills
	$(BIN)/python -m tools.soak.kills --torn finish add_many cancel prune import
	$(BIN)/python -m tools.soak.limits
	$(BIN)/python -m tools.soak.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tools.soak.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) --redis
	$(BIN)/python -m tools.soak.pull_workers --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tools.soak.pull_workers --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) --redis

lint: $(STAMP) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(PEERS): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[bench]'
	@touch $@

bench: $(PEERS) ## Measure against peers and floors, and write docs/benchmarks.md (10 minutes)
	$(BIN)/python -m benchmarks --json benchmarks/results/full.json --table docs/benchmarks.md

bench-quick: $(PEERS) ## Find out in a minute if anything got slower
	$(BIN)/python -m benchmarks --quick

scaling: $(STAMP) ## Measure how costs grow, and write docs/scaling.md
	$(BIN)/python -m benchmarks.scaling

clean: ## Remove the .venv, builds and caches (not the database, not the logs)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
