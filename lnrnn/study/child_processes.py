"""Processes that train with the lnrnn that starts them: their variables, and how they ended."""

import os
import signal
import sysconfig
from pathlib import Path

import lnrnn

PACKAGE = Path(lnrnn.__file__).resolve().parents[1]  # the folder that this lnrnn is in


def environment_of(threads: int) -> dict[str, str]:
    """Return a worker's variables: OpenMP reads its own once, before torch is imported."""
    paths = [*filter(None, [os.environ.get("PYTHONPATH")])]
    if str(PACKAGE) not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        paths.insert(0, str(PACKAGE))  # a worker trains with the lnrnn that asks it to
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }


def ending_of(code: int) -> str:
    """Say how a process ended.

    Example:
        >>> ending_of(-9)
        'killed by SIGKILL, perhaps because memory ran out'
    """
    if code == -signal.SIGKILL:
        return "killed by SIGKILL, perhaps because memory ran out"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
