#!/usr/bin/env bash
# One pass over everything that waits for a GPU, in at most 8 minutes:
#     scripts/gpu_check.sh                  logs and report.md go to gpu-check/, or --out FOLDER
#     scripts/gpu_check.sh --cpu            rehearses it without a GPU, at tiny sizes (or GPU_CPU=1)
#     scripts/gpu_check.sh --only speed cudnn
# It needs no internet and no installation: Python with a CUDA build of torch, and what `make
# gpu-bundle` has put into .gpu-wheels, if that was carried along. PYTHON says which Python.
set -euo pipefail
cd "$(dirname "$0")/.."
for word in "$@"; do [ "$word" = --cpu ] && GPU_CPU=1; done
export GPU_CPU=${GPU_CPU:-}
python=${PYTHON:-python3}
[ -n "${PYTHON:-}" ] || [ ! -x .venv/bin/python ] || python=.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

wheels=${GPU_WHEELS:-.gpu-wheels}
if compgen -G "$wheels/*.whl" >/dev/null; then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
    --disable-pip-version-check --target "$work/site" "$wheels"/*.whl || {
    echo "error: the wheels in $wheels are not for $("$python" --version): make gpu-bundle with its" \
      "PYTHON_VERSION, or remove them" >&2
    exit 2
  }
fi
export PYTHONPATH="$PWD:$PWD/scripts:$PWD/tests:$PWD/tests/support:$work/site${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
# One cache, so that what one part compiles the next one finds.
export TRITON_CACHE_DIR=${TRITON_CACHE_DIR:-$work/triton}

# The last --out given, or $OUT, or gpu-check.
out=${OUT:-gpu-check}
previous=
for word in "$@"; do
  [ "$previous" = --out ] && out=$word
  previous=$word
done
mkdir -p "$out"
"$python" -m gpu_check.needs ${GPU_CPU:+--cpu} | tee "$out/needs.txt"
"$python" -m gpu_check --out "$out" "$@"
