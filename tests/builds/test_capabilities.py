"""The kernels, built as a lesser CPU would build them, and checked there. Minutes: two builds.

Torch's ATEN_CPU_CAPABILITY makes a process compute as if its CPU had no AVX-512, or no vectors at
all; `lnrnn` builds and names its library by the same word. The library goes to a folder of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from norm_cases import FEW

import lnrnn

HERE = Path(__file__).resolve().parent
ORDER = ["DEFAULT", "AVX2", "AVX512"]
OWN = torch.backends.cpu.get_cpu_capability()


@pytest.mark.timeout(900)  # two compilers at work on two busy cores
@pytest.mark.parametrize("capability", ["AVX2", "DEFAULT"])
def test_the_kernels_are_right_for_lesser_cpus(capability: str, extensions: Path) -> None:
    if OWN not in ORDER or ORDER.index(capability) > ORDER.index(OWN):
        pytest.skip(f"a CPU of {OWN} cannot run what is built for {capability}")
    package = Path(lnrnn.__file__).parents[1]
    environment = {
        **os.environ,
        "ATEN_CPU_CAPABILITY": capability.lower(),
        "TORCH_EXTENSIONS_DIR": str(extensions),
        "PYTHONPATH": os.pathsep.join([str(package), str(HERE.parent / "support")]),
    }
    answer = subprocess.run(
        [sys.executable, str(HERE / "accuracy.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == f"{capability}: {8 * len(FEW)} comparisons\n"
    built = list(extensions.glob(f"lnrnn_{capability.lower()}_*/*.so"))
    assert len(built) == 1
    assert answer.stderr.count(f"building the CPU kernels for {capability}") == 1
