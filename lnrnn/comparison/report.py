"""From run folders to what ``compare.json`` holds.

The first outcome is the test metric at the end; the second the mean of the validation metric over
training, which shows faster learning where the end is equal; the third its best value. Each is one
Holm family: as many tests as there are arms beside the baseline, which is the first arm. One of
them, or the speed, is primary.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from lnrnn.comparison.arms import (
    BEST,
    TEST_VALUE,
    VALIDATION_MEAN,
    Measure,
    by_seed,
    describe_arm,
    readable_runs,
)
from lnrnn.comparison.claims import Outcome, compare_arms
from lnrnn.comparison.conditions import check_ceiling, check_clipping, check_clock
from lnrnn.comparison.configuration import describe_configuration
from lnrnn.comparison.endpoints import check_endpoint
from lnrnn.comparison.examples import check_examples
from lnrnn.comparison.failures import compare_failures, given_success
from lnrnn.comparison.looks import Look, check_looks, looks_with
from lnrnn.comparison.pairs import describe_pair
from lnrnn.comparison.primary import (
    check_named,
    describe_primary,
    mark_primary,
)
from lnrnn.comparison.records import (
    RecordError,
    Run,
    RunOrFolder,
    Unreadable,
    read_runs,
    tested_weights,
    with_splits,
)
from lnrnn.comparison.speed import Cost, speed
from lnrnn.comparison.splits import (
    SplitPair,
    check_splits,
    is_several,
    on_shared_splits,
)
from lnrnn.comparison.targets import check_grid, steps_to_target
from lnrnn.comparison.tuning import (
    EVERY_SEED,
    OWN_SEEDS,
    GridPair,
    Tuning,
    check_tuning,
    describe_tuning,
    read_grid,
)
from lnrnn.comparison.validity import (
    check_arm,
    check_initial_values,
    check_pairing,
    check_speed_strength,
    check_streams,
    check_strength,
    check_surroundings,
    differing,
    without_result,
)

Arms = Mapping[str, Sequence[Run | Unreadable]]
Known = Mapping[str, Sequence[Run]]  # the runs that could be read

MEASURES = (TEST_VALUE, VALIDATION_MEAN, BEST)

SHOWN = 3  # errors that are listed where no run can be read


def compare(
    arms: Mapping[str, Sequence[RunOrFolder]],
    *,
    cost: Mapping[str, Any] | None = None,
    tuning: Tuning | None = None,
    grid: Tuning | None = None,
    primary: str = "final",
    named: str | None = None,
    looks: Sequence[int | Sequence[int]] = (),
    command: str | None = None,
) -> dict[str, Any]:
    """Compare arms with the first of them, run by run with the same seed on the same split.

    Args:
        arms: Each arm's run folders, or runs that were read before. Runs that failed belong here
            too: they are counted and named.
        cost: What ``lnrnn.study.step_cost`` returned for the same arms; without it nothing is
            said about seconds.
        tuning: Arm -> learning rate -> its runs, on seeds of their own, where the arms were tuned.
            No test knows of that choice.
        grid: Arm -> learning rate -> its runs, on the seeds of the comparison; ``arms`` holds those
            at the rates that ``choose_rates(grid)`` chose. The tests make the choice anew.
        primary: The endpoint that the comparison is about: "final", "area" or "steps_to_90".
        named: The endpoint that was named before the runs, where that is known.
        looks: How many seeds each earlier result of this comparison had that somebody saw; or with
            several splits, how many seeds and splits.
        command: What was typed to make it, where that is known.

    Returns:
        What ``compare.json`` holds, in the order in which it holds it. A number that does not exist
        is None, and ``"warnings"`` says why.

    Raises:
        ValueError: If there is no arm, no readable run, one seed twice in an arm and split, or if
            the runs are of different data, metrics or splits, which nothing could compare; or no
            such endpoint, or what no test over several splits accounts for.
    """
    check_endpoint(primary)
    read = with_splits({name: read_runs(folders) for name, folders in arms.items()})
    runs, warnings = on_shared_splits(read)
    known = {name: readable_runs(members) for name, members in runs.items()}
    readable = [run for members in known.values() for run in members]
    _check_comparable(runs, readable)
    first = readable[0]
    seeds = sorted({run.seed for run in readable})
    splits = sorted({run.split for run in readable}, key=lambda split: (split is not None, split))
    seen = looks_with(looks, Look(len(seeds), len(splits)))
    look = len(seen)
    grids, crossed = _grid_pairs(grid, known), _split_pairs(known)
    _check_several(crossed, grid or tuning, primary)
    outcomes = {measure: _outcomes(known, measure, grids, crossed, look) for measure in MEASURES}
    targets = steps_to_target(known, _step_times(cost))
    halfway = targets[0]["target"] if targets else None
    if crossed:
        targets = []  # each split would have its own
    speeds, clock_warnings = _speed(known, targets, cost, grids, look)
    tuned = _describe_tuning(tuning, grid)
    validity, validity_warnings = _validity(runs, known)
    warnings += [line for name, members in runs.items() for line in check_arm(name, members)]
    warnings += [*check_surroundings(readable), *validity_warnings]
    warnings += [*_check_pairs(known, outcomes[TEST_VALUE]), *check_speed_strength(speeds)]
    warnings += check_grid(targets, known)
    if halfway is None:
        warnings.append(f"no targets: the median val/{first.metric} of the baseline never improves")
    warnings += [*clock_warnings, *check_clock(cost), *check_clipping(known), *check_ceiling(known)]
    warnings += check_tuning(tuned, seeds) if tuned else []
    warnings += [*check_looks(seen), *check_named(primary, named)]
    failures = compare_failures(known, halfway, look)
    succeeded = given_success(known, halfway, TEST_VALUE, grids, crossed, look)
    pairs = [
        describe_pair(
            known,
            arm,
            {m: outcomes[m][place] for m in MEASURES},
            rungs,
            (failures[place], succeeded[place]),
            primary,
            look,
            crossed[place] if crossed else None,
        )
        for place, (arm, rungs) in enumerate(zip([*runs][1:], speeds, strict=True))
    ]
    mark_primary(pairs, primary, look)
    warnings += check_examples([pair["verdict_parts"]["title"] for pair in pairs], pairs)
    return {
        "command": command,
        "data": first.data,
        "metric": first.metric,
        "higher_is_better": first.higher_is_better,
        "primary": describe_primary(primary, named, seen, tested_weights(readable)),
        "tested": tested_weights(readable),
        "seeds": seeds,
        "splits": splits,
        "commit": _shared([run.commit for run in readable]),
        "versions": _shared_table([run.versions for run in readable]),
        "machine": _shared_table([run.machine for run in readable]),
        "data_fingerprint": _shared([run.data_fingerprint for run in readable]),
        "arms": [describe_arm(name, members) for name, members in runs.items()],
        "pairs": pairs,
        "steps_to_target": targets,
        "cost": cost,
        "tuning": tuned,
        "validity": validity,
        "warnings": warnings,
    }


def _check_comparable(runs: Arms, readable: Sequence[Run]) -> None:
    if not runs:
        raise ValueError("a comparison needs at least one arm, got none")
    if not readable:
        errors = [str(run.error) for members in runs.values() for run in members]
        listed = "; ".join(errors[:SHOWN]) or "no folder was given"
        if len(errors) > SHOWN:
            listed += f"; and {len(errors) - SHOWN} more"
        raise RecordError(f"a comparison needs at least one run that can be read: {listed}")
    for what in ("data", "metric", "higher_is_better"):
        values = sorted({str(getattr(run, what)) for run in readable})
        if len(values) > 1:
            raise ValueError(f"the runs of a comparison share one {what}, got {', '.join(values)}")
    for name, members in runs.items():
        pairs = [run.pair for run in readable_runs(members)]
        if len(set(pairs)) < len(pairs):
            rule = "one run per seed" + (" and split" if len({s for _, s in pairs}) > 1 else "")
            seeds = [seed for seed, _ in pairs]
            raise ValueError(f"an arm has {rule}, but {name} has the seeds {seeds}")
    check_splits({name: readable_runs(members) for name, members in runs.items()})


def _shared(values: Sequence[Any]) -> Any:
    """Return what all values are, None if they differ (a warning then says so)."""
    return values[0] if all(value == values[0] for value in values) else None


def _shared_table(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the entries of all tables, None for those that differ, sorted by key."""
    apart = differing(tables)
    merged = {key: value for table in tables for key, value in table.items()}
    return {key: None if key in apart else merged[key] for key in sorted(merged)}


