"""What a measurement depends on beside the code: CPU, versions, and how memory is allocated."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import lnrnn

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
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
        "heap": current_heap(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "lnrnn": lnrnn.__version__,
        "commit": _commit(),
    }


def _commit() -> str:
    """Return the source's git commit, with ``+`` where files differ from it."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty=+"]
    try:
        answer = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:  # no git on this machine
        return "unknown"
    return answer.stdout.strip() or "unknown"


def _cpu_name() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for text in listing.read_text().splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    return platform.processor() or platform.machine()
