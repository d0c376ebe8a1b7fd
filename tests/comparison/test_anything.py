"""Whatever lies in the folders: as long as one run can be read, something is said."""

import io
import json
import math
import random
from typing import Any

import pytest
from rich.console import Console

from lnrnn.comparison import Run, Unreadable, compare, print_table

STATUSES = ["finished"] * 6 + ["failed", "running", "interrupted"]


def any_value(rng):
    if rng.random() < 0.04:
        return rng.choice([math.nan, math.inf, -math.inf])
    return rng.choice([rng.random(), 0.5])


def any_run(rng, arm, seed):
    if rng.random() < 0.08:
        return Unreadable(f"{arm}/{seed}", "gone")
    start, every = rng.choice([0, 1, 1, 1]), rng.choice([10, 10, 10, 7])
    length = rng.choice([0, 1, 2, 5, 12])
    curve = tuple(((start + place) * every, any_value(rng)) for place in range(length))
    return Run(
        folder=rng.choice([f"{arm}/{seed}"] * 9 + [f"shared/{seed}"]),
        status=rng.choice(STATUSES),
        data="d",
        model=rng.choice(["m", "m", "other"]),
        seed=seed,
        metric="accuracy",
        higher_is_better=True,
        parameters=rng.choice([None, 5]),
        seconds_per_step=rng.choice([None, 0.1]),
        metrics={"test/accuracy": any_value(rng)} if rng.random() < 0.9 else {},
        machine=rng.choice([{}, {"threads": 1}, {"threads": 2}]),
        initial_parameters=rng.choice([{}, {"w": "one"}, {"w": "two"}]),
        diagnosis=rng.choice([None, "the gradients vanish"]),
        curves={"val/accuracy": curve, "val/loss": curve},
    )


def any_cost(rng, names):
    shared = {"seconds_per_step": 0.1, "quartiles": [0.1, 0.1], "items_per_second": 5.0}
    arms = [
        {
            "name": name,
            "parameters": 5,
            **shared,
            "ratio": 1.2 if place else None,
            "ratio_quartiles": [1.1, 1.3] if place else None,
            "peak_memory": rng.choice([None, 0, 1e9]),
            "unit": "sequences",
        }
        for place, name in enumerate(names)
        if rng.random() < 0.9 or not place
    ]
    return {"machine": {}, "rounds": 4, "threads": 1, "arms": arms}


@pytest.mark.parametrize("case", range(60))
def test_any_runs_are_compared_written_and_printed(case):
    rng = random.Random(case)
    names = ["a", "b", "=c", "d[1]"][: rng.randint(1, 4)]
    arms: dict[str, list[Any]] = {
        name: [any_run(rng, name, s) for s in range(rng.choice([0, 1, 2, 6, 8]))] for name in names
    }
    arms[rng.choice(names)].append(Run("last", "finished", "d", "m", 99, "accuracy", True))
    tuning = {
        name: {rate: [any_run(rng, name, s) for s in range(1000, 1002)] for rate in (0.1, 0.2)}
        for name in names
    }
    result = compare(
        arms,
        cost=any_cost(rng, names) if rng.random() < 0.5 else None,
        tuning=tuning if rng.random() < 0.5 else None,
    )
    assert json.loads(json.dumps(result, allow_nan=False))["arms"]
    assert [arm["name"] for arm in result["arms"]] == names
    # A claim of any kind has its six pairs.
    for pair in result["pairs"]:
        outcomes = (pair, pair["validation_difference"], pair["best_difference"])
        assert all(outcome["n"] >= 6 for outcome in outcomes if outcome["supported"])
    screen = io.StringIO()
    print_table(result, Console(file=screen, width=80))
    assert all(arm["name"] in screen.getvalue() for arm in result["arms"])
