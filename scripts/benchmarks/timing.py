"""Timing candidates side by side, so that what disturbs the machine disturbs all alike."""

import time

from benchmarks.workloads import Workload


def interleave(
    workload: Workload, repeats: int, scale: float = 1e3
) -> dict[str, list[float | None]]:
    """Time every candidate once a round, in turns forwards and backwards.

    Args:
        workload: The candidates. Those that are rare run in one round of three.
        repeats: Rounds that count; one before them does not, and rare candidates sit it out.
        scale: What a second is multiplied with.

    Returns:
        Each candidate's times, one a round, None where it sat the round out.
    """
    times: dict[str, list[float | None]] = {name: [] for name in workload.runs}
    for round_ in range(-1, repeats):
        names = list(workload.runs)
        for name in reversed(names) if round_ % 2 else names:
            if name in workload.rare and round_ % 3:
                times[name].append(None)
                continue
            run = workload.runs[name]
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * scale)
    return {name: values[1:] for name, values in times.items()}
