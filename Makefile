# Nothing but Python >= 3.11 and make is needed: every target first builds .venv if it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: train quickstart test test-slow coverage lint wheel docs docs-serve gallery tensorboard clean help

help:
	@echo "make quickstart   train for some minutes, then evaluate: the first thing to run"
	@echo "make train        the production run (+exp=production)"
	@echo "make test         the test suite        make test-slow   the long learning checks"
	@echo "make coverage     the suite, and what it did not run"
	@echo "make lint         ruff, mypy and the import contracts"
	@echo "make wheel        the wheel, into dist/, and whether it works once it is installed"
	@echo "make docs         the site, into site/  make docs-serve  the site while you write it"
	@echo "make gallery      run the scripts of the site's gallery and renew their pictures"
	@echo "make tensorboard  watch the runs        make clean       remove .venv, site and caches"

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Python 3.11 or newer is needed, this one is %d.%d: make PYTHON=python3.12 ..." % v[:2])'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	@touch $@

train: $(VENV)/.installed
	$(BIN)/python -m experiments.train +exp=production $(ARGS)

quickstart: $(VENV)/.installed
	$(BIN)/python -m experiments.train +exp=quickstart $(ARGS)
	$(BIN)/python -m experiments.evaluate run="$$(ls -td outputs/quickstart/*/* | head -n 1)"

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow $(ARGS)

coverage: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Built, and used in an environment of its own.
wheel: $(VENV)/.made
	rm -rf dist build
	$(BIN)/python -m pip wheel -q --no-deps --wheel-dir dist .
	PYTHON=$(PYTHON) .ci/use_wheel

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build $(ARGS)

docs-serve: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve $(ARGS)

gallery: $(VENV)/.installed
	$(BIN)/python docs/gallery/render.py $(ARGS)

tensorboard: $(VENV)/.installed
	$(BIN)/tensorboard --logdir outputs

clean:
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache build dist *.egg-info
