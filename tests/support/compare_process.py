"""A comparison in a process of its own, so that it can be interrupted, or run beside another."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def begin(
    place: Path, *words: str, program: tuple[str, ...] = ("-m", "lnrnn"), **options: Any
) -> subprocess.Popen[str]:
    """Start ``lnrnn compare`` in the folder ``place``, which is made if it is not there."""
    place.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, *program, "compare", *words],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
