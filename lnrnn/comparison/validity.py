"""What a reader must know before believing a comparison.

Every check returns sentences, in a fixed order. Nothing here changes a number.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lnrnn.comparison.records import Run, Unreadable
from lnrnn.comparison.splits import check_data, check_sources
from lnrnn.comparison.statistics import (
    CLAIM_PAIRS,
    STEADY_PAIRS,
    Paired,
    pairs_needed,
)
from lnrnn.comparison.wording import TOO_FEW


def check_arm(name: str, runs: Sequence[Run | Unreadable]) -> list[str]:
    """Name the runs of an arm that gave no result, and what differs within it.

    Args:
        name: The arm.
        runs: All its runs.
    """
    found = without_result(name, runs)
    if found:
        found.append(
            f"{name}: {len(found)} of {len(runs)} runs gave no complete result; the numbers come "
            "from the others and may flatter the arm"
        )
    if not runs:
        found.append(f"{name}: no run was given")
    readable = [run for run in runs if isinstance(run, Run)]
    models = sorted({run.model for run in readable})
    if len(models) > 1:
        found.append(f"{name}: its runs have different models: {', '.join(models)}")
    if len({run.parameters for run in readable if run.status == "finished"}) > 1:
        found.append(f"{name}: its runs have different numbers of parameters")
    return [*found, *check_sources(name, readable)]


def without_result(name: str, runs: Sequence[Run | Unreadable]) -> list[str]:
    """Name an arm's runs that gave no complete result, and why, a sentence each."""
    return [f"{name}: {reason}" for run in runs if (reason := _without_result(run))]


def _without_result(run: Run | Unreadable) -> str | None:
    """Say why a run has no test value or no validation curve, None if it has both."""
    if isinstance(run, Unreadable):
        return f"a run cannot be read: {run.error}"
    place = f"seed {run.seed} ({run.folder})"
    if run.status != "finished":
        reason = f": {run.error}" if run.error else ""
        return f"{place} did not finish (status {run.status!r}){reason}"
    if run.test_value is None:
        state = "NaN or infinity" if f"test/{run.metric}" in run.metrics else "missing"
        return f"{place} finished, but test/{run.metric} is {state}"
    if run.validation_mean is None:
        measured = run.curve(f"val/{run.metric}")
        state = "is NaN or infinity at some steps" if measured else "is missing"
        return f"{place} finished, but val/{run.metric} {state}"
    return None


def check_surroundings(runs: Sequence[Run]) -> list[str]:
    """Name what differs between runs although a comparison needs it equal.

    Args:
        runs: Every readable run of every arm.
    """
    found = []
    found += check_data(runs)
    if len({run.commit for run in runs}) > 1:
        commits = sorted({str(run.commit) for run in runs})
        found.append(f"the runs come from different commits: {', '.join(commits)}")
    if len({run.tested == "best" for run in runs if run.status == "finished"}) > 1:
        found.append(
            "some runs tested the weights of their best validation and others their last "
            "(test=best or early_stopping): their test values cannot be compared"
        )
    versions = differing([run.versions for run in runs])
    if versions:
        found.append(f"the runs used different versions of {', '.join(versions)}")
    machine = differing([run.machine for run in runs])
    if machine:
        what = ", ".join(machine)
        found.append(f"the runs' machines differ in {what}: times per step cannot be compared")
    if "threads" in machine:
        counts = ", ".join(sorted({str(run.machine.get("threads")) for run in runs}))
        found.append(
            f"the runs used different numbers of threads ({counts}), which round differently: the "
            "same training then ends with other weights, and pairing by seed removes less noise"
        )
    return found


def differing(tables: Sequence[Mapping[str, object]]) -> list[str]:
    """Return the keys, sorted, whose value is not the same in all tables.

    Example:
        >>> differing([{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 1}])
        ['b']
    """
    keys = {key for table in tables for key in table}
    return sorted(key for key in keys if len({repr(table.get(key)) for table in tables}) > 1)


def check_pairing(
    baseline: str,
    base_runs: Mapping[tuple[int, int], Run],
    arm: str,
    arm_runs: Mapping[tuple[int, int], Run],
) -> list[str]:
    """Name what weakens the pairing of an arm with the baseline.

    Args:
        baseline: The baseline's name.
        base_runs: Its runs with a result, by seed and split.
        arm: The arm's name.
        arm_runs: Its runs with a result, by seed and split.
    """
    found, title = [], f"{arm} against {baseline}"
    if base_runs.keys() != arm_runs.keys():
        only = sorted({seed for seed, _ in base_runs.keys() ^ arm_runs.keys()})
        paired = len({seed for seed, _ in base_runs.keys() & arm_runs.keys()} - {*only})
        found.append(
            f"{title}: the seeds with a result are not the same, so only the {paired} they share "
            f"are paired (left out: {', '.join(map(str, only))})"
        )
    pairs = [(base_runs[seed], arm_runs[seed]) for seed in sorted(base_runs.keys() & arm_runs)]
    if any(_grid(first) != _grid(second) for first, second in pairs):
        found.append(
            f"{title}: validated at different steps, so the means over training cover different "
            "budgets or moments"
        )
    names = sorted({name for first, second in pairs for name in _unlike_start(first, second)})
    if names:
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        found.append(
            f"{title}: parameters with the same name start with different shapes or values, so "
            f"pairing by seed removes less noise: {shown}"
        )
    return found


