"""The parts of a verdict on one arm: what each outcome says of it, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from lnrnn.comparison.arms import TEST_VALUE, VALIDATION_MEAN, Measure, by_seed
from lnrnn.comparison.claims import Outcome
from lnrnn.comparison.records import Run
from lnrnn.comparison.statistics import mean_and_sd
from lnrnn.comparison.wording import PARTS, decimals, failure_verdict, speed_verdict, verdict

Known = Mapping[str, Sequence[Run]]  # every arm's runs that could be read


def verdict_parts(
    known: Known,
    arm: str,
    outcomes: Mapping[Measure, Outcome],
    rungs: Sequence[Mapping[str, Any]],
    success: tuple[Mapping[str, Any], Outcome],
) -> dict[str, str | None]:
    """Say of one arm how fast it learns and where it ends; None where there is nothing to say."""
    baseline = next(iter(known))
    parts = {"title": f"{arm} against {baseline}", **dict.fromkeys(PARTS)}
    pairs = outcomes[TEST_VALUE].paired.n * outcomes[TEST_VALUE].splits
    if pairs and {run.folder for run in known[baseline]} == {run.folder for run in known[arm]}:
        same = f"no difference, both are the same {pairs} runs, so no test was run"
        return parts | {"same_runs": same}
    metric = next(run for runs in known.values() for run in runs).metric.replace("_", " ")
    return parts | {
        "over_training": _in_words(f"mean validation {metric}", VALIDATION_MEAN, outcomes, known),
        "speed": speed_verdict(rungs),
        "at_end": _in_words(f"test {metric}", TEST_VALUE, outcomes, known),
        "failures": _failures_in_words(f"test {metric}", success, known),
    }


def _in_words(
    name: str, measure: Measure, outcomes: Mapping[Measure, Outcome], known: Known
) -> str:
    sds = [mean_and_sd([*by_seed(members, measure).values()])[1] for members in known.values()]
    direction = next(run for runs in known.values() for run in runs).higher_is_better
    return verdict(name, outcomes[measure], higher_is_better=direction, digits=decimals(sds))


def _failures_in_words(
    name: str, success: tuple[Mapping[str, Any], Outcome], known: Known
) -> str | None:
    """Say how often runs fail, and how the others compare; None where none failed."""
    failures, succeeded = success
    if not failures["baseline"] + failures["arm"]:
        return None
    sds = [mean_and_sd([*by_seed(runs, TEST_VALUE).values()])[1] for runs in known.values()]
    direction = next(run for runs in known.values() for run in runs).higher_is_better
    others = verdict(name, succeeded, higher_is_better=direction, digits=decimals(sds))
    return failure_verdict(failures, others)
