"""From run folders to ``compare.json``, a table and a figure.

The primary outcome is the test metric at the end; the second is the mean of the validation metric
over training, which shows faster learning where the end is equal. Each outcome is one Holm family:
as many tests as there are arms beside the baseline, which is the first arm.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lnrnn.comparison.plots import learning_curves, png
from lnrnn.comparison.records import RecordError, Run, RunOrFolder, Unreadable, read_runs
from lnrnn.comparison.statistics import (
    LEVEL,
    Paired,
    compare_pairs,
    holm,
    mean_and_sd,
)
from lnrnn.comparison.targets import steps_to_target
from lnrnn.comparison.validity import (
    check_arm,
    check_pairing,
    check_strength,
    check_surroundings,
    differing,
)
from lnrnn.comparison.wording import decimals, verdict

Arms = Mapping[str, Sequence[Run | Unreadable]]
Measure = Callable[[Run], float | None]
Outcome = tuple[Paired, float | None]  # with the p-value after Holm


def compare(arms: Mapping[str, Sequence[RunOrFolder]]) -> dict[str, Any]:
    """Compare arms with the first of them, run by run with the same seed.

    Args:
        arms: Each arm's run folders, or runs that were read before. Runs that failed belong here
            too: they are counted and named.

    Returns:
        What ``compare.json`` holds, in the order in which it holds it. A number that does not exist
        is None, and ``"warnings"`` says why.

    Raises:
        ValueError: If there is no arm, no readable run, one seed twice in an arm, or if the runs
            are of different data or metrics, which nothing could compare.
    """
    runs: Arms = {name: read_runs(folders) for name, folders in arms.items()}
    readable = [run for members in runs.values() for run in members if isinstance(run, Run)]
    _check_comparable(runs, readable)
    first = readable[0]
    at_end = _outcomes(runs, _test_value, first)
    over_training = _outcomes(runs, _validation_mean, first)
    targets = steps_to_target({name: _readable(members) for name, members in runs.items()})
    warnings = [line for name, members in runs.items() for line in check_arm(name, members)]
    warnings += [*check_surroundings(readable), *_check_pairs(runs, at_end)]
    if not targets:
        warnings.append(f"no targets: no median val/{first.metric} of the baseline that improves")
    return {
        "data": first.data,
        "metric": first.metric,
        "higher_is_better": first.higher_is_better,
        "seeds": sorted({run.seed for run in readable}),
        "commit": _shared([run.commit for run in readable]),
        "versions": _shared_table([run.versions for run in readable]),
        "machine": _shared_table([run.machine for run in readable]),
        "data_fingerprint": _shared([run.data_fingerprint for run in readable]),
        "arms": [_describe_arm(name, members) for name, members in runs.items()],
        "pairs": [
            _describe_pair(runs, *pair, first)
            for pair in zip([*runs][1:], at_end, over_training, strict=True)
        ],
        "steps_to_target": targets,
        "warnings": warnings,
    }


def write(
    result: Mapping[str, Any],
    arms: Mapping[str, Sequence[RunOrFolder]],
    folder: str | os.PathLike[str],
) -> list[Path]:
    """Write ``compare.json`` and ``learning_curves.png``, each whole or not at all.

    Args:
        result: What ``compare`` returned.
        arms: What ``compare`` was given; the figure is drawn from it.
        folder: Where to write; made if it is not there.

    Returns:
        The files written. The figure is missing if no run has a validation curve.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    written = [_replace(target / "compare.json", text.encode())]
    runs = {name: _readable(read_runs(folders)) for name, folders in arms.items()}
    figure = learning_curves(runs)
    if figure is not None:
        written.append(_replace(target / "learning_curves.png", png(figure)))
    return written


def _replace(path: Path, content: bytes) -> Path:
    """Write a file under another name first, so that no reader ever sees half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return path


def _readable(runs: Sequence[Run | Unreadable]) -> list[Run]:
    return [run for run in runs if isinstance(run, Run)]


def _check_comparable(runs: Arms, readable: Sequence[Run]) -> None:
    if not runs:
        raise ValueError("a comparison needs at least one arm, got none")
    if not readable:
        errors = [str(run.error) for members in runs.values() for run in members]
        listed = "; ".join(errors) or "no folder was given"
        raise RecordError(f"a comparison needs at least one run that can be read: {listed}")
    for what in ("data", "metric", "higher_is_better"):
        values = sorted({str(getattr(run, what)) for run in readable})
        if len(values) > 1:
            raise ValueError(f"the runs of a comparison share one {what}, got {', '.join(values)}")
    for name, members in runs.items():
        seeds = [run.seed for run in _readable(members)]
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"an arm has one run a seed, but {name} has the seeds {seeds}")


def _shared(values: Sequence[Any]) -> Any:
    """Return what all values are, None if they differ (a warning then says so)."""
    return values[0] if all(value == values[0] for value in values) else None


def _shared_table(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the entries of all tables, None for those that differ, sorted by key."""
    apart = differing(tables)
    merged = {key: value for table in tables for key, value in table.items()}
    return {key: None if key in apart else merged[key] for key in sorted(merged)}


