"""Reading what finished, failed and interrupted runs left behind.

A run's folder holds ``run.json`` (what was run and how it ended) and ``metrics.jsonl`` (one value a
line). Everything here is read from those two files; nothing is trained, loaded or guessed.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

T = TypeVar("T")

STATUSES = ("finished", "running", "failed", "interrupted")

# A curve is what one name was at the steps where it was measured, in the order of the steps.
Curve = tuple[tuple[int, float], ...]


class RecordError(ValueError):
    """A run's files are missing, cut short or not what a run writes."""


@dataclass(frozen=True)
class Run:
    """One run, as its files tell it.

    Args:
        folder: Where the run lies, as it was given.
        status: One of ``STATUSES``.
        data: The data set's name.
        model: The model's name.
        seed: What the run's random numbers were derived from.
        metric: The metric that counts; its test value is ``metrics["test/" + metric]``.
        higher_is_better: The metric's direction.
        overrides: What was changed on the command line.
        parameters: How many the model has; None if the run ended before it was built.
        seconds_per_step: Median over the run's steps; None if none was timed.
        metrics: The final values by name.
        versions: Library name to version.
        commit: The commit of the code, where known.
        machine: What the run was computed on.
        data_fingerprint: A hash of the data, where known.
        initial_parameters: Parameter name to a hash of its initial value.
        error: What ended a run that failed.
        diagnosis: What the health monitor said of the run in a line, where it was switched on.
        curves: The contents of ``metrics.jsonl`` by name.
    """

    folder: str
    status: str
    data: str
    model: str
    seed: int
    metric: str
    higher_is_better: bool
    overrides: tuple[str, ...] = ()
    parameters: int | None = None
    seconds_per_step: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    machine: Mapping[str, object] = field(default_factory=dict)
    data_fingerprint: str | None = None
    initial_parameters: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    diagnosis: str | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)

    def curve(self, name: str) -> Curve:
        """Return the (step, value) pairs of one name, empty if it was never measured."""
        return self.curves.get(name, ())

    @property
    def test_value(self) -> float | None:
        """The final test metric; None if the run did not finish or has none that is finite."""
        value = self.metrics.get(f"test/{self.metric}", math.nan)
        return value if self.status == "finished" and math.isfinite(value) else None

    @property
    def validation_curve(self) -> Curve:
        """The metric's validation curve; empty as ``test_value`` is None, or if not all finite."""
        curve = self.curve(f"val/{self.metric}")
        whole = self.status == "finished" and all(math.isfinite(value) for _, value in curve)
        return curve if whole else ()

    @property
    def validation_mean(self) -> float | None:
        """The validation metric's mean over training: the area under its curve over its length.

        The area is that of the trapezoid rule, the length the steps from the first validation to
        the last. A single validation is its own mean.
        """
        curve = self.validation_curve
        if len(curve) < 2:
            return curve[0][1] if curve else None
        steps, values = zip(*curve, strict=True)
        return float(np.trapezoid(values, steps)) / (steps[-1] - steps[0])

    @property
    def best(self) -> float | None:
        """The best validation value; None as for ``validation_curve``."""
        values = [value for _, value in self.validation_curve]
        return (max if self.higher_is_better else min)(values, default=None)

    @property
    def final_validation(self) -> float | None:
        """The last validation value; None as for ``validation_curve``."""
        return self.validation_curve[-1][1] if self.validation_curve else None


@dataclass(frozen=True)
class Unreadable:
    """A folder whose records could not be read: it counts as a run without a result.

    Args:
        folder: Where it lies, as it was given.
        error: What is wrong with it.
    """

    folder: str
    error: str


RunOrFolder = str | os.PathLike[str] | Run | Unreadable


def read_run(folder: str | os.PathLike[str]) -> Run:
    """Read one run.

    Args:
        folder: The run's folder.

    Raises:
        RecordError: If a file is missing or broken. The message names the file and the line. The
            last line of an unfinished run's ``metrics.jsonl`` may be cut short: it is left out.
    """
    path = Path(folder)
    source = path / "run.json"
    record = _read_record(source)
    status = _field(record, "status", str, source)
    if status not in STATUSES:
        raise RecordError(f"{source}: status must be one of {', '.join(STATUSES)}, got {status!r}")
    return Run(
        folder=path.as_posix(),
        status=status,
        data=_field(record, "data", str, source),
        model=_field(record, "model", str, source),
        seed=_field(record, "seed", int, source),
        metric=_field(record, "metric", str, source),
        higher_is_better=_field(record, "higher_is_better", bool, source),
        overrides=tuple(_optional(record, "overrides", list, source) or ()),
        parameters=_optional(record, "parameters", int, source),
        seconds_per_step=_seconds(record, source),
        metrics=_numbers(_optional(record, "metrics", dict, source) or {}, source),
        versions=_optional(record, "versions", dict, source) or {},
        commit=_optional(record, "commit", str, source),
        machine=_optional(record, "machine", dict, source) or {},
        data_fingerprint=_optional(record, "data_fingerprint", str, source),
        initial_parameters=_optional(record, "initial_parameters", dict, source) or {},
        error=_optional(record, "error", str, source),
        diagnosis=_optional(record, "diagnosis", str, source),
        curves=_read_curves(path / "metrics.jsonl", finished=status == "finished"),
    )


