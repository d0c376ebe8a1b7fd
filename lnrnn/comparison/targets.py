"""How many steps an arm takes to a result that the baseline reaches as well.

Targets come from the baseline alone, before any other arm is looked at: they are 50, 75, 90 and
100 % of the improvement from the first to the best value of the median validation curve of its
finished runs. A run reaches a target at the first validation that is at least as good; a run that
never does is kept, and counts as slower than any other.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lnrnn.comparison.records import Run
from lnrnn.comparison.statistics import median_curve

SHARES = (0.5, 0.75, 0.9, 1.0)
HEADLINE = 0.9  # the target that verdicts speak of; fixed before any run


def steps_to_target(
    arms: Mapping[str, Sequence[Run]], seconds_per_step: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Return, for each target, the step at which each run of each arm first reaches it.

    Args:
        arms: Every arm's readable runs; the first arm is the baseline.
        seconds_per_step: What a step of each arm takes, where that was measured.

    Returns:
        One entry per target, the easiest first: its value, its share of the baseline's improvement,
        and per arm how many runs reach it, the median step (None if half of them do not), that in
        seconds, and each run's step (None if it does not). Empty if the baseline's median curve
        never improves.
    """
    times = seconds_per_step or {}
    return [
        {
            "target": target,
            "share": share,
            "arms": [_reach(name, runs, target, times.get(name)) for name, runs in arms.items()],
        }
        for share, target in zip(SHARES, _targets(next(iter(arms.values()))), strict=False)
    ]


def _targets(baseline: Sequence[Run]) -> list[float]:
    """Return the values on the way from the first to the best of the median curve."""
    finished = [run for run in baseline if run.validation_curve]
    if not finished:
        return []
    _, quartiles = median_curve([run.validation_curve for run in finished])
    median = quartiles[1]
    if not len(median):
        return []
    start = float(median[0])
    best = float(median.max() if finished[0].higher_is_better else median.min())
    # start + 1.0 * (best - start) may miss best by a rounding, and then no run would reach it.
    way = [best if share == 1 else start + share * (best - start) for share in SHARES]
    return way if best != start else []


def _reach(
    name: str, runs: Sequence[Run], target: float, seconds_per_step: float | None
) -> dict[str, Any]:
    steps = [first_step(run, target) for run in runs]
    # A run that never arrives counts as infinitely slow, which a median can bear and a mean cannot.
    median = float(np.median([math.inf if step is None else step for step in steps] or [math.inf]))
    arrives = math.isfinite(median)
    return {
        "name": name,
        "reached": sum(step is not None for step in steps),
        "median": median if arrives else None,
        "seconds": median * seconds_per_step if arrives and seconds_per_step else None,
        "runs": [{"seed": run.seed, "step": step} for run, step in zip(runs, steps, strict=True)],
    }


def first_step(run: Run, target: float) -> int | None:
    """Return the first validated step whose value is at least as good as the target."""
    for step, value in run.curve(f"val/{run.metric}"):
        if value >= target if run.higher_is_better else value <= target:
            return step
    return None


def check_grid(
    targets: Sequence[Mapping[str, Any]], arms: Mapping[str, Sequence[Run]]
) -> list[str]:
    """Warn of targets that an arm reaches so early that its validations are too coarse a clock.

    Args:
        targets: What ``steps_to_target`` returned.
        arms: What it was given.
    """
    found: dict[str, list[str]] = {}
    for place, (name, runs) in enumerate(arms.items()):
        grid, _ = median_curve([run.validation_curve for run in runs if run.validation_curve])
        early = [
            target["share"]
            for target in targets
            if len(grid) and (target["arms"][place]["median"] or math.inf) <= grid[:2][-1]
        ]
        if early:
            shares = " %, ".join(f"{100 * share:g}" for share in early)
            found.setdefault(shares, []).append(name)
    return [
        f"{', '.join(names)}: half of the runs reach the target at {shares} % by their second "
        "validation, so the speed-up there is known only coarsely: validate more often (a smaller "
        "trainer.val_check_interval)"
        for shares, names in found.items()
    ]