def _describe_arm(name: str, runs: Sequence[Run | Unreadable]) -> dict[str, Any]:
    readable = _readable(runs)
    mean, sd = mean_and_sd([*_by_seed(runs, _test_value).values()])
    validation_mean, validation_sd = mean_and_sd([*_by_seed(runs, _validation_mean).values()])
    sizes = [run.parameters for run in readable if run.parameters is not None]
    times = [run.seconds_per_step for run in readable if run.seconds_per_step is not None]
    return {
        "name": name,
        "overrides": _common_overrides(readable),
        "parameters": sizes[0] if sizes else None,
        "seconds_per_step": float(np.median(times)) if times else None,
        "mean": mean,
        "sd": sd,
        "validation_mean": {"mean": validation_mean, "sd": validation_sd},
        "runs": [_describe_run(run) for run in runs],
    }


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
    if isinstance(run, Unreadable):
        seed, status, value, validation_mean = None, "unreadable", None, None
    else:
        seed, status, value = run.seed, run.status, run.test_value
        validation_mean = run.validation_mean
    return {
        "seed": seed,
        "folder": run.folder,
        "status": status,
        "value": value,
        "validation_mean": validation_mean,
    }


def _test_value(run: Run) -> float | None:
    return run.test_value


def _validation_mean(run: Run) -> float | None:
    return run.validation_mean


def _by_seed(runs: Sequence[Run | Unreadable], measure: Measure) -> dict[int, float]:
    """Return the measure of every run that has it, by seed."""
    values = {run.seed: measure(run) for run in _readable(runs)}
    return {seed: value for seed, value in values.items() if value is not None}


def _outcomes(runs: Arms, measure: Measure, first: Run) -> list[Outcome]:
    """Compare every arm with the first on the seeds that both have, and correct the p-values."""
    baseline, *others = [_by_seed(members, measure) for members in runs.values()]
    found = []
    for arm in others:
        seeds = sorted(baseline.keys() & arm.keys())
        found.append(
            compare_pairs(
                [baseline[seed] for seed in seeds],
                [arm[seed] for seed in seeds],
                higher_is_better=first.higher_is_better,
            )
        )
    corrected = holm([paired.p_sign_flip for paired in found])
    return list(zip(found, corrected, strict=True))


def _describe_pair(
    runs: Arms, arm: str, at_end: Outcome, over_training: Outcome, first: Run
) -> dict[str, Any]:
    baseline, metric = next(iter(runs)), first.metric.replace("_", " ")
    words = [
        _in_words(f"test {metric}", at_end, runs, _test_value, first),
        _in_words(f"mean validation {metric}", over_training, runs, _validation_mean, first),
    ]
    return {
        "baseline": baseline,
        "arm": arm,
        **_describe_outcome(at_end),
        "validation_difference": _describe_outcome(over_training),
        "verdict": f"{arm} against {baseline}: at the end, {words[0]}; over training, {words[1]}.",
    }


def _in_words(name: str, outcome: Outcome, runs: Arms, measure: Measure, first: Run) -> str:
    sds = [mean_and_sd([*_by_seed(members, measure).values()])[1] for members in runs.values()]
    direction = first.higher_is_better
    return verdict(name, *outcome, higher_is_better=direction, digits=decimals(sds))


def _describe_outcome(outcome: Outcome) -> dict[str, Any]:
    paired, p_holm = outcome
    return {
        "n": paired.n,
        "difference": paired.difference,
        "interval": None if paired.interval is None else list(paired.interval),
        "level": LEVEL,
        "p_sign_flip": paired.p_sign_flip,
        "p_holm": p_holm,
        "probability_better": paired.probability_better,
    }


def _check_pairs(runs: Arms, outcomes: Sequence[Outcome]) -> list[str]:
    (baseline, base_runs), *others = runs.items()
    found = []
    for arm, members in others:
        found += check_pairing(baseline, _with_value(base_runs), arm, _with_value(members))
    pairs = {
        f"{arm} against {baseline}": paired
        for (arm, _), (paired, _) in zip(others, outcomes, strict=True)
    }
    tests = sum(p_holm is not None for _, p_holm in outcomes)
    return [*found, *check_strength(pairs, tests)]


def _with_value(runs: Sequence[Run | Unreadable]) -> dict[int, Run]:
    return {run.seed: run for run in _readable(runs) if run.test_value is not None}
