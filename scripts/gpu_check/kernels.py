"""Which kernels a run launches, how often, and how long they take."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from gpu_check.sizes import REHEARSED, synchronize

DEVICE_TYPE = DeviceType.CPU if REHEARSED else DeviceType.CUDA


class Kernel(NamedTuple):
    """All launches of one kernel (to rehearse on a CPU, of one operator of torch)."""

    name: str
    launches: int
    milliseconds: float


def kernels_of(run: Callable[[], object]) -> list[Kernel]:
    """Return what a run launches, the longest first."""
    activities = [ProfilerActivity.CPU] if REHEARSED else [ProfilerActivity.CUDA]
    with profile(activities=activities) as found:
        run()
        synchronize()
    rows = [
        Kernel(event.key, event.count, _microseconds(event) / 1e3)
        for event in found.key_averages()
        if _microseconds(event) > 0 and event.device_type == DEVICE_TYPE
    ]
    return sorted(rows, key=lambda row: -row.milliseconds)


def _microseconds(event: Any) -> float:
    return event.self_cpu_time_total if REHEARSED else event.self_device_time_total
