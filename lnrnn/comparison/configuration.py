"""What all arms were configured alike and what differently, as their runs' ``config.yaml`` say."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lnrnn.comparison.records import RecordError, Run
from lnrnn.comparison.splits import is_several
from lnrnn.runs.added_keys import added_keys
from lnrnn.runs.effects import WATCHING, is_part_of
from lnrnn.runs.files import open_own

UNREADABLE = (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException)


def read_configuration(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a run's configuration, flat: dotted key to value. Interpolations stay as written.

    Args:
        folder: The run's folder.

    Raises:
        RecordError: If ``config.yaml`` is missing or is not a configuration.
    """
    path = Path(folder) / "config.yaml"
    try:
        with open_own(path) as file:
            content = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    except UNREADABLE as error:
        raise RecordError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path} must hold keys and values, got {type(content).__name__}")
    return dict(_leaves(content))


def _leaves(node: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value, as JSON can hold it, of all that is not a mapping."""
    for key, value in node.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, name)
        else:
            yield name, value if _is_json(value) else str(value)


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):  # infinity, or a date
        return False
    return True


def describe_configuration(
    arms: Mapping[str, Sequence[Run]],
) -> tuple[dict[str, Any], list[str]]:
    """Return what is the same in all runs, and what differs between an arm and the first one.

    Args:
        arms: Every arm's readable runs.

    Returns:
        The entries ``"shared_configuration"`` (dotted key to value; empty where any run's is
        unknown) and ``"configuration_differences"`` (sorted by key within an arm; a value that an
        arm does not have is None) of ``compare.json``. And warnings: runs whose configuration is
        not there, arms whose own runs differ in more than the seed.
    """
    tables, warnings, complete = {}, [], True
    for name, runs in arms.items():
        tables[name], problems = _read_all(runs)
        complete = complete and not problems
        if problems:
            count = f"{len(problems)} of {len(runs)} runs"
            warnings.append(f"{name}: the configuration of {count} is unknown: {problems[0]}")
        within = [key for key in _keys(tables[name]) if _differ(tables[name], key)]
        if within:
            warnings.append(f"{name}: its runs differ in settings: {', '.join(within)}")
    every = [table for members in tables.values() for table in members]
    shared = [key for key in _keys(every) if not _differ(every, key)] if complete else []
    firsts = {name: members[0] for name, members in tables.items() if members}
    described = {
        "shared_configuration": {key: every[0][key] for key in shared},
        "configuration_differences": _differences(firsts, next(iter(arms))),
    }
    return described, warnings


def _differences(firsts: Mapping[str, Mapping[str, Any]], baseline: str) -> list[dict[str, Any]]:
    """Return in what the first run of each arm differs from the first run of the baseline."""
    if baseline not in firsts:
        return []
    first = firsts[baseline]
    return [
        {"arm": name, "baseline_value": first.get(key), "key": key, "value": table.get(key)}
        for name, table in firsts.items()
        for key in _keys([first, table])
        if _differ([first, table], key)
    ]


def _differ(tables: Sequence[Mapping[str, Any]], key: str) -> bool:
    return len({_text(table, key) for table in tables}) > 1


def _read_all(runs: Sequence[Run]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the runs' configurations, and which cannot be read.

    They are without the seed, without that of the split where there are several, and without what
    decides how a run is named, saved and watched.
    """
    tables, problems = [], []
    several = is_several(runs)
    for run in runs:
        try:
            table = read_configuration(run.folder)
            table = {**added_keys(table.get("data._target_")), **table}
        except RecordError as error:
            problems.append(str(error))
            continue
        # The seed stands in several places: one for the run, one for its data.
        own = [key for key in table if key.rpartition(".")[2] == "seed" and table[key] == run.seed]
        if several and table.get(split := f"data.{run.split_key}") == run.split:
            own.append(split)
        left_out = (*own, *WATCHING)
        tables.append({key: table[key] for key in table if not is_part_of(key, left_out)})
    return tables, problems


def _keys(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({key for table in tables for key in table})


def _text(table: Mapping[str, Any], key: str) -> str:
    """Return a value as text; a key that is missing differs from one that is null."""
    return json.dumps(table[key], sort_keys=True) if key in table else "missing"
