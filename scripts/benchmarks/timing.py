"""Timing candidates side by side."""

import time
from collections.abc import Callable
from functools import partial

from benchmarks.workloads import Workload
from lnrnn.study.turns import interleave as in_turns


def interleave(
    workload: Workload, repeats: int, scale: float = 1e3
) -> dict[str, list[float | None]]:
    """Time every candidate once a round.

    Args:
        workload: The candidates. Those that are rare run in one round of three.
        repeats: Rounds that count; one before them does not, and rare candidates sit it out.
        scale: What a second is multiplied with.

    Returns:
        Each candidate's times, one a round, None where it sat the round out.
    """
    measures = {name: partial(_time, run, scale) for name, run in workload.runs.items()}
    return in_turns(
        measures, repeats, sits_out=lambda name, number: name in workload.rare and number % 3 != 0
    )


def _time(run: Callable[[], object], scale: float) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * scale
