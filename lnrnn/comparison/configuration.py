"""In what the arms were configured differently, as their runs' ``config.yaml`` say."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lnrnn.comparison.records import RecordError, Run
from lnrnn.runs.added_keys import ADDED
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


def configuration_differences(
    arms: Mapping[str, Sequence[Run]],
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what differs between each arm's configuration and the first arm's.

    Args:
        arms: Every arm's readable runs.

    Returns:
        The differences, sorted by key within an arm; a value that an arm does not have is None. And
        warnings: runs whose configuration is not there, arms whose own runs differ in more than the
        seed.
    """
    found, warnings = {}, []
    for name, runs in arms.items():
        tables, problems = _read_all(runs)
        if problems:
            count = f"{len(problems)} of {len(runs)} runs"
            warnings.append(f"{name}: the configuration of {count} is unknown: {problems[0]}")
        within = [key for key in _keys(tables) if len({_text(t, key) for t in tables}) > 1]
        if within:
            warnings.append(f"{name}: its runs differ in settings: {', '.join(within)}")
        if tables:
            found[name] = tables[0]
    baseline = found.pop(next(iter(arms)), None)
    if baseline is None:
        return [], warnings
    differences = [
        {"arm": name, "baseline_value": baseline.get(key), "key": key, "value": table.get(key)}
        for name, table in found.items()
        for key in _keys([baseline, table])
        if _text(baseline, key) != _text(table, key)
    ]
    return differences, warnings


def _read_all(runs: Sequence[Run]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the runs' configurations without what names the run, and which cannot be read."""
    tables, problems = [], []
    for run in runs:
        try:
            table = {**ADDED, **read_configuration(run.folder)}
        except RecordError as error:
            problems.append(str(error))
            continue
        # The seed stands in several places: one for the run, one for its data.
        own = [key for key in table if key.rpartition(".")[2] == "seed" and table[key] == run.seed]
        tables.append({key: table[key] for key in table if key not in (*own, "name", "resume")})
    return tables, problems


def _keys(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({key for table in tables for key in table})


def _text(table: Mapping[str, Any], key: str) -> str:
    """Return a value as text; a key that is missing differs from one that is null."""
    return json.dumps(table[key], sort_keys=True) if key in table else "missing"
