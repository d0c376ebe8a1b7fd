"""Results in words, never stronger than the numbers."""

import math
from collections.abc import Sequence

from lnrnn.comparison.statistics import ALPHA, CLAIM_PAIRS, LEVEL, Paired


def decimals(spreads: Sequence[float | None]) -> int:
    """Return how many decimals show two digits of the smallest spread, between 2 and 6.

    Example:
        >>> decimals([0.0123, 0.4]), decimals([]), decimals([0.0, 12.0])
        (3, 4, 2)
    """
    positive = [spread for spread in spreads if spread]
    if not positive:
        return 4
    return min(6, max(2, 1 - math.floor(math.log10(min(positive)))))


def p_text(p: float | None) -> str:
    """Return a p-value as it is printed; a dash where no test was run."""
    if p is None:
        return "-"
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def supported(paired: Paired, p_holm: float | None) -> bool:
    """Return whether a difference may be claimed.

    It takes six pairs or more, a corrected p-value below 0.05 and an interval without zero.
    """
    if paired.interval is None or p_holm is None or paired.n < CLAIM_PAIRS:
        return False
    low, high = paired.interval
    return p_holm < ALPHA and not low <= 0 <= high


def verdict(
    outcome: str, paired: Paired, p_holm: float | None, *, higher_is_better: bool, digits: int
) -> str:
    """Say in words what the pairs say about one outcome.

    Args:
        outcome: What was measured, such as ``"test accuracy"``.
        paired: The differences, arm minus baseline.
        p_holm: The corrected p-value, None if no test was run.
        higher_is_better: The outcome's direction.
        digits: Decimals to print.
    """
    difference, n = paired.difference, paired.n
    if difference is None:
        return f"{outcome} cannot be compared, no seed has it in both arms"
    count = "1 pair" if n == 1 else f"{n} pairs"
    if paired.probability_better == 0.5 and paired.interval in (None, (0.0, 0.0)):
        return f"no difference in {outcome}, which is equal in {count}, so no test was run"
    size = f"{abs(difference):.{digits}f} {'higher' if difference > 0 else 'lower'}"
    evidence = f"{size} ({_evidence(paired, p_holm, digits)}{count})"
    if n < CLAIM_PAIRS:
        return f"smoke, no claim: {outcome} {evidence}"
    if not supported(paired, p_holm):
        return f"no supported difference in {outcome}, {evidence}"
    better = (difference > 0) == higher_is_better
    return f"{'better' if better else 'worse'} {outcome}, {evidence}"


def _evidence(paired: Paired, p_holm: float | None, digits: int) -> str:
    if paired.interval is None:
        return ""
    low, high = paired.interval
    p = p_text(p_holm)
    p = f"p {p}" if p.startswith("<") else f"p = {p}"
    return f"{100 * LEVEL:g} % interval {low:+.{digits}f} to {high:+.{digits}f}, Holm {p}, "
