"""What a run's speed and last bits depend on beside its configuration."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("lnrnn", "torch", "lightning", "torchmetrics", "hydra-core", "datasets", "numpy")


def describe_machine(device: str) -> dict[str, Any]:
    """Return what a run is computed on.

    Args:
        device: The kind of device that trains, such as ``cpu``.
    """
    import torch  # here: whoever reads records needs no torch

    return {
        "device": device,
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def cpu_name() -> str:
    """Return the CPU's name, as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def installed_versions() -> dict[str, str]:
    """Return the versions of the packages that decide a run's numbers."""
    return {name: _version_of(name) for name in PACKAGES}


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # a copied folder has no metadata
        return "unknown"


def current_commit() -> str | None:
    """Return the source's git commit, with ``+`` where files differ from it; None outside git.

    An installed package may be in somebody's repository, whose commit says nothing about it.
    """
    source = Path(__file__).resolve().parents[2]
    if not (source / ".git").exists():
        return None
    command = ["git", "-C", str(source), "describe", "--always", "--abbrev=12", "--dirty=+"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except FileNotFoundError:  # no git on this machine
        return None
    return answer.stdout.strip() or None
