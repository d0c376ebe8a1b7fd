"""One arm by itself: what its runs reached, and how much they differ."""

import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from lnrnn.comparison.records import Run, Unreadable
from lnrnn.comparison.statistics import mean_and_sd
from lnrnn.comparison.validity import without_result

Measure = Callable[[Run], float | None]

TEST_VALUE: Measure = attrgetter("test_value")
VALIDATION_MEAN: Measure = attrgetter("validation_mean")
BEST: Measure = attrgetter("best")
FINAL_VALIDATION: Measure = attrgetter("final_validation")


def readable_runs(runs: Sequence[Run | Unreadable]) -> list[Run]:
    """Return the runs whose records could be read."""
    return [run for run in runs if isinstance(run, Run)]


def by_seed(runs: Sequence[Run], measure: Measure) -> dict[int, float]:
    """Return the measure by seed: the mean over the splits, of seeds that have it on every split.

    With one split, it is that of the seed's run.
    """
    splits = len({run.split for run in runs})
    values: dict[int, list[float]] = {}
    for run in runs:
        value = measure(run)
        if value is not None:
            values.setdefault(run.seed, []).append(value)
    return {
        seed: math.fsum(found) / splits for seed, found in values.items() if len(found) == splits
    }


def describe_arm(name: str, runs: Sequence[Run | Unreadable]) -> dict[str, Any]:
    """Return an entry of ``"arms"`` in ``compare.json``.

    Args:
        name: The arm.
        runs: All its runs.
    """
    readable = readable_runs(runs)
    at_end = _spread(readable, TEST_VALUE)
    sizes = [run.parameters for run in readable if run.parameters is not None]
    times = [run.seconds_per_step for run in readable if run.seconds_per_step is not None]
    return {
        "name": name,
        "overrides": _common_overrides(readable),
        "parameters": sizes[0] if sizes else None,
        "seconds_per_step": float(np.median(times)) if times else None,
        **at_end,
        "validation_mean": _spread(readable, VALIDATION_MEAN),
        "best": _spread(readable, BEST),
        "final_validation": _spread(readable, FINAL_VALIDATION),
        "failed": len(without_result(name, runs)),
        "diagnosis": [f"seed {run.seed}: {run.diagnosis}" for run in readable if run.diagnosis],
        "diagnoses": [
            {"seed": run.seed, "text": run.diagnosis} for run in readable if run.diagnosis
        ],
        "runs": [_describe_run(run) for run in runs],
    }


def _spread(runs: Sequence[Run], measure: Measure) -> dict[str, float | None]:
    mean, sd = mean_and_sd([*by_seed(runs, measure).values()])
    return {"mean": mean, "sd": sd}


def _common_overrides(runs: Sequence[Run]) -> list[str]:
    """Return what all runs of an arm were started with; the seed is not part of an arm."""
    shared = [set(run.overrides) for run in runs]
    listed = runs[0].overrides if runs else ()
    return [
        item
        for item in listed
        if all(item in overrides for overrides in shared) and not item.startswith("seed=")
    ]


def _describe_run(run: Run | Unreadable) -> dict[str, Any]:
    known = run if isinstance(run, Run) else None
    return {
        "seed": known and known.seed,
        "split": known and known.split,
        "folder": run.folder,
        "status": known.status if known else "unreadable",
        "value": known and known.test_value,
        "validation_mean": known and known.validation_mean,
        "best": known and known.best,
        "error": run.error,
        "diverged": known and known.diverged,
    }