def _grid_pairs(grid: Tuning | None, known: Known) -> list[GridPair] | None:
    """Return the grids of every arm beside the first; None where no rate was chosen on them."""
    if grid is None:
        return None
    first, *others = known
    read = read_grid(grid)
    return [GridPair(read[first], read[arm]) for arm in others]


def _split_pairs(known: Known) -> list[SplitPair] | None:
    """Return every arm beside the first with it; None where all runs are on one split."""
    first, *others = known.values()
    if not first or not is_several(first):
        return None
    return [SplitPair(first, other) for other in others]


def _check_several(crossed: Sequence[SplitPair] | None, tuned: Tuning | None, primary: str) -> None:
    """Raise ValueError at what no test over several splits accounts for."""
    if crossed is None:
        return
    if tuned is not None:
        raise ValueError("no test accounts for several splits and the choice of learning rates")
    if primary == "steps_to_90":
        raise ValueError("steps to a target are not compared over several splits")


def _describe_tuning(tuning: Tuning | None, grid: Tuning | None) -> dict[str, Any] | None:
    if grid is not None:
        return describe_tuning(grid, EVERY_SEED)
    return None if tuning is None else describe_tuning(tuning, OWN_SEEDS)


def _outcomes(
    known: Known,
    measure: Measure,
    grids: Sequence[GridPair] | None,
    crossed: Sequence[SplitPair] | None,
    look: int,
) -> list[Outcome]:
    """Compare every arm with the first on the seeds that both have, and correct the p-values."""
    baseline, *others = [by_seed(members, measure) for members in known.values()]
    return compare_arms(
        baseline,
        others,
        higher_is_better=_any_run(known).higher_is_better,
        choices=None if grids is None else [partial(pair.p, measure) for pair in grids],
        judges=None if crossed is None else [partial(pair.judge, measure) for pair in crossed],
        look=look,
    )


