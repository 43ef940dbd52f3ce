# Everything a contributor types. `make` alone lists it.

VENV := .venv
BIN := $(VENV)/bin
# 3.11 first: it is what constraints.txt was frozen with. A name may exist and not run (pyenv's shims), so each is tried.
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,\
	$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))

TASKS ?= jpeg jpeg-uint8 jpeg-q90 pixels raw tokens start accelerators resume

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench docs soak clean

help:  ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(VENV)/.installed-demo  ## Pictures in, trained and served model out; DATA=DIR uses your own pictures
	$(BIN)/dataplane demo $(if $(DATA),--data "$(DATA)")

test: $(VENV)/.installed-test  ## All tests, with coverage
	$(BIN)/python -m pytest -n auto --dist loadfile --cov=dataplane --cov=tiering --cov=loaders --cov-report=term:skip-covered --cov-fail-under=90

lint: $(VENV)/.installed-lint  ## Style, format, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-bench  ## Compare with the peers; DATA=DIR uses your own pictures, TASKS="raw start" asks for these
	@for task in $(TASKS); do \
		$(BIN)/python -m benchmarks run $$task $(if $(DATA),--data "$(DATA)") || test $$? -eq 3 || exit 1; \
	done

docs: $(VENV)/.installed-docs  ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

soak: $(VENV)/.installed-test  ## The long form of the tests that kill and wait
	DATAPLANE_SOAK=1 $(BIN)/python -m pytest -m soak --timeout=3600

clean:  ## Remove everything that these targets made
	rm -rf $(VENV) .bench .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache demo dist htmlcov site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One file an extra: a second run installs nothing until the requirements change.
$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	@touch $@

$(BIN)/python:
	$(if $(PYTHON),,$(error dataplane needs Python 3.11 or newer; none of python3.11, python3.12, python3.13 and python3 is one))
	$(PYTHON) -m venv $(VENV)