def check_initial_values(arms: Mapping[str, Sequence[Run]]) -> tuple[bool, int, list[str]]:
    """Check that with one seed all arms start from the same values where they share a parameter.

    Args:
        arms: Every arm's readable runs; the first arm is the baseline.

    Returns:
        Whether it holds for every parameter checked, and at least one was; how many parameters, by
        name, an arm shares with the baseline; and arms of which nothing could be checked.
    """
    (baseline, base_runs), *others = arms.items()
    first = {run.pair: run for run in base_runs}
    checked: set[str] = set()
    apart, warnings = False, []
    for arm, runs in others:
        pairs = [(first[run.pair], run) for run in runs if run.pair in first]
        shared = {n for a, b in pairs for n in a.initial_parameters.keys() & b.initial_parameters}
        checked |= shared
        apart = apart or any(_unlike_start(*pair) for pair in pairs)
        if pairs and not shared:
            warnings.append(
                f"{arm} against {baseline}: they share no parameter whose initial value was "
                "recorded, so it is unknown whether the pairs start alike"
            )
    return bool(checked) and not apart, len(checked), warnings


def check_streams(arms: Mapping[str, Sequence[Run]]) -> tuple[bool | None, list[str]]:
    """Check that with one seed all arms see the data in one order and drop out alike.

    Args:
        arms: Every arm's readable runs; the first arm is the baseline.

    Returns:
        Whether it holds for every pair, None if a run did not record it; and what differs.
    """
    (baseline, base_runs), *others = arms.items()
    first = {run.pair: run for run in base_runs}
    known, found = True, []
    for arm, runs in others:
        pairs = [(first[run.pair], run) for run in runs if run.pair in first]
        for what, values in (
            ("data order", [(one.data_order, other.data_order) for one, other in pairs]),
            ("dropout stream", [(one.dropout_seed, other.dropout_seed) for one, other in pairs]),
        ):
            recorded = [pair for pair in values if None not in pair]
            known = known and recorded == values
            if any(one != other for one, other in recorded):
                found.append(
                    f"{arm} against {baseline}: runs with the same seed differ in their {what}, so "
                    "pairing by seed removes less noise"
                )
    return (False if found else True if known else None), found


def _grid(run: Run) -> tuple[int, ...]:
    return tuple(step for step, _ in run.curve(f"val/{run.metric}"))


def _unlike_start(first: Run, second: Run) -> list[str]:
    """Return the parameters that two runs share by name and not by initial value."""
    one, other = first.initial_parameters, second.initial_parameters
    return [name for name in one.keys() & other.keys() if one[name] != other[name]]


def check_strength(pairs: Mapping[str, Paired], tests: int) -> list[str]:
    """Say what this many pairs can support; pairs of which the same holds share a sentence.

    Args:
        pairs: The primary outcome of each pair, by title.
        tests: How many p-values Holm corrects together.
    """
    titles: dict[str, list[str]] = {}
    for title, paired in pairs.items():
        for sentence in _weaknesses(paired, tests):
            titles.setdefault(sentence, []).append(title)
    return [f"{', '.join(members)}: {sentence}" for sentence, members in titles.items()]


def check_speed_strength(speeds: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """Say if there are too few pairs for any claim of speed, though not for other claims.

    Args:
        speeds: The entry ``"speed"`` of every pair.
    """
    entries = [rung["steps"] for rungs in speeds for rung in rungs]
    tests = sum(entry["p_holm"] is not None for entry in entries)
    most, needed = max((entry["n"] for entry in entries), default=0), pairs_needed(tests)
    if not CLAIM_PAIRS <= most < needed:
        return []
    return [
        f"{most} pairs cannot support any claim of speed, because {tests} tests, one per target "
        f"and arm, are corrected together (Holm): use at least {needed} seeds, or name the one at "
        "90 % before the runs (primary=steps_to_90)"
    ]


def _weaknesses(paired: Paired, tests: int) -> list[str]:
    n, needed = paired.n, pairs_needed(tests)
    if n < CLAIM_PAIRS:
        rule = f"{TOO_FEW}: fewer than {CLAIM_PAIRS} cannot reach p < 0.05"
        return [f"{rule} (pairs: {n})"]
    found = []
    if n < needed:
        found.append(
            f"{n} pairs cannot support any claim, because {tests} comparisons are corrected "
            f"together (Holm): use at least {needed} seeds"
        )
    if n < STEADY_PAIRS:
        found.append(
            f"caution, only {n} pairs: {STEADY_PAIRS} or more are recommended, because intervals "
            "of few and skewed differences cover the truth less often than they say"
        )
    if paired.interval is not None and paired.interval[0] == paired.interval[1] != 0:
        found.append(
            f"all {n} differences are equal, so the interval has no width and the bootstrap has "
            "nothing to resample"
        )
    return found
