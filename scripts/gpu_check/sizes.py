"""What is measured, and how: full sizes on a GPU, tiny ones to rehearse on a CPU."""

import os
import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch
from benchmark_cuda import measure

REHEARSED = os.environ.get("GPU_CPU", "") not in ("", "0")  # gpu_check.sh --cpu sets it
DEVICE = "cpu" if REHEARSED else "cuda"
# What a layer has to be asked for, so that no reference is measured by mistake.
FUSED = None if REHEARSED else True


class Sizes(NamedTuple):
    """T, B, and the H of each measurement."""

    steps: int
    batch: int
    cudnn: tuple[int, ...]
    profiled: tuple[int, ...]
    repeats: int


FULL = Sizes(512, 64, (256, 512, 1024), (128, 512, 1024), 5)
TINY = Sizes(4, 2, (8,), (8,), 1)
SIZES = TINY if REHEARSED else FULL


def median_milliseconds(run: Callable[[], object], repeats: int = SIZES.repeats) -> float:
    """Return the median time of some runs, after two for nothing."""
    times = [measure(run, DEVICE) for _ in range(repeats + 2)]
    return statistics.median(times[2:])


def synchronize() -> None:
    """Wait for the device, if there is one to wait for."""
    if not REHEARSED:
        torch.cuda.synchronize()
