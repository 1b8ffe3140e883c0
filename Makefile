# `make demo` and `make test` are all a new user needs. Everything is installed into .venv, nothing outside it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ALL := $(VENV)/.installed-all
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: help demo test check format bench clean doctor

help:
	@echo "make demo    install, search on the digits, export the best network, test the exported files"
	@echo "make test    the whole test suite"
	@echo "make check   format, lint, types, import direction"
	@echo "make bench   the measurements of docs/benchmarks.md that take minutes"

$(STAMP): pyproject.toml constraints.txt scripts/preflight.sh
	@sh scripts/preflight.sh $(PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "nasflow: installing into $(VENV); the first time this takes a few minutes"
	$(INSTALL) '.[dev]'
	@touch $@

# The demo does without these: they have no build for every machine.
$(ALL): $(STAMP)
	$(INSTALL) '.[cluster,dev,hub]'
	@touch $@

demo: $(STAMP)
	sh scripts/demo.sh $(BIN)

test: $(ALL)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

check: $(ALL)
	$(BIN)/ruff format --check nasflow_cli tests scripts
	$(BIN)/ruff check nasflow_cli tests scripts
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(ALL)
	$(BIN)/ruff format nasflow_cli tests scripts
	$(BIN)/ruff check --fix nasflow_cli tests scripts

bench: $(ALL)
	$(BIN)/python scripts/bench_startup.py
	$(BIN)/python scripts/bench_digits.py

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
