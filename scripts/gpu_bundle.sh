#!/usr/bin/env bash
# Put what a GPU machine without internet may lack into .gpu-wheels, for scripts/gpu_check.sh there:
#     PYTHON_VERSION=3.12 scripts/gpu_bundle.sh [more packages]
# PYTHON_VERSION and ARCH (x86_64 or aarch64) are the target's. It has a CUDA build of torch, Triton,
# numpy and Lightning itself; whoever lacks Lightning names it, and what it needs.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${PYTHON_VERSION:-3.12} arch=${ARCH:-x86_64}
pip=("${PYTHON:-python3}" -m pip --disable-pip-version-check)
packages=(hydra-core omegaconf datasets dill multiprocess
  pytest pluggy iniconfig pytest-timeout pytest-xdist execnet "$@")
platforms=()
for glibc in 2_34 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${glibc}_$arch"); done

rm -rf .gpu-wheels
mkdir .gpu-wheels
"${pip[@]}" download --quiet --no-deps --only-binary=:all: --implementation cp \
  --python-version "$version" "${platforms[@]}" -c constraints.txt -d .gpu-wheels "${packages[@]}"
# Published as a source archive alone; it is pure Python, so a wheel built here fits there.
"${pip[@]}" wheel --quiet --no-deps -c constraints.txt -w .gpu-wheels antlr4-python3-runtime
count=$(find .gpu-wheels -name '*.whl' | wc -l)
[ "$count" -eq $((${#packages[@]} + 1)) ] || { echo "$count wheels are too few" >&2; exit 1; }
echo "ready for Python $version on $arch: carry .gpu-wheels ($(du -sh .gpu-wheels | cut -f1)) along"
