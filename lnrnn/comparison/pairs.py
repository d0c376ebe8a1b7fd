"""What a comparison says of one arm beside the first."""

from collections.abc import Mapping, Sequence
from typing import Any

from lnrnn.comparison.arms import BEST, TEST_VALUE, VALIDATION_MEAN, Measure, by_seed
from lnrnn.comparison.claims import Outcome
from lnrnn.comparison.examples import compare_examples
from lnrnn.comparison.primary import PARTS as PRIMARY_PARTS
from lnrnn.comparison.records import Run, tested_weights
from lnrnn.comparison.splits import SplitPair, describe_splits
from lnrnn.comparison.statistics import LEVEL, alpha_of
from lnrnn.comparison.verdicts import verdict_parts
from lnrnn.comparison.wording import sentences


def describe_pair(
    known: Mapping[str, Sequence[Run]],
    arm: str,
    outcomes: Mapping[Measure, Outcome],
    rungs: Sequence[Mapping[str, Any]],
    success: tuple[Mapping[str, Any], Outcome],
    primary: str,
    look: int,
    crossed: SplitPair | None,
) -> dict[str, Any]:
    """Return what is said of an arm and the first.

    Args:
        known: The runs of each arm that could be read.
        arm: The name of the arm.
        outcomes: How it compares with the first by each measure.
        rungs: Its speed-up to each target.
        success: The failures of both, and their outcome given success.
        primary: The endpoint that the comparison is about.
        look: 1 for a comparison whose result nobody has seen yet.
        crossed: Both arms on several splits; None on one.
    """
    failures, succeeded = success
    parts = verdict_parts(known, arm, outcomes, rungs, success)
    baseline = next(iter(known))
    parts |= {"primary": None if parts["same_runs"] else PRIMARY_PARTS[primary]}
    parts |= {"tested": tested_weights([*known[baseline], *known[arm]])}
    level = LEVEL if look == 1 else 1 - alpha_of(look)
    compared = [by_seed(known[name], TEST_VALUE) for name in (baseline, arm)]
    seeds = sorted(compared[0].keys() & compared[1].keys())
    return {
        "baseline": baseline,
        "arm": arm,
        **_describe_outcome(outcomes[TEST_VALUE], level),
        "validation_difference": _describe_outcome(outcomes[VALIDATION_MEAN], level),
        "best_difference": _describe_outcome(outcomes[BEST], level),
        "examples": compare_examples(known[baseline], known[arm], level),
        "splits": describe_splits(crossed, TEST_VALUE, seeds),
        "failures": failures,
        "given_success": _describe_outcome(succeeded, level),
        "speed": rungs,
        "verdict": f"{parts['title']}: {sentences(parts)}",
        "verdict_parts": parts,
    }


def _describe_outcome(outcome: Outcome, level: float) -> dict[str, Any]:
    paired = outcome.paired
    return {
        "n": paired.n,
        "difference": paired.difference,
        "interval": None if paired.interval is None else list(paired.interval),
        "level": level,
        "p_sign_flip": paired.p_sign_flip,
        "p_choice": outcome.p_choice,
        "p_splits": outcome.p_splits,
        "p_holm": outcome.p_holm,
        "probability_better": paired.probability_better,
        "bootstrap": None if outcome.bootstrap is None else list(outcome.bootstrap),
        "supported": outcome.supported,
        "fragile": list(outcome.fragile),
    }
