"""What a step of each arm costs: measured once, and kept beside the comparison."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lnrnn.config.compose import Experiment
from lnrnn.runs.files import open_own, replace_text
from lnrnn.runs.folder import RunFolder, folder_of, is_without_effect, leaf_keys
from lnrnn.runs.machine import current_commit, describe_machine, installed_versions
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
    if kept.get("arms") == asked and (same or not measure):
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
            kept = json.loads(file.read())
    except (OSError, ValueError):  # not there, or damaged: it is measured again
        return {}
    return kept if isinstance(kept, dict) else {}
