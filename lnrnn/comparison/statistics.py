"""What a few pairs of runs can tell, and what they cannot.

Two arms are compared seed by seed: with one seed they see the same data in the same order and start
from the same values, so the difference within a pair is freer of noise than the difference of two
means. Everything is computed on those n differences, arm minus baseline.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lnrnn.comparison.records import Curve

LEVEL = 0.95  # of every interval
ALPHA = 0.05  # of false claims, over all looks at one comparison
FIRST_LOOK = 0.8  # of ALPHA is spent at the first look, and of what is left at each further one
CLAIM_PAIRS = 6  # fewer cannot reach p < ALPHA: the smallest sign-flip p is 2 / 2**n
STEADY_PAIRS = 10  # with fewer, intervals of skewed differences cover a few per cent too little
EXACT_PAIRS = 20  # up to here every sign flip is enumerated: 2**19 sums
RANDOM_FLIPS = 99_999
RESAMPLES = 9_999  # of the bootstrap


def alpha_of(look: int) -> float:
    """Return below which corrected p-value a claim is supported at the first look, the second, ...

    A comparison to which seeds are added after its result was seen is another chance of a false
    claim. Each look spends a part of what the looks before it left of ``ALPHA``, so that all of
    them together, however many, stay within it.

    Args:
        look: 1 for a comparison whose result nobody has seen yet.

    Example:
        >>> [round(alpha_of(look), 5) for look in (1, 2, 3)]
        [0.04, 0.008, 0.0016]

    Reference:
        Lan and DeMets, "Discrete Sequential Boundaries for Clinical Trials", Biometrika 70 (1983).
    """
    return ALPHA * FIRST_LOOK * (1 - FIRST_LOOK) ** (look - 1)


@dataclass(frozen=True)
class Paired:
    """What n paired differences say; None stands for what they cannot say.

    Args:
        n: How many pairs there are.
        difference: Their mean, arm minus baseline; None without a pair.
        interval: Its paired-t interval (low, high); None below two pairs.
        p_sign_flip: Two-sided; None below two pairs and where every difference is zero.
        probability_better: Share of pairs in which the arm is better, ties counting half.
    """

    n: int
    difference: float | None
    interval: tuple[float, float] | None
    p_sign_flip: float | None
    probability_better: float | None


def mean_and_sd(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the mean and the standard deviation with n - 1, None where there are too few values.

    Example:
        >>> mean_and_sd([1.0, 2.0, 3.0]), mean_and_sd([1.0]), mean_and_sd([])
        ((2.0, 1.0), (1.0, None), (None, None))
    """
    if not values:
        return None, None
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), sd


def compare_pairs(
    baseline: Sequence[float],
    arm: Sequence[float],
    *,
    higher_is_better: bool,
    level: float = LEVEL,
    flips: int = RANDOM_FLIPS,
) -> Paired:
    """Compare an arm with the baseline, pair by pair.

    Args:
        baseline: The baseline's values, one a pair.
        arm: The arm's values, in the same order.
        higher_is_better: The metric's direction; it decides what "better" is, not the sign of the
            difference.
        level: Coverage of the interval, between 0 and 1.
        flips: As for ``sign_flip_p``.

    Raises:
        ValueError: If the two differ in length or hold a value that is not finite.
    """
    if len(baseline) != len(arm):
        raise ValueError(f"pairs need equally many values, got {len(baseline)} and {len(arm)}")
    differences = np.asarray(arm, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)  # (n,)
    if not np.isfinite(differences).all():
        raise ValueError(f"pairs need finite values, got the differences {differences.tolist()}")
    n = len(differences)
    testable = n > 1 and bool(differences.any())
    return Paired(
        n=n,
        difference=float(differences.mean()) if n else None,
        interval=paired_t_interval(differences, level) if n > 1 else None,
        p_sign_flip=sign_flip_p(differences, flips) if testable else None,
        probability_better=probability_better(differences, higher_is_better) if n else None,
    )


def paired_t_interval(
    differences: Sequence[float] | NDArray[np.float64], level: float = LEVEL
) -> tuple[float, float]:
    """Return the interval that covers the mean difference in a share ``level`` of repetitions.

    Args:
        differences: Arm minus baseline, (n,), n >= 2.
        level: Coverage, between 0 and 1.

    Raises:
        ValueError: If there are fewer than two differences.
    """
    n = len(differences)
    if n < 2:
        raise ValueError(f"an interval needs at least two differences, got {n}")
    mean = float(np.mean(differences))
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * np.std(differences, ddof=1)) / math.sqrt(n)
    return mean - half, mean + half


def crossed_error(gains: NDArray[np.float64], correction: float = 0.0) -> float:
    """Return the standard error of the mean of a table whose rows and columns are both samples.

    The variance is that of the row means over their number plus that of the column means over
    theirs. What varies by row and column alone is in both, so the sum is a little too large.

    Args:
        gains: Arm minus baseline, (rows, columns), two or more of each.
        correction: Added to one over the number of columns, where columns are correlated.

    Reference:
        Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007), on the variance of
        such a mean.
    """
    rows, columns = gains.mean(1), gains.mean(0)
    variance = rows.var(ddof=1) / len(rows) + columns.var(ddof=1) * (1 / len(columns) + correction)
    return math.sqrt(variance)


