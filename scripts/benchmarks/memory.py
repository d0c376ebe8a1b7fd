"""Peak memory of training, each candidate in a process of its own.

Measured is how far the process's resident memory rises, at its highest, during two training
steps, above where it stood before them with weights and input in place: what is kept for the
backward, all gradients, and every buffer in between. Linux keeps that peak (VmHWM) and sets it back
on request, which ``ru_maxrss`` does not offer: that one remembers imports, and even the parent.
"""

import ctypes
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from benchmarks.workloads import OURS, TORCH, training_step

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
STEPS = 2


def peak_memory(
    cell: str, shape: tuple[int, ...], threads: int, repeats: int
) -> dict[str, list[float | None]]:
    """Return each candidate's peaks in MiB, one a process."""
    context = multiprocessing.get_context("spawn")
    peaks: dict[str, list[float | None]] = {OURS: [], TORCH: []}
    for _ in range(repeats):
        for name, found in peaks.items():
            with ProcessPoolExecutor(1, mp_context=context) as fresh:
                found.append(fresh.submit(_measure, cell, name, shape, threads).result())
    return peaks


def why_not() -> str | None:
    """Return why memory cannot be measured on this system, if so."""
    return None if RESET.exists() else "peak memory is read from Linux's /proc/self"


def _measure(cell: str, name: str, shape: tuple[int, ...], threads: int) -> float:
    """Return one candidate's peak, of this process, in MiB."""
    torch.set_num_threads(threads)
    step, short = training_step(cell, name, shape)
    short()  # what is made once a process: compiled kernels, threads
    ctypes.CDLL(None).malloc_trim(0)
    RESET.write_text("5")  # the peak is now what is resident
    before = _status("VmRSS")
    for _ in range(STEPS):
        step()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    """Return an entry of the process's status, in KiB."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise RuntimeError(f"{STATUS} has no {name}")
