"""The rows of every table, as values: what ``compare`` returned, arm by arm.

What a table is called, which columns it has and how values are written is for those who show it:
``terminal`` and ``html_tables``.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lnrnn.comparison.cells import Cell
from lnrnn.comparison.wording import decimals, when

Cells = Mapping[str, Cell]  # by column; one that is missing stays empty


class Row(NamedTuple):
    """A row: its head, its cells by column, and the place of the arm that it is about."""

    head: str
    cells: Cells
    arm: int | None = None


class Group(NamedTuple):
    """Rows under a heading of their own."""

    title: Cell
    rows: Sequence[Row]


class Outcome(NamedTuple):
    """What is measured of a run: its title, its key in arms and runs, its key in a pair."""

    title: str
    key: str
    pair_key: str | None  # None: the pair's own entries


def measured(result: Mapping[str, Any]) -> list[Outcome]:
    """Return the outcomes of a comparison."""
    metric = result["metric"].replace("_", " ")
    return [
        Outcome(f"test {metric} {when(result)}", "value", None),
        Outcome(f"best validation {metric}", "best", "best_difference"),
        Outcome(
            f"mean validation {metric} over training", "validation_mean", "validation_difference"
        ),
    ]


def outcomes(result: Mapping[str, Any]) -> dict[str, Group]:
    """Return every outcome of every arm, and what the pairs say of it, by the outcome's key."""
    return {
        outcome.key: Group(Cell("text", outcome.title), list(_outcome_rows(result, outcome)))
        for outcome in measured(result)
    }


def _outcome_rows(result: Mapping[str, Any], outcome: Outcome) -> Iterator[Row]:
    key, pair_key = outcome.key, outcome.pair_key
    entries = [arm if key == "value" else arm[key] for arm in result["arms"]]
    digits = decimals([entry["sd"] for entry in entries])
    pairs = [None, *(pair if pair_key is None else pair[pair_key] for pair in result["pairs"])]
    for place, (arm, entry) in enumerate(zip(result["arms"], entries, strict=True)):
        mean = entry["mean"]
        known = sum(run[key] is not None for run in arm["runs"])
        cells = {
            "runs": Cell("runs", (known, len(arm["runs"]))),
            "mean": Cell("spread", None if mean is None else (mean, entry["sd"]), digits),
        }
        yield Row(arm["name"], cells | _comparison(pairs[place], digits), place)


def _comparison(pair: Mapping[str, Any] | None, digits: int) -> dict[str, Cell]:
    """Return what a pair says of an outcome; the first arm has none."""
    if pair is None:
        return {}
    return {
        "difference": Cell("signed", pair["difference"], digits),
        "interval": Cell("interval", pair["interval"], digits),
        "bootstrap": Cell("interval", pair["bootstrap"], digits),
        "examples": Cell("interval", (pair.get("examples") or {}).get("interval"), digits),
        "better": Cell("share", pair["probability_better"], 2),
        "p_holm": Cell("p", pair["p_holm"]),
        "supported": Cell("supported", pair["supported"]),
    }


def targets(result: Mapping[str, Any]) -> list[Group]:
    """Return, for each target, when every arm reaches it and how much faster than the first."""
    return [
        Group(
            Cell("target", (entry["target"], entry["share"])),
            list(_target_rows(result, entry, place)),
        )
        for place, entry in enumerate(result["steps_to_target"])
    ]


def _target_rows(result: Mapping[str, Any], target: Mapping[str, Any], place: int) -> Iterator[Row]:
    rungs = [None, *(pair["speed"][place] for pair in result["pairs"])]
    for number, (arm, rung) in enumerate(zip(target["arms"], rungs, strict=True)):
        cells = {
            "arrived": Cell("arrived", (arm["reached"], len(arm["runs"]))),
            "steps": Cell("steps", arm["median"]),
            "seconds": Cell("seconds", arm["seconds"]),
        }
        if rung is not None:
            cells |= _speed_up(rung, "steps") | _speed_up(rung, "seconds")
        yield Row(arm["name"], cells, number)


def _speed_up(rung: Mapping[str, Any], kind: str) -> dict[str, Cell]:
    entry = rung[kind] or {}  # of seconds there is none where no step was timed
    return {
        f"{kind} ratio": Cell("speed-up", (entry["ratio"], entry["censored"]) if entry else None),
        f"{kind} interval": Cell("ratio interval", entry.get("interval")),
        f"{kind} p": Cell("p", entry.get("p")),
        f"{kind} p_holm": Cell("p", entry.get("p_holm")),
        f"{kind} supported": Cell("supported", entry.get("supported")),
    }


