# The commands people and CI run. `make install` first; everything lives in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
ARGS ?=
# Suites that take minutes: `make test` leaves them out, `make test-all` does not.
SLOW := tests/builds

.PHONY: install train test test-all bench lint types imports check coverage clean

install: $(STAMP)
	@echo "ready; to use it in this shell:  . $(BIN)/activate"

# An environment that is there is kept, and so is the build of PyTorch in it.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

train: $(STAMP)
	$(BIN)/python scripts/train.py $(ARGS)

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal -q $(SLOW:%=--ignore=%) $(ARGS)

test-all: test
	OMP_NUM_THREADS=1 $(BIN)/pytest -q $(SLOW)

bench: $(STAMP)
	$(BIN)/python scripts/benchmark.py $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell lnrnn scripts tests conf docs *.md

types: $(STAMP)
	$(BIN)/pyright

imports: $(STAMP)
	$(BIN)/lint-imports

check: lint types imports test

coverage: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) -q --cov --cov-report=term-missing

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
