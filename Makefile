# Everything is driven from here; `make` alone lists the targets.

VENV ?= .venv
# An interpreter of CPython 3.11 or 3.12; empty: the first on the PATH.
PYTHON ?=
# `make demo FORCE=1` and `make context FORCE=1` start over.
FORCE :=
# `make demo FULL=1` trains by the recipes' own schedules.
FULL :=

BIN := $(VENV)/bin
SOURCES := weightformer_mm weightformer_mm_cli projects tools configs tests setup.py
# This checkout comes first, also for the commands that tests start: VENV may serve several.
RUN := PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}"
# Compiled modules are kept, whatever the shell says: a process that compiles torch and mmdet takes 20 s to start.
RUN += PYTHONDONTWRITEBYTECODE=

.PHONY: help setup demo weights context test lint docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile
	@echo '  Variables: VENV=.venv  PYTHON=python3.11  FORCE=1 (demo, context: start over)  FULL=1 (demo: the long schedule)'

setup:  ## make the environment in VENV from the lock files (nothing to do: under 3 s)
	@sh tools/setup/setup.sh "$(PYTHON)" "$(VENV)"

demo: setup  ## draw what shipped weights see, train and evaluate both tasks on generated pictures, write a page
	@$(RUN) "$(BIN)/python" tools/demo.py $(if $(filter 1,$(FORCE)),--force) $(if $(filter 1,$(FULL)),--full)

weights: setup  ## train what ships with the package (as FULL=1), and put it beside its recipes
	@$(RUN) "$(BIN)/python" tools/demo.py --ship

context: setup  ## train one network with every prediction strategy where context is needed, tabulate (under 1 h on two cores)
	@$(RUN) "$(BIN)/python" tools/context.py $(if $(filter 1,$(FORCE)),--force)

test: setup  ## run the tests, and list the slowest
	@$(RUN) OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -n 2 --dist worksteal --durations 15

lint: setup  ## check style, formatting, types and spelling
	@"$(BIN)/ruff" check $(SOURCES)
	@"$(BIN)/ruff" format --check $(SOURCES)
	@"$(BIN)/codespell" $(SOURCES) docs .github *.md *.toml *.cff Makefile
	@"$(BIN)/mypy"

# an environment of its own, so that `make setup` installs none of this
.venv-docs/complete: requirements/docs.txt
	@$(or $(PYTHON),python3) -m venv --clear .venv-docs
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

docs: .venv-docs/complete  ## build the documentation site into site/, and check its links
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

clean:  ## remove caches and build products; keeps VENV, .venv-docs, data/ and work_dirs/
	@find weightformer_mm weightformer_mm_cli projects tools configs tests -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -rf .pytest_cache .ruff_cache .mypy_cache build dist site *.egg-info
