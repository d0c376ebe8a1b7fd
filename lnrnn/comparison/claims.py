"""When a difference may be claimed, and whether one seed decides about it.

One outcome of all arms is one family: Holm corrects its p-values together, one an arm beside the
baseline. Where the arms chose their learning rates on the same seeds, the p-value is the larger of
two: of the sign-flip test at the chosen rates, and of the test that makes the choice anew. Where
every seed was run on several splits, it is the larger of that of the sign-flip test of the seeds'
means and of a test that takes splits for a sample, too, whose interval takes the place of the
paired-t one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lnrnn.comparison.splits import Judge
from lnrnn.comparison.statistics import (
    CLAIM_PAIRS,
    LEVEL,
    RANDOM_FLIPS,
    Paired,
    alpha_of,
    bootstrap_interval,
    compare_pairs,
    holm,
    pairs_needed,
)

QUICK_FLIPS = 9_999  # beyond 20 pairs, to leave out one seed after the other in seconds

Values = Mapping[int, float]  # an arm's outcome by seed
Choice = Callable[[int | None], float | None]
"""Returns the p-value of a test that makes an arm's and the baseline's choice of a learning rate
anew, on all seeds, or on all but one."""


@dataclass(frozen=True)
class Outcome:
    """What one arm's pairs say about one outcome.

    Args:
        paired: The paired differences, arm minus baseline.
        p_holm: The p-value after Holm's correction; None if no test was run.
        supported: Whether a difference may be claimed.
        fragile: The seeds without any one of which the claim, or that there is none, turns.
        bootstrap: The second interval, by resampling; None where there is nothing to resample.
        p_choice: The p-value of the test that makes the choice of learning rates anew; None where
            none was chosen on these seeds.
        p_splits: The p-value of the test that takes splits for a sample; None for one split.
        splits: On how many splits every seed was run.
    """

    paired: Paired
    p_holm: float | None
    supported: bool
    fragile: tuple[int, ...] = ()
    bootstrap: tuple[float, float] | None = None
    p_choice: float | None = None
    p_splits: float | None = None
    splits: int = 1


def compare_arms(
    baseline: Values,
    arms: Sequence[Values],
    *,
    higher_is_better: bool,
    choices: Sequence[Choice] | None = None,
    judges: Sequence[Judge] | None = None,
    look: int = 1,
) -> list[Outcome]:
    """Compare every arm with the baseline on the seeds that both have.

    Args:
        baseline: The baseline's values by seed.
        arms: Every other arm's.
        higher_is_better: The outcome's direction.
        choices: One an arm, where learning rates were chosen on these seeds.
        judges: One an arm, where every seed was run on several splits.
        look: 1 if nobody has seen a result of this comparison yet, 2 after one extension, ...
    """
    asked = {"higher_is_better": higher_is_better, "look": look, "judges": judges}
    claims = claim(baseline, arms, choices=choices, **asked)
    fragile = fragile_seeds(baseline, arms, claims, choices=choices, **asked)
    return [
        replace(
            outcome,
            fragile=seeds,
            bootstrap=bootstrap_interval(
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
    choices: Sequence[Choice] | None = None,
    judges: Sequence[Judge] | None = None,
    look: int = 1,
    left_out: int | None = None,
) -> list[Outcome]:
    """Decide for every arm whether a difference may be claimed.

    Args:
        baseline: The baseline's values by seed.
        arms: Every other arm's.
        higher_is_better: The outcome's direction.
        flips: As for ``sign_flip_p``.
        choices: As for ``compare_arms``.
        judges: As for ``compare_arms``.
        look: As for ``compare_arms``.
        left_out: The seed that the values lack, so that choices leave it out too.
    """
    found, others, splits = [], [], []
    level = LEVEL if look == 1 else 1 - alpha_of(look)
    for place, arm in enumerate(arms):
        seeds = sorted(baseline.keys() & arm.keys())
        values = [baseline[seed] for seed in seeds], [arm[seed] for seed in seeds]
        paired = compare_pairs(*values, higher_is_better=higher_is_better, level=level, flips=flips)
        p_choice = choices[place](left_out) if choices else None
        crossed = judges[place](seeds, level) if judges else None
        found.append(paired if crossed is None else replace(paired, interval=crossed.interval))
        others.append((p_choice, crossed and crossed.p))
        splits.append(1 if crossed is None else crossed.splits)
    corrected = holm(
        [largest(paired.p_sign_flip, *p) for paired, p in zip(found, others, strict=True)]
    )
    return [
        Outcome(
            paired,
            p_holm,
            supported(paired.n, paired.interval, p_holm, look),
            p_choice=p_choice,
            p_splits=p_splits,
            splits=count,
        )
        for paired, p_holm, (p_choice, p_splits), count in zip(
            found, corrected, others, splits, strict=True
        )
    ]


def supported_failures(p_holm: float | None, look: int = 1) -> bool:
    """Return whether it may be claimed that an arm fails more or less often than the baseline."""
    return p_holm is not None and p_holm < alpha_of(look)


def largest(p: float | None, *others: float | None) -> float | None:
    """Return the p-value that decides: none without a test, and the largest of those there are."""
    return p if p is None else max([p, *(other for other in others if other is not None)])


def supported(
    n: int, interval: tuple[float, float] | None, p_holm: float | None, look: int = 1
) -> bool:
    """Return whether a difference may be claimed.

    It takes six pairs or more, a corrected p-value below what this look may spend and an interval
    without zero.
    """
    if interval is None or p_holm is None or n < CLAIM_PAIRS:
        return False
    return p_holm < alpha_of(look) and not interval[0] <= 0 <= interval[1]


def fragile_seeds(
    baseline: Values,
    arms: Sequence[Values],
    claims: Sequence[Outcome],
    *,
    higher_is_better: bool,
    choices: Sequence[Choice] | None = None,
    judges: Sequence[Judge] | None = None,
    look: int = 1,
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
        choices: As for ``compare_arms``.
        judges: As for ``compare_arms``.
        look: As for ``compare_arms``.
    """
    tests = sum(outcome.p_holm is not None for outcome in claims)
    found: list[list[int]] = [[] for _ in arms]
    for seed in sorted(baseline):
        rest = claim(
            _without(baseline, seed),
            [_without(arm, seed) for arm in arms],
            higher_is_better=higher_is_better,
            flips=QUICK_FLIPS,
            choices=choices,
            judges=judges,
            look=look,
            left_out=seed,
        )
        for seeds, arm, before, after in zip(found, arms, claims, rest, strict=True):
            if seed in arm and _turned(before, after, pairs_needed(tests, look)):
                seeds.append(seed)
    return [tuple(seeds) for seeds in found]


def _without(values: Values, seed: int) -> Values:
    return {other: value for other, value in values.items() if other != seed}


def _turned(before: Outcome, after: Outcome, needed: int) -> bool:
    first, second = before.paired.difference, after.paired.difference
    if not (before.supported or after.supported) or first is None or second is None:
        return False
    if (first > 0) != (second > 0):
        return True
    if before.supported and after.paired.n < needed:
        interval = after.paired.interval
        return interval is None or interval[0] <= 0 <= interval[1]
    return before.supported != after.supported
