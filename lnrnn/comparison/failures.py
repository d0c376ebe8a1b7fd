"""Two questions apart: how often does a run fail, and how good is it where it does not?

One mean over both answers neither. A run fails if it has no complete result, or if no validation of
it makes half of the improvement that the baseline's median curve makes.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from scipy import stats

from lnrnn.comparison.arms import Measure, by_seed
from lnrnn.comparison.claims import Outcome, compare_arms, supported_failures
from lnrnn.comparison.records import Run
from lnrnn.comparison.splits import SplitPair, is_several
from lnrnn.comparison.statistics import LEVEL, holm
from lnrnn.comparison.targets import first_step
from lnrnn.comparison.tuning import GridPair

ENDED = ("finished", "failed")  # others may still succeed


def failed(run: Run, halfway: float | None) -> bool:
    """Return whether a run that ended has no complete result or did not learn.

    Args:
        run: The run.
        halfway: The validation value halfway through the baseline's improvement; None where the
            baseline does not improve.
    """
    if run.test_value is None or run.validation_mean is None:
        return True
    return halfway is not None and first_step(run, halfway) is None


def successes(runs: Sequence[Run], halfway: float | None, measure: Measure) -> dict[int, float]:
    """Return an outcome by seed, of the seeds of which no run failed."""
    lost = {run.seed for run in runs if failed(run, halfway)}
    return by_seed([run for run in runs if run.seed not in lost], measure)


def compare_failures(
    arms: Mapping[str, Sequence[Run]], halfway: float | None, look: int = 1
) -> list[dict[str, Any]]:
    """Return, for each arm beside the first, whether it fails more or less often.

    The test is exact, on the pairs in which one run fails and the other does not (McNemar's, a sign
    test). Holm corrects over the arms.

    Args:
        arms: Every arm's readable runs; the first arm is the baseline.
        halfway: As for ``failed``.
        look: As for ``alpha_of``.

    Returns:
        One entry ``"failures"`` of a pair in ``compare.json`` each: how many runs of how many pairs
        failed in the baseline and in the arm, the rate that may be hidden behind each number, and
        the test. With several splits seeds are counted, of which any run failed.
    """
    first, *others = [_outcomes(runs, halfway) for runs in arms.values()]
    several = is_several([run for runs in arms.values() for run in runs])
    counted = [
        [(first[seed], other[seed]) for seed in sorted(first.keys() & other.keys())]
        for other in others
    ]
    p_values = [_p(pairs) for pairs in counted]
    return [
        {
            "baseline": sum(one for one, _ in pairs),
            "arm": sum(other for _, other in pairs),
            "of": len(pairs),
            "counted": "seeds" if several else "runs",
            "baseline_at_most": at_most(sum(one for one, _ in pairs), len(pairs)),
            "arm_at_most": at_most(sum(other for _, other in pairs), len(pairs)),
            "p": p,
            "p_holm": p_holm,
            "supported": supported_failures(p_holm, look),
        }
        for pairs, p, p_holm in zip(counted, p_values, holm(p_values), strict=True)
    ]


def _outcomes(runs: Sequence[Run], halfway: float | None) -> dict[int, bool]:
    """Return by seed whether a run failed; with several splits, whether one of them did."""
    found: dict[int, bool] = {}
    for run in runs:
        if run.status in ENDED:
            found[run.seed] = found.get(run.seed, False) or failed(run, halfway)
    return found


def _p(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    return exact_p(
        sum(one and not other for one, other in pairs),
        sum(other and not one for one, other in pairs),
    )


def exact_p(only_first: int, only_second: int) -> float | None:
    """Return the p-value of McNemar's exact test; None where no pair is split.

    Args:
        only_first: In how many pairs the first run alone failed.
        only_second: In how many pairs the second.
    """
    apart = only_first + only_second
    return float(stats.binomtest(only_first, apart).pvalue) if apart else None


def at_most(count: int, n: int) -> float | None:
    """Return the rate of failure that a count does not exclude: the upper bound at 95 %, one-sided.

    Example:
        No failure in ten runs leaves room for a rate of one in four.

        >>> round(at_most(0, 10), 3)
        0.259

    Reference:
        Clopper and Pearson, Biometrika 26 (1934).
    """
    if not n:
        return None
    return 1.0 if count == n else float(stats.beta.ppf(LEVEL, count + 1, n - count))


def given_success(
    arms: Mapping[str, Sequence[Run]],
    halfway: float | None,
    measure: Measure,
    grids: Sequence[GridPair] | None = None,
    crossed: Sequence[SplitPair] | None = None,
    look: int = 1,
) -> list[Outcome]:
    """Compare every arm with the first on the pairs in which neither run failed.

    Args:
        arms: Every arm's readable runs; the first arm is the baseline.
        halfway: As for ``failed``.
        measure: The outcome.
        grids: One for each arm beside the first, where learning rates were chosen on these seeds.
        crossed: One for each, where every seed was run on several splits.
        look: As for ``compare_arms``.
    """
    direction = next(run.higher_is_better for runs in arms.values() for run in runs)
    baseline, *others = [successes(runs, halfway, measure) for runs in arms.values()]

    def of_success(run: Run) -> float | None:
        return None if failed(run, halfway) else measure(run)

    choices = None if grids is None else [partial(pair.p, of_success) for pair in grids]
    judges = None if crossed is None else [partial(pair.judge, measure) for pair in crossed]
    asked = {"higher_is_better": direction, "look": look}
    return compare_arms(baseline, others, choices=choices, judges=judges, **asked)
