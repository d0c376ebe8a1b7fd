"""What differs between two places in which the same command has finished."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from same_runs import differing, kept_for_use

from lnrnn.training import RunFolder

# What may differ: how long something took, and where the run was resumed.
FREE = ("seconds_per_step", "seconds_per_save", "resumed")
RUN_FILES = ("config.yaml", "metrics.jsonl", "curves.png")
OF_CLASSES = ("confusion.json", "confusion.png")  # of runs that have some


def differences(twin: Path, again: Path) -> Iterator[str]:
    """Yield each difference in what a finished command promises, and what it should not leave."""
    names = [{str(run.relative_to(place)) for run in run_folders(place)} for place in (twin, again)]
    if names[0] != names[1]:
        yield f"runs in one place only: {sorted(names[0] ^ names[1])}"
    for name in sorted(names[0] & names[1]):
        yield from (f"{name}: {text}" for text in of_a_run(twin / name, again / name))
    yield from of_comparisons(twin, again)
    yield from (f"left: {name}" for name in leftovers(again))


def run_folders(place: Path) -> list[Path]:
    """Return the folders that hold a run."""
    return sorted(path.parent for path in place.glob("runs/*/*/seed*/run.json"))


def leftovers(place: Path) -> list[str]:
    """Return the files that only a run under way has, or a damaged one."""
    patterns = ("run.lock", ".*.tmp", "*.damaged")
    found = (path for pattern in patterns for path in (place / "runs").rglob(pattern))
    return sorted(str(path.relative_to(place)) for path in found)


def of_a_run(twin: Path, again: Path) -> Iterator[str]:
    """Yield what differs in the files of one run: bit for bit, but for times."""
    for name in (*RUN_FILES, *(name for name in OF_CLASSES if (twin / name).exists())):
        if not (again / name).exists():
            yield f"{name} is missing"
        elif (again / name).read_bytes() != (twin / name).read_bytes():
            yield f"{name} differs"
    records = [json.loads((folder / "run.json").read_text()) for folder in (twin, again)]
    one, other = ({key: record[key] for key in record if key not in FREE} for record in records)
    yield from (f"run.json: {text}" for text in differing(one, other))
    best, its_best = (kept_for_use(RunFolder(folder)) for folder in (twin, again))
    for name in sorted(best.keys() | its_best.keys()):
        if best.get(name) != its_best.get(name):
            yield f"{name} differs, or is in one place only"
    newest, its = (RunFolder(folder).newest_checkpoint() for folder in (twin, again))
    if newest is None or its is None or newest.name != its.name:
        yield f"the newest checkpoint is {its}, not {newest}"
        return
    one, other = (torch.load(path, weights_only=True) for path in (newest, its))
    yield from (f"{newest.name}: {text}" for text in differing(one, other))


def of_comparisons(twin: Path, again: Path) -> Iterator[str]:
    """Yield what differs in the results of ``lnrnn compare``, but for times."""
    for path in sorted(twin.glob("runs/*/compare/*/compare.json")):
        other = again / path.relative_to(twin)
        if not other.exists():
            yield f"{path.relative_to(twin)} is missing"
            continue
        files = [{file.name for file in result.parent.iterdir()} for result in (path, other)]
        if files[0] != files[1]:
            yield f"the comparison's files: {sorted(files[0] ^ files[1])} in one place only"
        one, its = (without_times(json.loads(result.read_text())) for result in (path, other))
        yield from (f"compare.json: {text}" for text in differing(one, its))


def without_times(value: Any) -> Any:
    """Return what was read from JSON without measured times."""
    if isinstance(value, dict):
        return {k: without_times(item) for k, item in value.items() if "seconds" not in k}
    return [without_times(item) for item in value] if isinstance(value, list) else value
