"""Choosing a learning rate for each arm, and what the choice does to a test.

The choice is part of what is compared, so it is part of the test. Both arms run every rate on every
seed. The sign-flip test then exchanges the two arms' whole grids within a seed, and every exchange
chooses both rates anew. If the arms do not differ, each exchange is as likely as what was observed,
whatever was chosen; a test at the chosen rates alone takes a lucky choice for a difference.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EXACT_SEEDS = 12  # up to here all 2**11 exchanges are made
RANDOM_EXCHANGES = 3_999  # beyond, with a fixed seed, and what was observed
FEW = 5  # of so many losses, one is left out at each end


def robust_mean(losses: Array) -> Array:
    """Return the mean over the second axis from the end without the lowest and the highest fifth.

    Of three or four losses one is left out at each end, of fewer none: so one run that is stuck
    does not decide.

    Args:
        losses: (..., n, R), n >= 1.

    Example:
        >>> robust_mean(np.array([[0.3], [0.4], [9.0]])), robust_mean(np.array([[0.3], [0.5]]))
        (array([0.4]), array([0.4]))
    """
    n = losses.shape[-2]
    cut = max(n // FEW, 1) if n >= 3 else 0
    return np.sort(losses, axis=-2)[..., cut : n - cut, :].mean(axis=-2)


def choose(losses: Array) -> NDArray[np.intp]:
    """Return the place of the best rate: the fewest lost runs, then the lowest robust mean.

    Args:
        losses: Validation losses, (..., n, R), n >= 1; infinite for a run that was lost, which in
            the mean counts as the worst that was not.

    Returns:
        (...); among equals the first, which is the lowest rate.
    """
    known = np.isfinite(losses)
    lost = (~known).sum(axis=-2)  # (..., R)
    worst = losses[known].max() if known.any() else 0.0
    means = robust_mean(np.where(known, losses, worst))
    return np.argmin(np.where(lost == lost.min(axis=-1, keepdims=True), means, np.inf), axis=-1)


class Exchanges:
    """Every way to exchange two arms' grids within seeds, and the rates that each of them chooses.

    Args:
        baseline: The first arm's validation losses, (n, R), n >= 1; infinite for a lost run.
        arm: The second arm's.
    """

    def __init__(self, baseline: Array, arm: Array) -> None:
        self.stays = _stays(len(baseline))  # (E, n)
        stays = self.stays[:, :, None]
        self.first = choose(np.where(stays, baseline, arm))[:, None]  # (E, 1)
        self.second = choose(np.where(stays, arm, baseline))[:, None]

    def p(self, baseline: Array, arm: Array) -> float | None:
        """Return the two-sided p-value of the difference at the chosen rates.

        What is compared is the mean difference over the root mean square of the differences, which
        rises with Student's t where equally many pairs are known. An exchange that mixes arms whose
        best rates are apart chooses rates that suit only some of its seeds. So its differences are
        large and disagree, and their mean alone may be far from zero by accident.

        Args:
            baseline: The first arm's outcomes, (n, R); NaN for a run without one, whose pair is
                left out.
            arm: The second arm's.

        Returns:
            The share of exchanges at least as far from zero as what was observed; None if no pair
            has two outcomes, or every pair two equal ones.
        """
        seeds = np.arange(len(baseline))
        first = np.where(self.stays, baseline[seeds, self.first], arm[seeds, self.first])
        second = np.where(self.stays, arm[seeds, self.second], baseline[seeds, self.second])
        pairs = second - first  # (E, n)
        known = np.isfinite(pairs)
        if not np.any(pairs[0][known[0]]):
            return None
        pairs = np.where(known, pairs, 0.0)
        squares = np.maximum(known.sum(axis=1) * (pairs**2).sum(axis=1), np.finfo(float).tiny)
        distances = np.abs(pairs.sum(axis=1)) / np.sqrt(squares)  # from 0 to 1
        # Equal means may differ by rounding, according to the order in which they were added.
        return float(np.mean(distances >= distances[0] - 1e-12))


def _stays(n: int) -> NDArray[np.bool_]:
    """Return which seeds keep their grids in each exchange, (E, n); in the first, all.

    To exchange all seeds changes no distance from zero, so the first seed can stay as it is.
    """
    if n <= EXACT_SEEDS:
        return (np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1) == 0
    random = np.random.default_rng(0).random((RANDOM_EXCHANGES + 1, n)) < 0.5
    random[0] = True
    return random


def table(rows: Sequence[Sequence[float | None]], missing: float) -> Array:
    """Return rows of numbers as an array; what is missing becomes one number."""
    return np.array([[missing if x is None else x for x in row] for row in rows], dtype=np.float64)
