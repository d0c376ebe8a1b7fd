# The commands people and CI run. `make install` first; everything lives in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
ARGS ?=
# Suites that take minutes: `make test` leaves them out, `make test-all` does not.
SLOW := tests/builds

# Triton comes with a CUDA build of torch. A CPU build lacks it, and what is not in .venv itself
# changes nothing for those who do not ask for it: torch.compile would take it for a GPU's.
TRITON := $(VENV)/triton
WITH_TRITON := PYTHONPATH=$(TRITON) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q

.PHONY: install train test test-all test-interp test-aot test-gpu aot-table roofline bench docs lint types \
  imports check coverage clean

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

# Processes of their own: Triton is an interpreter or a compiler from its first import on.
test-interp: $(TRITON)/.installed
	$(WITH_TRITON) -n $(WORKERS) --dist worksteal tests/interp $(ARGS)

test-aot: $(TRITON)/.installed
	$(WITH_TRITON) -n $(WORKERS) --dist worksteal tests/aot $(ARGS)

# On a machine with a GPU. The table at the end can be pasted into an issue.
test-gpu: $(STAMP)
	$(BIN)/pytest -q tests/gpu $(ARGS)
	$(BIN)/python scripts/benchmark_cuda.py

aot-table: $(TRITON)/.installed
	@PYTHONPATH=$(TRITON):tests $(BIN)/python -m aot.table

roofline: $(STAMP)
	@$(BIN)/python scripts/roofline.py

$(TRITON)/.installed: $(STAMP)
	@$(BIN)/python -c 'import triton' 2>/dev/null || $(BIN)/pip install --quiet \
	  --disable-pip-version-check --no-deps --upgrade -c constraints.txt --target $(TRITON) triton
	@mkdir -p $(TRITON) && touch $@

bench: $(STAMP)
	$(BIN)/python scripts/benchmark.py $(ARGS)

# The site, into site/. The variable silences a notice of the theme's authors.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

$(VENV)/.docs: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

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
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache
