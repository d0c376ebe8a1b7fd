"""AMX's instructions on CPUs without AMX: builds `amx_emulator.cpp`, where it can be of use."""

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent
FLAGS = ("-O2", "-march=native", "-std=c++20", "-pthread")  # native: std::fma is one instruction


def _why_not() -> str | None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the instructions are x86's, and the signal's details Linux's"
    if shutil.which("g++") is None:
        return "there is no g++"
    probe = ["g++", "-x", "c++", "-fsyntax-only", "-"]
    if subprocess.run(probe, input=b"#include <amxbf16intrin.h>", capture_output=True).returncode:
        return "g++ is too old to know AMX"
    if "amx_tile" in Path("/proc/cpuinfo").read_text():
        return "the CPU has AMX and raises no signal: test_tiles runs its instructions"
    return None


_WHY_NOT = _why_not()
needs_emulator = pytest.mark.skipif(_WHY_NOT is not None, reason=str(_WHY_NOT))


def build(target: Path, *words: str) -> Path:
    """Compile the emulator and what else ``words`` name into ``target``."""
    command = ["g++", *FLAGS, str(SUPPORT / "amx_emulator.cpp"), *words, "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target
