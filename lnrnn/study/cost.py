"""What a step of each arm costs: measured once, and kept beside the comparison."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lnrnn.config.compose import Experiment
from lnrnn.runs.effects import is_without_effect
from lnrnn.runs.files import open_own, replace_text
from lnrnn.runs.folder import RunFolder, folder_of, leaf_keys
from lnrnn.runs.machine import current_commit, describe_machine, installed_versions
from lnrnn.runs.record import RecordError, is_number, parse_json
from lnrnn.study.step_cost import measure_cost

FILE = "cost.json"


def cost_of(arms: Mapping[str, Experiment], folder: Path, *, measure: bool) -> dict | None:
    """Return what the arms cost, from the folder if that still holds, else measured.

    What was measured holds as long as the arms, the commit, the versions, the machine and its
    threads are the same; where files differ from the commit, nobody can tell. Nothing else may run.

    Args:
        arms: A run of each arm; arms that are the same run share their numbers.
        folder: Holds ``cost.json``, and is made if need be.
        measure: Whether it may be measured; otherwise what the folder has of these arms is taken,
            wherever it was measured, and None returned if there is nothing.
    """
    asked = {name: _settings(experiment) for name, experiment in arms.items()}
    kept, now = _read(folder / FILE), _surroundings()
    same = now is not None and now == kept.get("surroundings")
    whole = kept.get("arms") == asked and _is_cost(kept.get("cost"), asked)
    if whole and (same or not measure):
        return kept["cost"]
    if not measure:
        return None
    cost = _measure_each_once(arms)
    folder.mkdir(parents=True, exist_ok=True)
    record = {"arms": asked, "surroundings": now, "cost": cost}
    replace_text(folder / FILE, json.dumps(record, indent=2) + "\n")
    return cost


def _measure_each_once(arms: Mapping[str, Experiment]) -> dict[str, Any]:
    first: dict[RunFolder, str] = {}
    for name, experiment in arms.items():
        first.setdefault(folder_of(experiment), name)
    cost = measure_cost({name: arms[name] for name in first.values()})
    entries = {entry["name"]: entry for entry in cost["arms"]}
    baseline = next(iter(arms))
    cost["arms"] = []
    for name, experiment in arms.items():
        entry = {**entries[first[folder_of(experiment)]], "name": name}
        if name != baseline and entry["ratio"] is None:  # the baseline over itself
            entry |= {"ratio": 1.0, "ratio_quartiles": [1.0, 1.0]}
        cost["arms"].append(entry)
    return cost


def _settings(experiment: Experiment) -> dict[str, str]:
    """Return every setting that changes what is computed, by its key."""
    config = experiment.config
    keys = sorted(key for key in leaf_keys(config) if not is_without_effect(key))
    return {key: str(OmegaConf.select(config, key)) for key in keys}


def _surroundings() -> dict[str, Any] | None:
    """Return what a time depends on beside the arms; None where that cannot be told."""
    commit = current_commit()
    if commit is not None and commit.endswith("+"):
        return None
    machine = describe_machine("the one there is")
    return {"commit": commit, "versions": installed_versions(), "machine": machine}


def _read(path: Path) -> dict[str, Any]:
    try:
        with open_own(path) as file:
            kept = parse_json(file.read(), path)
    except (OSError, RecordError):  # not there, or damaged: it is measured again
        return {}
    return kept if isinstance(kept, dict) else {}


def _is_cost(cost: Any, arms: Mapping[str, Any]) -> bool:
    """Return whether a value read from a file is what :func:`cost_of` has measured of the arms."""
    if not isinstance(cost, dict) or not isinstance(cost.get("arms"), list):
        return False
    return (
        isinstance(cost.get("machine"), dict)
        and all(isinstance(cost.get(key), int) for key in ("rounds", "threads"))
        and all(isinstance(entry, dict) and _is_arm(entry) for entry in cost["arms"])
        and [entry["name"] for entry in cost["arms"]] == [*arms]
    )


def _is_arm(entry: Mapping[str, Any]) -> bool:
    numbers = (entry.get("seconds_per_step"), entry.get("items_per_second"))
    quartiles, ratios = entry.get("quartiles"), entry.get("ratio_quartiles")
    return (
        {"name", "ratio", "peak_memory"} <= entry.keys()
        and all(isinstance(value, float) for value in numbers)
        and all(is_number(entry[key]) for key in ("ratio", "peak_memory"))
        and isinstance(entry.get("parameters"), int)
        and isinstance(entry.get("unit"), str)
        and _is_range(quartiles)
        and (ratios is None if entry["ratio"] is None else _is_range(ratios))
    )


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(v, float) for v in value)
