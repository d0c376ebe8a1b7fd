#!/usr/bin/env bash
# The layers' and operators' tests with another torch, in an environment that is deleted afterwards:
#   make test-torch TORCH=2.10.0 [PYTHON=python3.12] [ARGS="-k lstm"]
# pip takes torch from its own index; a CUDA build is several GB, and its tests run on the CPU.
set -euo pipefail
cd "$(dirname "$0")/.."
torch=${1:?"which torch? make test-torch TORCH=2.10.0"}
shift

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check \
  "torch==$torch" numpy ninja pytest pytest-timeout
# The layers alone: nothing of this repository is installed, and the working tree is imported.
export PYTHONPATH=. TORCH_EXTENSIONS_DIR="$folder/kernels" OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=
"$folder/bin/python" -c 'import sys, torch; print("Python", sys.version.split()[0], "torch", torch.__version__)'
"$folder/bin/python" -m pytest -q -p no:cacheprovider tests/nn tests/ops "$@"