def read_runs(folders: Iterable[RunOrFolder]) -> list[Run | Unreadable]:
    """Read many runs, in the order of their seeds; a broken one is kept as ``Unreadable``.

    Args:
        folders: Run folders; a run that was read before is passed on.
    """
    runs: list[Run | Unreadable] = []
    for item in folders:
        if isinstance(item, (Run, Unreadable)):
            runs.append(item)
            continue
        try:
            runs.append(read_run(item))
        except RecordError as error:
            runs.append(Unreadable(Path(item).as_posix(), str(error)))
    return sorted(runs, key=_seed_then_folder)


def _seed_then_folder(run: Run | Unreadable) -> tuple[bool, int, str]:
    """Sort by seed; runs without one come last."""
    return (isinstance(run, Unreadable), run.seed if isinstance(run, Run) else 0, run.folder)


def _seconds(record: dict[str, object], path: Path) -> float | None:
    """Return the time per step; None if no step was timed."""
    value = record.get("seconds_per_step")
    if not _is_number(value):
        raise RecordError(f"{path}: seconds_per_step must be a number, got {value!r}")
    return _to_float(value) if math.isfinite(_to_float(value)) else None


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise RecordError(f"{path}: a run's folder needs this file, and it is not there") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: cannot be read: {error}") from error


def _read_record(path: Path) -> dict[str, object]:
    try:
        record = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        reason = f"is not valid JSON ({error.msg}); was it cut short?"
        raise RecordError(f"{path}, line {error.lineno}: {reason}") from None
    if not isinstance(record, dict):
        raise RecordError(f"{path}, line 1: must hold a JSON object, got {type(record).__name__}")
    return record


def _field(record: dict[str, object], name: str, kind: type[T], path: Path) -> T:
    """Return a value that every run must have."""
    value = _optional(record, name, kind, path)
    if value is None:
        raise RecordError(f"{path}: the key {name!r} is missing")
    return value


def _optional(record: dict[str, object], name: str, kind: type[T], path: Path) -> T | None:
    """Return a value that an unfinished run may lack."""
    value = record.get(name)
    # bool is an int to Python, and true is no seed.
    if value is None or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool))):
        return value
    raise RecordError(f"{path}: the key {name!r} must be {kind.__name__}, got {value!r}")


def _numbers(values: dict[str, object], path: Path) -> dict[str, float]:
    """Return the values as floats; null, which a run may write for NaN, becomes NaN."""
    for name, value in values.items():
        if not _is_number(value):
            raise RecordError(f"{path}: metric {name!r} must be a number, got {value!r}")
    return {name: _to_float(value) for name, value in values.items()}


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _to_float(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")


def _read_curves(path: Path, *, finished: bool) -> dict[str, Curve]:
    if not finished and not path.exists():
        return {}
    lines = _read_text(path).split("\n")
    # Every whole line ends in a newline, so what follows the last one is empty or was cut short.
    torn = lines.pop()
    if torn and finished:
        raise RecordError(f"{path}, line {len(lines) + 1}: the last line is cut short: {torn!r}")
    curves: dict[str, list[tuple[int, float]]] = {}
    for number, line in enumerate(lines, start=1):
        step, name, value = _parse(line, f"{path}, line {number}")
        curve = curves.setdefault(name, [])
        if curve and step <= curve[-1][0]:
            rule = f"the steps of {name} must increase"
            raise RecordError(f"{path}, line {number}: {rule}, got {step} after {curve[-1][0]}")
        curve.append((step, value))
    return {name: tuple(curve) for name, curve in curves.items()}


def _parse(line: str, place: str) -> tuple[int, str, float]:
    """Return the step, the name and the value of one line of ``metrics.jsonl``."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise RecordError(f"{place}: is not valid JSON ({error.msg}): {line[:60]!r}") from None
    if not isinstance(entry, dict):
        raise RecordError(f"{place}: must hold a JSON object, got {line[:60]!r}")
    step, name = entry.get("step"), entry.get("name")
    known = isinstance(name, str) and isinstance(step, int) and not isinstance(step, bool)
    if not known or "value" not in entry or not _is_number(entry["value"]):
        rule = 'must hold an integer "step", a text "name" and a number "value"'
        raise RecordError(f"{place}: {rule}, got {line[:80]!r}")
    assert isinstance(step, int)
    assert isinstance(name, str)
    return step, name, _to_float(entry["value"])
