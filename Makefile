# Two commands on a fresh machine: `make demo` and `make test`. Everything goes into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS := workflow/envs/constraints.txt
SNAKEMAKE := PATH="$(abspath $(BIN)):$$PATH" $(BIN)/snakemake --profile profiles/default
PIP := $(BIN)/python -m pip --disable-pip-version-check
JOBS ?= 2

.PHONY: help demo haxby study test test-slow lint format schema bench clip clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Python 3.11 or newer is needed, this is {v.major}.{v.minor}; name one with make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c $(CONSTRAINTS) -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet -c $(CONSTRAINTS) -e '.[test,lint]'
	touch $@

demo: $(VENV)/.installed  ## Simulate two subjects and run the whole workflow on them
	$(SNAKEMAKE) --configfile config/demo.yaml
	@echo "The report: $(abspath results/demo/report/report.html)"

haxby: $(VENV)/.installed  ## Run the workflow on one subject of Haxby et al. (2001)
	$(SNAKEMAKE) --configfile config/haxby.yaml
	@echo "The report: $(abspath results/haxby/report/report.html)"

study: $(VENV)/.installed  ## Run the workflow on your data: make study CONFIG=config/my-study.yaml
	@test -n "$(CONFIG)" || { echo "Name a config: make study CONFIG=config/my-study.yaml"; exit 2; }
	$(SNAKEMAKE) --configfile $(CONFIG)

test: lint  ## Lint, layers and all tests but the slow ones
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test-slow: $(VENV)/.installed-dev  ## The slow tests
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed-dev  ## Style, layers, and the workflow's own lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(SNAKEMAKE) --configfile config/demo.yaml --lint

format: $(VENV)/.installed-dev  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow/rules

schema: $(VENV)/.installed  ## Write the schema and the option tables from the typed config
	$(BIN)/braindecode-clip config schema --out workflow/schemas/config.schema.json
	$(BIN)/braindecode-clip config options --out config/README.md
	$(BIN)/braindecode-clip encoders --docs config/encoders.md

bench: $(VENV)/.installed  ## Measure speed and memory against other packages, side by side
	$(PIP) install --quiet -c $(CONSTRAINTS) -e '.[bench]'
	export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1; \
	for script in benchmarks/*.py; do $(BIN)/python $$script; done

clip: $(VENV)/.installed  ## Train the scenes CLIP again, from scratch
	$(SNAKEMAKE) --configfile config/demo.yaml clip

clean:  ## Delete the results, logs and caches, never the environment
	rm -rf results logs .snakemake .pytest_cache .ruff_cache .import_linter_cache