def bootstrap_interval(
    differences: Sequence[float] | NDArray[np.float64], level: float = LEVEL
) -> tuple[float, float] | None:
    """Return the bias-corrected, accelerated bootstrap interval (BCa) of the mean difference.

    It assumes no shape of the differences, and covers less than it says where they are few: it is
    a second view. The resamples have a fixed seed, so equal differences give equal intervals.

    Args:
        differences: Arm minus baseline, (n,).
        level: Coverage, between 0 and 1.

    Returns:
        The interval (low, high); None below two differences, and where they are equal but for
        rounding, which leaves nothing to resample.

    Reference:
        Efron, "Better Bootstrap Confidence Intervals", JASA 82 (1987); ``scipy.stats.bootstrap``.
    """
    if len(differences) < 2 or without_spread(differences):
        return None
    resampled = stats.bootstrap(
        (np.asarray(differences),),
        np.mean,
        confidence_level=level,
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    )
    low, high = resampled.confidence_interval
    return float(low), float(high)


def without_spread(differences: Sequence[float] | NDArray[np.float64]) -> bool:
    """Return whether all differences, one or more, are equal but for rounding."""
    return float(np.ptp(differences)) <= 1e-9 * float(np.max(np.abs(differences)))


def sign_flip_p(
    differences: Sequence[float] | NDArray[np.float64], flips: int = RANDOM_FLIPS
) -> float:
    """Return the two-sided p-value of the sign-flip test of the mean difference.

    If the arms do not differ, each difference is as likely as its negative. The p-value is the
    share of the 2**n ways to choose the signs whose mean is at least as far from zero as the one
    observed. Up to 20 differences all ways are counted; beyond, random ones, with a fixed seed.

    Args:
        differences: Arm minus baseline, (n,), n >= 1.
        flips: How many random ways to count where there are too many.

    Raises:
        ValueError: If there is no difference at all.

    Example:
        Five differences of one sign cannot reach 0.05, six can.

        >>> sign_flip_p([0.1, 0.2, 0.3, 0.1, 0.2]), sign_flip_p([0.1, 0.2, 0.3, 0.1, 0.2, 0.1])
        (0.0625, 0.03125)
    """
    values = np.asarray(differences, dtype=np.float64)
    if not len(values):
        raise ValueError("a sign-flip test needs at least one difference, got none")
    if len(values) > EXACT_PAIRS:
        return _random_sign_flip_p(values, flips)
    # Flipping all signs changes no absolute value, so the first sign can stay as it is.
    sums = values[:1]
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    # Equal sums may differ by rounding, according to the order in which they were added.
    slack = 1e-12 * np.abs(values).sum()
    return float(np.mean(np.abs(sums) >= abs(values.sum()) - slack))


def _random_sign_flip_p(values: NDArray[np.float64], flips: int) -> float:
    result = stats.permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        n_resamples=flips,
        batch=10_000,
        rng=np.random.default_rng(0),
        vectorized=True,
    )
    return float(result.pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p-values for there being several (Holm 1979), so that one false claim in all is rare.

    Args:
        p_values: One a test; None where no test was run, which stays None and does not count.

    Returns:
        The corrected values in the order given.

    Example:
        >>> holm([0.01, None, 0.04])
        [0.02, None, 0.04]
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        corrected[place] = largest
    return corrected


def probability_better(
    differences: Sequence[float] | NDArray[np.float64], higher_is_better: bool
) -> float:
    """Return the share of pairs in which the arm is better, ties counting half.

    Args:
        differences: Arm minus baseline, (n,), n >= 1.
        higher_is_better: The metric's direction.

    Reference:
        Bouthillier et al., "Accounting for Variance in Machine Learning Benchmarks",
        arXiv:2103.03098, section 5.
    """
    gains = np.asarray(differences) * (1 if higher_is_better else -1)
    return float(np.mean((gains > 0) + 0.5 * (gains == 0)))


def pairs_needed(tests: int, look: int = 1) -> int:
    """Return the fewest pairs with which the strongest of ``tests`` results can pass Holm.

    Args:
        tests: How many p-values are corrected together.
        look: As for ``alpha_of``.

    Example:
        >>> pairs_needed(1), pairs_needed(2)
        (6, 7)
    """
    n = 1
    while max(tests, 1) * 2.0 ** (1 - n) >= alpha_of(look):
        n += 1
    return n


def median_curve(curves: Sequence[Curve]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return steps (S,) and quartiles (3, S) over curves, at the steps that all of them have.

    Args:
        curves: One a seed.

    Returns:
        The steps, and the lower quartile, the median and the upper quartile at each; both empty if
        there is no curve or no common step.
    """
    tables = [dict(curve) for curve in curves]
    steps = sorted(set.intersection(*map(set, tables))) if tables else []
    values = np.array([[table[step] for step in steps] for table in tables])  # (seeds, S)
    quartiles = np.percentile(values, [25, 50, 75], axis=0) if steps else np.empty((3, 0))
    return np.array(steps, dtype=np.int64), quartiles
