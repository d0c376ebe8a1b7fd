"""Reading what finished, failed and interrupted runs left behind.

A run's folder holds ``run.json`` (what was run and how it ended) and ``metrics.jsonl`` (one value a
line). Everything here is read from those two files; nothing is trained, loaded or guessed.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lnrnn.runs.files import misplaced
from lnrnn.runs.metrics import read_metrics
from lnrnn.runs.record import RecordError, read_record, to_float, unpack_correct

# A curve is what one name was at the steps where it was measured, in the order of the steps.
Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Run:
    """One run, as its files tell it.

    Args:
        folder: Where the run is, as it was given.
        status: One of ``lnrnn.runs.record.STATUSES``.
        data: The data set's name.
        model: The model's name.
        seed: What the run's random numbers were derived from.
        metric: The metric that counts; its test value is ``metrics["test/" + metric]``.
        higher_is_better: The metric's direction.
        overrides: What was changed on the command line.
        parameters: How many the model has; None if the run ended before it was built.
        seconds_per_step: Median over the run's steps; None if none was timed.
        steps: Optimizer steps made, where known.
        split_sizes: Name of a split to how many sequences, or windows of a text, it has.
        split: The seed that chose the test; None where the test is fixed, or that was not recorded.
        split_key: The argument of the data that is that seed.
        split_fresh: Whether another such seed makes other examples.
        metrics: The final values by name.
        test_correct: Of each test example, in the order of the data, whether it was classified
            rightly; empty where that was not recorded.
        tested: Whose weights the test had: ``best`` or ``last``; None where that is not recorded,
            as by versions that tested the last only.
        versions: Library name to version.
        commit: The commit of the code, where known.
        machine: What the run was computed on.
        data_fingerprint: A hash of the data, where known.
        data_order: A hash of the first epoch's batches, where known.
        dropout_seed: Where the dropout stream starts, where known.
        initial_parameters: Parameter name to a hash of its initial value.
        init_from: Whose weights it started with, as it was given; None where it drew its own.
        error: What ended a run that failed.
        diverged: Whether that was a number that became NaN or infinity.
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
    steps: int | None = None
    split_sizes: Mapping[str, int] = field(default_factory=dict)
    split: int | None = None
    split_key: str | None = None
    split_fresh: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    test_correct: tuple[bool, ...] = ()
    tested: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    machine: Mapping[str, object] = field(default_factory=dict)
    data_fingerprint: str | None = None
    data_order: str | None = None
    dropout_seed: int | None = None
    initial_parameters: Mapping[str, str] = field(default_factory=dict)
    init_from: str | None = None
    error: str | None = None
    diverged: bool = False
    diagnosis: str | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)

    def curve(self, name: str) -> Curve:
        """Return the (step, value) pairs of one name, empty if it was never measured."""
        return self.curves.get(name, ())

    @property
    def pair(self) -> tuple[int, int]:
        """What it shares with a run of another arm: the seed, and the split."""
        return self.seed, -1 if self.split is None else self.split

    @property
    def test_value(self) -> float | None:
        """The final test metric; None if the run did not finish or it is not a finite number."""
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
        folder: Where it is, as it was given.
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
        RecordError: If a file is missing or broken, or elsewhere by a link. The message names the
            file and the line. The last line of an unfinished run's ``metrics.jsonl`` may be cut
            short: it is left out.
    """
    path = Path(folder)
    if (problem := misplaced(path)) is not None:
        raise RecordError(problem)
    record = read_record(path / "run.json")
    for key in ("status", "data", "model", "seed", "metric", "higher_is_better"):
        if getattr(record, key) is None:
            raise RecordError(f"{path / 'run.json'}: the key {key!r} is missing")
    seconds = to_float(record.seconds_per_step)
    return Run(
        folder=path.as_posix(),
        status=record.status or "",
        data=record.data or "",
        model=record.model or "",
        seed=record.seed or 0,
        metric=record.metric or "",
        higher_is_better=bool(record.higher_is_better),
        overrides=tuple(record.overrides),
        parameters=record.parameters,
        seconds_per_step=seconds if math.isfinite(seconds) else None,
        steps=record.steps,
        split_sizes=record.split_sizes,
        split=record.split.get("seed"),
        split_key=record.split.get("key"),
        split_fresh=record.split.get("fresh", False),
        metrics=record.metrics,
        test_correct=tuple(unpack_correct(record.test_correct)),
        tested=record.tested,
        versions=record.versions,
        commit=record.commit,
        machine=record.machine,
        data_fingerprint=record.data_fingerprint,
        data_order=record.data_order,
        dropout_seed=record.dropout_seed,
        initial_parameters=record.initial_parameters,
        init_from=None if not record.init_from else str(record.init_from.get("given")),
        error=record.error,
        diverged=record.has_diverged,
        diagnosis=record.diagnosis,
        curves=_read_curves(path / "metrics.jsonl", finished=record.status == "finished"),
    )


def read_runs(folders: Iterable[RunOrFolder]) -> list[Run | Unreadable]:
    """Read many runs, in the order of seeds and splits; a broken one is kept as ``Unreadable``.

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


def _seed_then_folder(run: Run | Unreadable) -> tuple[bool, tuple[int, int], str]:
    """Sort by seed and split; runs without one come last."""
    return (isinstance(run, Unreadable), run.pair if isinstance(run, Run) else (0, 0), run.folder)


def with_splits(
    arms: Mapping[str, Sequence[Run | Unreadable]],
) -> dict[str, list[Run | Unreadable]]:
    """Return the runs of all arms, with the splits by which they are to be paired.

    A run whose split an older version did not record is of the split whose data have the same
    fingerprint; where all that is known is one split, all are of that one. Where no arm has a seed
    on two splits, runs are paired by seed alone, whatever their splits.
    """
    runs = [run for members in arms.values() for run in members if isinstance(run, Run)]
    known = {run.data_fingerprint: run for run in runs if run.split is not None}
    alone = len({run.split for run in known.values()}) == 1
    several = any(_has_a_seed_twice(members) for members in arms.values())

    def completed(run: Run | Unreadable) -> Run | Unreadable:
        if isinstance(run, Unreadable):
            return run
        if not (several or alone):
            return replace(run, split=None)
        like = known.get(run.data_fingerprint) or (next(iter(known.values())) if alone else None)
        if run.split is not None or like is None:
            return run
        kind = {"split_key": like.split_key, "split_fresh": like.split_fresh}
        return replace(run, split=like.split, **kind)

    return {name: [completed(run) for run in members] for name, members in arms.items()}


def _has_a_seed_twice(runs: Sequence[Run | Unreadable]) -> bool:
    seeds = [run.seed for run in runs if isinstance(run, Run)]
    return len(set(seeds)) < len(seeds)


def _read_curves(path: Path, *, finished: bool) -> dict[str, Curve]:
    if not finished and not path.exists():
        return {}
    curves: dict[str, list[tuple[int, float]]] = {}
    for number, (step, name, value) in enumerate(read_metrics(path, whole=finished), start=1):
        curve = curves.setdefault(name, [])
        if curve and step <= curve[-1][0]:
            rule = f"the steps of {name} must increase"
            raise RecordError(f"{path}, line {number}: {rule}, got {step} after {curve[-1][0]}")
        curve.append((step, value))
    return {name: tuple(curve) for name, curve in curves.items()}


def tested_weights(runs: Sequence[Run]) -> str:
    """Return whose weights tests had: ``best`` if all of these runs', else ``last``."""
    tested = {run.tested == "best" for run in runs if run.status == "finished"}
    return "best" if tested == {True} else "last"
