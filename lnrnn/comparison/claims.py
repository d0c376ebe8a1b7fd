"""When a difference may be claimed, and whether one seed decides about it.

One outcome of all arms is one family: Holm corrects its p-values together, one an arm beside the
baseline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lnrnn.comparison.statistics import (
    ALPHA,
    CLAIM_PAIRS,
    RANDOM_FLIPS,
    Paired,
    bootstrap_interval,
    compare_pairs,
    holm,
    pairs_needed,
)

QUICK_FLIPS = 9_999  # beyond 20 pairs, to leave out one seed after the other in seconds

Values = Mapping[int, float]  # an arm's outcome by seed


@dataclass(frozen=True)
class Outcome:
    """What one arm's pairs say about one outcome.

    Args:
        paired: The paired differences, arm minus baseline.
        p_holm: The p-value after Holm's correction; None if no test was run.
        supported: Whether a difference may be claimed.
        fragile: The seeds without any one of which the claim, or that there is none, turns.
        bootstrap: The second interval, by resampling; None where there is nothing to resample.
    """

    paired: Paired
    p_holm: float | None
    supported: bool
    fragile: tuple[int, ...] = ()
    bootstrap: tuple[float, float] | None = None


def compare_arms(
    baseline: Values, arms: Sequence[Values], *, higher_is_better: bool
) -> list[Outcome]:
    """Compare every arm with the baseline on the seeds that both have.

    Args:
        baseline: The baseline's values by seed.
        arms: Every other arm's.
        higher_is_better: The outcome's direction.
    """
    claims = claim(baseline, arms, higher_is_better=higher_is_better)
    fragile = fragile_seeds(baseline, arms, claims, higher_is_better=higher_is_better)
    return [
        Outcome(
            outcome.paired,
            outcome.p_holm,
            outcome.supported,
            seeds,
            bootstrap_interval(
                [arm[s] - baseline[s] for s in sorted(baseline.keys() & arm.keys())]
            ),
        )
        for outcome, arm, seeds in zip(claims, arms, fragile, strict=True)
    ]


def claim(
    baseline: Values,
    arms: Sequence[Values],
    *,
    higher_is_better: bool,
    flips: int = RANDOM_FLIPS,
) -> list[Outcome]:
    """Decide for every arm whether a difference may be claimed; arguments as ``compare_arms``."""
    found = []
    for arm in arms:
        seeds = sorted(baseline.keys() & arm.keys())
        values = [baseline[seed] for seed in seeds], [arm[seed] for seed in seeds]
        found.append(compare_pairs(*values, higher_is_better=higher_is_better, flips=flips))
    corrected = holm([paired.p_sign_flip for paired in found])
    return [
        Outcome(paired, p_holm, supported(paired.n, paired.interval, p_holm))
        for paired, p_holm in zip(found, corrected, strict=True)
    ]


def supported(n: int, interval: tuple[float, float] | None, p_holm: float | None) -> bool:
    """Return whether a difference may be claimed.

    It takes six pairs or more, a corrected p-value below 0.05 and an interval without zero.
    """
    if interval is None or p_holm is None or n < CLAIM_PAIRS:
        return False
    return p_holm < ALPHA and not interval[0] <= 0 <= interval[1]


def fragile_seeds(
    baseline: Values,
    arms: Sequence[Values],
    claims: Sequence[Outcome],
    *,
    higher_is_better: bool,
) -> list[tuple[int, ...]]:
    """Return, for each arm, the seeds whose leaving out alone turns its claim.

    A seed is left out of the whole table, and the claims are decided anew. A claim turns if it is
    supported with the seed and not without, or the other way round, or changes its direction. Where
    a claim is supported by the fewest pairs that can support one, it would always fall: there, only
    an interval that lets zero in, or a change of direction, turns it.

    Args:
        baseline: The baseline's values by seed.
        arms: Every other arm's.
        claims: What ``claim`` decided about them.
        higher_is_better: The outcome's direction.
    """
    tests = sum(outcome.p_holm is not None for outcome in claims)
    found: list[list[int]] = [[] for _ in arms]
    for seed in sorted(baseline):
        rest = claim(
            _without(baseline, seed),
            [_without(arm, seed) for arm in arms],
            higher_is_better=higher_is_better,
            flips=QUICK_FLIPS,
        )
        for seeds, arm, before, after in zip(found, arms, claims, rest, strict=True):
            if seed in arm and _turned(before, after, tests):
                seeds.append(seed)
    return [tuple(seeds) for seeds in found]


def _without(values: Values, seed: int) -> Values:
    return {other: value for other, value in values.items() if other != seed}


def _turned(before: Outcome, after: Outcome, tests: int) -> bool:
    first, second = before.paired.difference, after.paired.difference
    if not (before.supported or after.supported) or first is None or second is None:
        return False
    if (first > 0) != (second > 0):
        return True
    if before.supported and after.paired.n < pairs_needed(tests):
        interval = after.paired.interval
        return interval is None or interval[0] <= 0 <= interval[1]
    return before.supported != after.supported