def _any_run(known: Known) -> Run:
    """Return a run, for what all runs of a comparison share."""
    return next(run for members in known.values() for run in members)


def _step_times(cost: Mapping[str, Any] | None) -> dict[str, float]:
    return {arm["name"]: arm["seconds_per_step"] for arm in cost["arms"]} if cost else {}


def _speed(
    known: Known,
    targets: Sequence[Mapping[str, Any]],
    cost: Mapping[str, Any] | None,
    grids: Sequence[GridPair] | None,
    look: int,
) -> tuple[list[list[dict[str, Any]]], list[str]]:
    """Return the speed-up ladder of every arm beside the first, and why seconds are missing."""
    baseline, *others = known
    asked = {"grids": grids, "look": look}
    if cost is None:
        text = "no step times were measured side by side, so nothing is said about seconds"
        return speed(known, targets, **asked), [text] if others else []
    measured = {arm["name"]: arm for arm in cost["arms"]}
    if others and next(iter(measured), None) != baseline:
        text = f"the step times are not relative to {baseline}, so nothing is said about seconds"
        return speed(known, targets, **asked), [text]
    costs = {
        name: Cost(measured[name]["ratio"], tuple(measured[name]["ratio_quartiles"]))
        for name in others
        if name in measured and measured[name]["ratio"] is not None
    }
    missing = [name for name in others if name not in costs]
    reason = "its step time was not measured, so nothing is said about seconds"
    return speed(known, targets, costs, **asked), [f"{name}: {reason}" for name in missing]


def _validity(runs: Arms, known: Known) -> tuple[dict[str, Any], list[str]]:
    """Return what a reader checks before believing a comparison, and warnings."""
    readable = [run for members in known.values() for run in members]
    paired, checked, start_warnings = check_initial_values(known)
    streams, stream_warnings = check_streams(known)
    configuration, configuration_warnings = describe_configuration(known)
    failed = [line for name, members in runs.items() for line in without_result(name, members)]
    described = {
        "paired_initial_values": paired,
        "checked_parameters": checked,
        "paired_streams": streams,
        **configuration,
        "split_sizes": _shared([run.split_sizes for run in readable]),
        "steps": sorted({run.steps for run in readable if run.status == "finished" and run.steps}),
        "commits": sorted({str(run.commit) for run in readable}),
        "data_fingerprints": sorted({str(run.data_fingerprint) for run in readable}),
        "threads": sorted({str(run.machine.get("threads")) for run in readable}),
        "failed_runs": failed,
    }
    return described, [*start_warnings, *stream_warnings, *configuration_warnings]


def _check_pairs(known: Known, outcomes: Sequence[Outcome]) -> list[str]:
    (baseline, base_runs), *others = known.items()
    found = []
    for arm, members in others:
        found += check_pairing(baseline, _with_value(base_runs), arm, _with_value(members))
    pairs = {
        f"{arm} against {baseline}": outcome.paired
        for (arm, _), outcome in zip(others, outcomes, strict=True)
    }
    tests = sum(outcome.p_holm is not None for outcome in outcomes)
    return [*found, *check_strength(pairs, tests)]


def _with_value(runs: Sequence[Run]) -> dict[tuple[int, int], Run]:
    return {run.pair: run for run in runs if run.test_value is not None}
