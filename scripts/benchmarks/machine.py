"""What a measurement depends on beside the code: CPU, versions, and how memory is allocated."""

import os
import platform
import sys
from typing import Any

import torch

import lnrnn
from lnrnn.runs.machine import cpu_name, current_commit

GIB = 1 << 30
# glibc gives large blocks back to the system when they are freed and takes new ones at the next
# call, whose every page the system must clear. With these it keeps what it has.
KEEP = {
    "MALLOC_MMAP_THRESHOLD_": str(16 * GIB),
    "MALLOC_TRIM_THRESHOLD_": str(16 * GIB),
    "MALLOC_TOP_PAD_": str(GIB // 4),
}


def use_heap(heap: str) -> None:
    """Start this process again with the wanted heap, unless it has it.

    Raises:
        SystemExit: If the heap cannot be kept on this system.
    """
    if heap == current_heap():
        return
    if heap == "keep" and platform.libc_ver()[0] != "glibc":
        sys.exit("--heap keep sets glibc's malloc, and this system has another one: leave it out")
    environment = {name: value for name, value in os.environ.items() if name not in KEEP}
    if heap == "keep":
        environment |= KEEP
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def current_heap() -> str:
    """Return "keep" if this process was started with a heap that keeps its memory, else "stock"."""
    return "keep" if all(os.environ.get(name) == value for name, value in KEEP.items()) else "stock"


def describe_machine() -> dict[str, Any]:
    """Return what goes into every line."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
        "heap": current_heap(),
        "precision": torch.get_float32_matmul_precision(),
        "amx_tiles": os.environ.get("LNRNN_AMX_TILES", "0"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "lnrnn": lnrnn.__version__,
        "commit": current_commit() or "unknown",
    }