def seeds(result: Mapping[str, Any]) -> list[Row]:
    """Return the test value of every seed, and its difference from the first arm's.

    With several splits it is the mean over them, of seeds that have it on all. The columns of the
    arm at a place are ``"value 1"`` and ``"difference 1"``.
    """
    arms = result["arms"]
    digits = decimals([arm["sd"] for arm in arms])
    runs = [by_seed(arm, "value") for arm in arms]
    rows = []
    for seed in result["seeds"]:
        cells = {}
        first = runs[0].get(seed, {}).get("value")
        for place, arm in enumerate(runs):
            run = arm.get(seed)
            cells[f"value {place}"] = _value(run, digits)
            value = run and run["value"]
            gap = None if first is None or value is None else value - first
            if place:
                cells[f"difference {place}"] = Cell("signed", gap, digits)
        rows.append(Row(str(seed), cells))
    return rows


def by_seed(arm: Mapping[str, Any], key: str) -> dict[int, dict[str, Any]]:
    """Return an arm's runs by seed; of several splits, one with the mean, or a run without value.

    Args:
        arm: An entry ``"arms"`` of a result.
        key: The outcome of a run.
    """
    runs: dict[int, list[dict[str, Any]]] = {}
    for run in arm["runs"]:
        if run["seed"] is not None:
            runs.setdefault(run["seed"], []).append(run)
    most = max(map(len, runs.values()), default=0)
    return {seed: _mean(members, key, most) for seed, members in runs.items()}


def _mean(runs: Sequence[dict[str, Any]], key: str, most: int) -> dict[str, Any]:
    without = next((run for run in runs if run[key] is None), None)
    if without is not None:
        return without
    if len(runs) < most:
        return {**runs[0], key: None, "status": "no run on some split"}
    return {**runs[0], key: math.fsum(run[key] for run in runs) / most}


def _value(run: Mapping[str, Any] | None, digits: int) -> Cell:
    """Return a run's value, or what became of the run."""
    if run is None:
        return Cell("text", "no run")
    if run["value"] is None:
        return Cell("text", "no value" if run["status"] == "finished" else run["status"])
    return Cell("value", run["value"], digits)


def step_times(result: Mapping[str, Any]) -> list[Row]:
    """Return what each arm's steps took while it trained.

    One run after another: whatever else the machine did then is in these times.
    """
    base = result["arms"][0]["seconds_per_step"]
    rows = []
    for place, arm in enumerate(result["arms"]):
        seconds = arm["seconds_per_step"]
        cells = {
            "parameters": Cell("count", arm["parameters"]),
            "seconds": Cell("seconds", seconds),
        }
        if place and base and seconds is not None:
            cells["ratio"] = Cell("ratio", seconds / base)
        rows.append(Row(arm["name"], cells, place))
    return rows


def costs(cost: Mapping[str, Any]) -> list[Row]:
    """Return what a training step of each arm costs, measured with the arms in turn.

    Args:
        cost: The entry ``"cost"`` of a result.
    """
    return [
        Row(arm["name"], _cost_cells(arm, first=place == 0), place)
        for place, arm in enumerate(cost["arms"])
    ]


def _cost_cells(arm: Mapping[str, Any], *, first: bool) -> Cells:
    speed = arm["items_per_second"]
    cells = {
        "parameters": Cell("count", arm["parameters"]),
        "seconds": Cell("seconds", arm["seconds_per_step"]),
        "quartiles": Cell("seconds span", arm["quartiles"]),
        "memory": Cell("bytes", arm["peak_memory"]),
        "throughput": Cell("throughput", None if speed is None else (speed, arm["unit"])),
    }
    if not first:
        cells["ratio"] = Cell("ratio", arm["ratio"])
        cells["ratio quartiles"] = Cell("ratio span", arm["ratio_quartiles"])
    return cells


def rates(tuning: Mapping[str, Any]) -> list[Row]:
    """Return each arm's robust mean best loss at each learning rate; columns as ``0.001``.

    Args:
        tuning: The entry ``"tuning"`` of a result.
    """
    rows = []
    for place, arm in enumerate(tuning["arms"]):
        cells = {
            f"{entry['rate']:g}": Cell(
                "loss", (entry["robust_mean"], entry["diverged"], entry["rate"] == arm["best"])
            )
            for entry in arm["rates"]
        }
        tried = {f"{rate:g}": Cell("loss", None) for rate in tuning["grid"]}
        octaves = {"octaves": Cell("share", arm["octaves_within_5_percent"], 1)}
        rows.append(Row(arm["name"], tried | cells | octaves, place))
    return rows


def differences(result: Mapping[str, Any]) -> list[Row]:
    """Return what the arms were configured differently in."""
    places = {arm["name"]: place for place, arm in enumerate(result["arms"])}
    return [
        Row(
            entry["arm"],
            {
                "key": Cell("text", entry["key"]),
                # A tuple, because null is a value here.
                "baseline": Cell("setting", (entry["baseline_value"],)),
                "arm": Cell("setting", (entry["value"],)),
            },
            places.get(entry["arm"]),
        )
        for entry in result["validity"]["configuration_differences"]
    ]
