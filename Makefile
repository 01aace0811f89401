# The commands of HYPED's repository. `make help` lists them.
PYTHON ?= python3.11
VENV ?= .venv
DATASET ?= mini
BIN := $(VENV)/bin
STAMP := $(VENV)/.hyped-setup
PACKAGES := core imaging seq bench
PYTEST_WORKERS ?= 2
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: help setup btrack repro repro-check test test-all bench dist lint docs release-check clean-venv lock gears-oracle parity-oracle

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv with everything pinned, and the four packages in editable mode

$(STAMP): constraints.txt requirements-dev.txt $(PACKAGES:%=packages/hyped-%/pyproject.toml) scripts/system-packages.sh
	@PYTHON=$(PYTHON) sh scripts/system-packages.sh
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation \
		-e 'packages/hyped-core[container,fetch]' -e 'packages/hyped-imaging[aics,btrack,laptrack,torch]' \
		-e 'packages/hyped-seq[torch]' -e packages/hyped-bench
	@$(BIN)/python -m hyped_imaging.track.build_btrack || echo "going on without btrack (hyped doctor says more)" >&2
	@touch $@

btrack: $(STAMP)  ## build btrack's library again where its wheel does not load
	$(BIN)/python -m hyped_imaging.track.build_btrack

lock: $(STAMP)
	@$(BIN)/hyped plugins lock

repro: $(STAMP)  ## raw data to report: make repro [DATASET=mini|public HYPED_PUBLIC_DATA=folder]
	@DATASET=$(DATASET) sh scripts/repro.sh

repro-check: $(STAMP)  ## hold the numbers of make repro against the committed ones, within each metric's tolerance
	@DATASET=$(DATASET) sh scripts/repro_check.sh

test: $(STAMP)  ## the tests of the packages and of tests/
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal -m "not slow" $(PYTEST_ARGS)

test-all: $(STAMP)  ## all tests: the slow ones too, the exhaustive and those of the report in a browser among them
	@PYTHON=$(PYTHON) sh scripts/system-packages.sh chromium
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal $(PYTEST_ARGS)

bench: $(STAMP)  ## the performance suite
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-autosave -o python_files='bench_*.py' $(PYTEST_ARGS)

gears-oracle:  ## cell-gears 0.1.2 in .gears-oracle, an environment of its own, to compare with (make bench uses it)
	@$(PYTHON) -m venv .gears-oracle
	.gears-oracle/bin/python -m pip install --quiet --disable-pip-version-check -r scripts/gears_oracle/requirements.txt

parity-oracle:  ## cell-eval 0.8.2 and scPertEval 0.2.0 in .parity-oracle: scores to compare with
	@$(PYTHON) -m venv .parity-oracle
	.parity-oracle/bin/python -m pip install --quiet --disable-pip-version-check -r scripts/parity/requirements.txt

dist: $(STAMP)  ## four wheels in dist/
	@rm -rf dist
	@for p in $(PACKAGES); do $(BIN)/python -m build --wheel --no-isolation --outdir dist packages/hyped-$$p >/dev/null || exit 1; done
	@ls dist

lint: $(STAMP)  ## style and import rules
	$(BIN)/ruff check .
	$(BIN)/lint-imports

docs: $(VENV)/.hyped-docs  ## the documentation, docs/_build/html/index.html; a warning is an error
	@rm -rf docs/_build
	@$(BIN)/python -m sphinx -q -W --keep-going -b html -d docs/_build/doctrees docs docs/_build/html
	@echo docs/_build/html/index.html

$(VENV)/.hyped-docs: $(STAMP) docs/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r docs/requirements.txt
	@touch $@

release-check: $(STAMP)  ## versions, change notes, ranges, wheels that install; [PACKAGE=hyped-core]: ready to be released?
	$(BIN)/python scripts/release_check.py $(PACKAGE)
