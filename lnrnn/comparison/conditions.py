"""What makes arms hard to compare although every run went well: warnings, no numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lnrnn.comparison.records import Run
from lnrnn.runs.monitor_names import MonitorName, Quantity

DISTURBED = 2.0  # times the lower quartile of step times that the upper one may be
CLIPPED_APART = 0.25  # of steps, by which arms may differ in how many are clipped
PERFECT = {"accuracy": 1.0}  # the best value that a validation can show


def check_clock(cost: Mapping[str, Any] | None) -> list[str]:
    """Warn of step times that scatter so much that something else was running.

    Args:
        cost: The entry ``"cost"`` of ``compare.json``.
    """
    found = []
    for arm in cost["arms"] if cost else ():
        spans = [arm["quartiles"], arm["ratio_quartiles"] or (1.0, 1.0)]
        spread = max(high / low for low, high in spans)
        if spread >= DISTURBED:
            found.append(
                f"{arm['name']}: the middle half of its step times spreads {spread:.1f}-fold, so "
                "the machine was doing something else: measure the cost again on an idle one "
                "(delete cost.json in the result's folder)"
            )
    return found


def check_clipping(arms: Mapping[str, Sequence[Run]]) -> list[str]:
    """Warn where the gradient is clipped much more often in one arm than in another.

    Args:
        arms: Every arm's readable runs; without the monitor nothing is known.
    """
    shares = {name: share for name, runs in arms.items() if (share := _clipped(runs)) is not None}
    if len(shares) < 2 or max(shares.values()) - min(shares.values()) < CLIPPED_APART:
        return []
    listed = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
    return [
        f"the gradient is clipped in different shares of the steps ({listed}): where most steps "
        "are clipped, trainer.gradient_clip_val sets their size, so the arms differ in more than "
        "their configuration says"
    ]


def _clipped(runs: Sequence[Run]) -> float | None:
    """Return the median over runs of the share of steps that were clipped."""
    curves = [run.curve(str(MonitorName(Quantity.CLIPPED))) for run in runs]
    shares = [np.mean([value for _, value in curve]) for curve in curves if curve]
    return float(np.median(shares)) if shares else None


def check_ceiling(arms: Mapping[str, Sequence[Run]]) -> list[str]:
    """Warn of arms that validate without any error, which leaves nothing to be better at.

    Args:
        arms: Every arm's readable runs.
    """
    at_top = []
    for name, runs in arms.items():
        perfect = [_is_perfect(run) for run in runs if run.best is not None]
        if perfect and 2 * sum(perfect) >= len(perfect):
            at_top.append(f"{name} in {sum(perfect)} of {len(perfect)} runs")
    if not at_top:
        return []
    return [
        f"validation is at its ceiling ({', '.join(at_top)}): best values cannot tell these runs "
        "apart, and a learning rate may have been chosen among ties; hold more data out "
        "(data.validation)"
    ]


def _is_perfect(run: Run) -> bool:
    return run.best is not None and run.best >= PERFECT.get(run.metric, math.inf)
