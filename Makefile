# The commands people and CI run. `make install` first; everything lives in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HERE = $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
PYTHON_VERSION ?= 3.12
STAMP := $(VENV)/.installed
WORKERS ?= 2
ARGS ?=
# Suites that take minutes, to prove rather than to develop: `make test` leaves them out.
SLOW := tests/faults tests/scale tests/scripts tests/comparison/test_browser.py \
  tests/cli/test_scripts.py tests/export/test_onnx_variants.py tests/nn/test_compile.py \
  tests/training/test_loss_curves.py tests/inference/test_compiled_files.py \
  tests/ops/test_tiles_emulated.py
BUILDS := tests/builds

# Triton comes with a CUDA build of torch. A CPU build lacks it, and what is not in .venv itself
# changes nothing for those who do not ask for it: torch.compile would take it for a GPU's.
TRITON := $(VENV)/triton
RAY := $(VENV)/ray
WITH_TRITON := PYTHONPATH=$(TRITON) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q

.PHONY: install train test test-all test-interp test-aot test-ray test-gpu gpu-check gpu-bundle test-torch \
  fuzz results test-originals wheel dockerfile-check aot-table roofline bench docs lint types imports check \
  coverage clean

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
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal -q \
	  $(SLOW:%=--ignore=%) $(BUILDS:%=--ignore=%) $(ARGS)

test-all: test
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal -q $(SLOW)
	OMP_NUM_THREADS=1 $(BIN)/pytest -q $(BUILDS)

# Processes of their own: Triton is an interpreter or a compiler from its first import on.
test-interp: $(TRITON)/.installed
	$(WITH_TRITON) -n $(WORKERS) --dist worksteal tests/interp $(ARGS)

test-aot: $(TRITON)/.installed
	$(WITH_TRITON) -n $(WORKERS) --dist worksteal tests/aot $(ARGS)

# A Ray of two nodes. It is a download of 79 MB and 240 MB on disk, which no other test needs, so it
# lies beside .venv; what else it imports is there. It takes minutes on a busy machine, so .ci/run
# leaves it out: run it where the launchers change.
test-ray: $(RAY)/.installed
	PYTHONPATH=$(CURDIR)/$(RAY) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/on_ray $(ARGS)

# On a machine with a GPU, which needs no internet: with the Python in .venv, or else the one that is
# there, if it has a CUDA build of torch, Triton and pytest. The table can be pasted into an issue.
test-gpu:
	PYTHONPATH=scripts:.:$$PYTHONPATH $(HERE) -m gpu_check.needs
	$(HERE) -m pytest -c tests/gpu.ini -q tests/gpu $(ARGS)
	PYTHONPATH=scripts:.:$$PYTHONPATH $(HERE) scripts/benchmark_cuda.py

# All of it and more within 8 minutes, with one report at the end.
gpu-check:
	PYTHON=$(HERE) scripts/gpu_check.sh $(ARGS)

# What such a machine may lack, into .gpu-wheels, to be carried along: `make gpu-bundle
# PYTHON_VERSION=3.12`, of the Python there. EXTRA names more packages.
gpu-bundle:
	PYTHON=$(HERE) PYTHON_VERSION=$(PYTHON_VERSION) scripts/gpu_bundle.sh $(EXTRA)

# Random runs interrupted at random moments, each compared with its undisturbed twin. A case that
# differs is printed with its number: `make fuzz CASE=1000017` plays it again.
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 PYTHONPATH=tests:tests/support $(BIN)/python -m faults.fuzz \
	  $(if $(MINUTES),--minutes=$(MINUTES)) $(if $(SEED),--seed=$(SEED)) $(if $(CASE),--case=$(CASE))

# The runs and tables of an experiment in experiments/: `make results NAME=lstm_norms`. It resumes.
# One comparison of it: make results NAME="sizes --only '1 layer'".
results: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python scripts/results.py $(NAME)

# With another torch, which pip takes from its index into an environment that is deleted afterwards:
# `make test-torch TORCH=2.10.0`. PYTHON and ARGS may be given too.
test-torch:
	PYTHON=$(PYTHON) scripts/test_torch.sh "$(TORCH)" $(ARGS)

# Layers from other libraries' parameters against the libraries themselves, which pip installs into
# environments that are deleted afterwards: with Python 3.11, 8 GB, 10 minutes.
test-originals: $(STAMP)
	$(BIN)/python scripts/check_originals.py

# A wheel that carries the CPU kernels compiled against the torch in .venv; into dist/.
wheel: $(STAMP)
	@$(BIN)/python scripts/build_wheel.py

# As root, with debootstrap.
dockerfile-check: $(STAMP)
	$(BIN)/python scripts/dockerfile_check.py

aot-table: $(TRITON)/.installed
	@PYTHONPATH=$(TRITON):tests:tests/support $(BIN)/python -m aot.table

roofline: $(STAMP)
	@$(BIN)/python scripts/roofline.py

$(TRITON)/.installed: $(STAMP)
	@$(BIN)/python -c 'import triton' 2>/dev/null || $(BIN)/pip install --quiet \
	  --disable-pip-version-check --no-deps --upgrade -c constraints.txt --target $(TRITON) triton
	@mkdir -p $(TRITON) && touch $@

$(RAY)/.installed: $(STAMP)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade -c constraints.txt \
	  --target $(RAY) ray msgpack
	@touch $@

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
