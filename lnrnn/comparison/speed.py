"""How much faster an arm reaches what the baseline reaches, in steps and in seconds.

For each target and each pair of runs with the same seed there is a ratio: the baseline's steps over
the arm's, above 1 where the arm is faster. If every run arrives, the ratios are averaged as
logarithms. If some do not, none is dropped: the median takes the place of the mean, because it can
bear a run that never arrives.

Seconds are steps times what a step takes, measured with the arms interleaved in one process: the
wall clock of runs that shared a machine says nothing. Every target of every arm is one test of one
family, steps and seconds apart.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from lnrnn.comparison.claims import largest, supported
from lnrnn.comparison.records import Run
from lnrnn.comparison.statistics import LEVEL, alpha_of, holm, paired_t_interval, sign_flip_p
from lnrnn.comparison.targets import first_step
from lnrnn.comparison.tuning import GridPair

ENDED = ("finished", "failed")  # others may still arrive, so they say nothing about arriving


class Cost(NamedTuple):
    """What an arm's step takes over the baseline's, measured side by side, and its quartiles."""

    ratio: float
    quartiles: tuple[float, float]


EQUAL = Cost(1.0, (1.0, 1.0))


class Runners(NamedTuple):
    """A pair of runs: the steps at which they arrive, None for never, and how many each ran."""

    baseline: int | None
    arm: int | None
    baseline_ran: int
    arm_ran: int
    same: bool  # an arm with itself: what a clock tells apart there is the clock's own doing


class Race(NamedTuple):
    """The logarithm of one pair's ratio, above 0 where the arm is faster.

    Args:
        value: The ratio's logarithm; infinite if only one run arrived, and it was certainly faster;
            0 where neither did, or what is known does not tell which is faster.
        low: What it is at least.
        high: What it is at most.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SpeedUp:
    """What n races say; everything is a logarithm, and None is what they cannot say.

    Args:
        n: How many pairs of runs raced.
        censored: In how many of them one or both runs never arrived.
        middle: The mean; with censored pairs the median.
        interval: Its interval at 95 %, unbounded on a side where a run that never arrived decides.
        p: Two-sided.
    """

    n: int
    censored: int
    middle: float | None
    interval: tuple[float, float] | None
    p: float | None


def speed(
    arms: Mapping[str, Sequence[Run]],
    targets: Sequence[Mapping[str, Any]],
    costs: Mapping[str, Cost] | None = None,
    grids: Sequence[GridPair] | None = None,
    look: int = 1,
) -> list[list[dict[str, Any]]]:
    """Return, for each arm beside the first, its speed-up to each target.

    Args:
        arms: Every arm's readable runs; the first arm is the baseline.
        targets: What ``steps_to_target`` returned.
        costs: What each arm's step takes over the baseline's; without it nothing is said about
            seconds.
        grids: One for each arm beside the first, where learning rates were chosen on these seeds.
        look: As for ``alpha_of``.

    Returns:
        One list an arm, one entry a target: the entry ``"speed"`` of a pair in ``compare.json``.
    """
    (_, baseline), *others = arms.items()
    budget = max((_last_step(run) for runs in arms.values() for run in runs), default=0)
    fields = [
        [_field(baseline, runs, target["target"], budget) for target in targets]
        for _, runs in others
    ]
    found = []
    for prices in ([EQUAL for _ in others], [(costs or {}).get(name) for name, _ in others]):
        anew = [
            [_p_choice(grid, target["target"], budget, price) for target in targets]
            for grid, price in zip(grids or [None] * len(others), prices, strict=True)
        ]
        found.append(_family(fields, prices, anew, look))
    steps, seconds = found
    return [
        [_describe_rung(*rung) for rung in zip(targets, *arm, strict=True)]
        for arm in zip(fields, steps, seconds, strict=True)
    ]


def _p_choice(grid: GridPair | None, target: float, budget: int, cost: Cost | None) -> float | None:
    """Return the p-value of the test that chooses the learning rates anew.

    It is that of the mean logarithm; a run that never arrives has taken twice the budget.
    """
    if grid is None or cost is None:
        return None

    def taken(run: Run) -> float | None:
        step = first_step(run, target)
        return math.log(max(1, 2 * budget if step is None else step)) if _ended(run) else None

    return grid.p(taken, shift=math.log(cost.ratio))


def _ended(run: Run) -> bool:
    return run.status in ENDED


def _last_step(run: Run) -> int:
    curve = run.curve(f"val/{run.metric}")
    return curve[-1][0] if curve else 0


def _field(
    baseline: Sequence[Run], arm: Sequence[Run], target: float, budget: int
) -> list[Runners]:
    """Return who races to a target, and when they arrive: one entry a seed that both arms have."""
    first = {run.seed: run for run in baseline if run.status in ENDED}
    second = {run.seed: run for run in arm if run.status in ENDED}
    pairs = [(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())]
    return [
        Runners(
            first_step(one, target),
            first_step(two, target),
            _ran(one, budget),
            _ran(two, budget),
            one.folder == two.folder,
        )
        for one, two in pairs
    ]


def _ran(run: Run, budget: int) -> int:
    """Return the steps in which a run could have arrived; one that failed had the whole budget."""
    return budget if run.status == "failed" else _last_step(run)


def race(
    baseline: int | None, arm: int | None, baseline_ran: int, arm_ran: int, cost: float = 1.0
) -> Race:
    """Return what is known of the logarithm of one pair's ratio.

    Args:
        baseline: The step at which the baseline's run arrived; None if it never did.
        arm: The arm's.
        baseline_ran: How many steps the baseline's run took altogether.
        arm_ran: The arm's.
        cost: What the arm's step takes over the baseline's.

    Example:
        Twice as soon; and a baseline that did not arrive within twice the arm's steps.

        >>> [round(math.exp(bound), 3) for bound in race(200, 100, 900, 900)]
        [2.0, 2.0, 2.0]
        >>> [round(math.exp(bound), 3) for bound in race(None, 450, 900, 900)]
        [inf, 2.0, inf]
    """
    if baseline is None and arm is None:
        return Race(0.0, -math.inf, math.inf)
    first = max(1, baseline_ran if baseline is None else baseline)
    second = max(1, arm_ran if arm is None else arm)
    known = math.log(first / second) - math.log(cost)
    if baseline is None:
        return Race(math.inf if known >= 0 else 0.0, known, math.inf)
    if arm is None:
        return Race(-math.inf if known <= 0 else 0.0, -math.inf, known)
    return Race(known, known, known)


def speed_up(races: Sequence[Race], level: float = LEVEL) -> SpeedUp:
    """Summarize races.

    Without censored pairs: the mean logarithm, its paired-t interval, the sign-flip test. With
    them: the median; the interval of order statistics that covers it in at least a share ``level``
    of repetitions whatever the distribution, from what each ratio is at least and at most; the sign
    test, in which ties do not count.

    Args:
        races: One a pair.
        level: Coverage of the interval, between 0 and 1.

    Reference:
        Conover, "Practical Nonparametric Statistics", 3rd edition, sections 3.1, 3.2 and 3.4.
    """
    n = len(races)
    censored = sum(not math.isfinite(one.high - one.low) for one in races)
    if not n:
        return SpeedUp(0, 0, None, None, None)
    if censored:
        return SpeedUp(n, censored, *_by_order(races, level))
    logs = np.array([one.value for one in races])  # (n,)
    testable = n > 1 and bool(logs.any())
    interval = paired_t_interval(logs, level) if n > 1 else None
    return SpeedUp(n, 0, float(logs.mean()), interval, sign_flip_p(logs) if testable else None)


def _by_order(
    races: Sequence[Race], level: float
) -> tuple[float | None, tuple[float, float] | None, float | None]:
    """Return the median, its interval and the sign test's p-value."""
    n = len(races)
    below, above = sorted(one.low for one in races), sorted(one.high for one in races)
    # The median is below the k-th smallest of n values with the probability of fewer than k heads
    # in n tosses: k is the largest of which that is at most half of what the interval leaves out.
    k = int(stats.binom.ppf((1 - level) / 2, n, 0.5))
    wins = sum(one.value > 0 for one in races)
    losses = sum(one.value < 0 for one in races)
    return (
        _median(sorted(one.value for one in races)),
        (below[k - 1], above[n - k]) if k else None,  # fewer than six have no such interval
        float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses > 1 else None,
    )


def _median(values: Sequence[float]) -> float | None:
    """Return the median of sorted values; None halfway between two infinities."""
    first, second = values[(len(values) - 1) // 2], values[len(values) // 2]
    return None if first == -second == -math.inf else (first + second) / 2


def _family(
    fields: Sequence[Sequence[Sequence[Runners]]],
    costs: Sequence[Cost | None],
    anew: Sequence[Sequence[float | None]],
    look: int,
) -> list[list[dict[str, Any] | None]]:
    """Return the entries of all arms and targets, their p-values corrected together."""
    level = LEVEL if look == 1 else 1 - alpha_of(look)
    found = [
        [None if cost is None else _run(field, cost.ratio, level) for field in rungs]
        for rungs, cost in zip(fields, costs, strict=True)
    ]
    p_values = [
        None if one is None else largest(one.p, p)
        for rungs, arm in zip(found, anew, strict=True)
        for one, p in zip(rungs, arm, strict=True)
    ]
    corrected = iter(holm(p_values))
    return [
        [
            None if one is None or cost is None else _describe(one, p, p_holm, cost, look)
            for one, p, p_holm in zip(rungs, arm, islice(corrected, len(rungs)), strict=True)
        ]
        for rungs, arm, cost in zip(found, anew, costs, strict=True)
    ]


def _run(field: Sequence[Runners], cost: float, level: float) -> SpeedUp:
    races = [Race(0.0, 0.0, 0.0) if runners.same else race(*runners[:4], cost) for runners in field]
    return speed_up(races, level)


def _describe(
    one: SpeedUp, p_choice: float | None, p_holm: float | None, cost: Cost, look: int
) -> dict[str, Any]:
    return {
        "n": one.n,
        "ratio": None if one.middle is None else _ratio(one.middle),
        "interval": None if one.interval is None else [_ratio(bound) for bound in one.interval],
        "p": one.p,
        "p_choice": p_choice,
        "p_holm": p_holm,
        "supported": supported(one.n, _with_clock(one.interval, cost), p_holm, look),
        "censored": one.censored,
    }


def _with_clock(interval: tuple[float, float] | None, cost: Cost) -> tuple[float, float] | None:
    """Widen an interval to what either quartile of the measured step times would have made of it.

    Otherwise a clock that is off by a hundredth would support a difference of a hundredth.
    """
    if interval is None:
        return None
    shifts = [0.0, *(math.log(cost.ratio / quartile) for quartile in cost.quartiles)]
    return interval[0] + min(shifts), interval[1] + max(shifts)


def _ratio(logarithm: float) -> float | None:
    return math.exp(logarithm) if math.isfinite(logarithm) else None


def logarithms(
    interval: Sequence[float | None] | None,
) -> tuple[float, float] | None:
    """Return an interval of ratios, a side of which may be open, as one of logarithms."""
    if interval is None:
        return None
    low, high = interval
    return (
        -math.inf if low is None else math.log(low),
        math.inf if high is None else math.log(high),
    )


def _describe_rung(
    target: Mapping[str, Any],
    field: Sequence[Runners],
    steps: Mapping[str, Any] | None,
    seconds: Mapping[str, Any] | None,
) -> dict[str, Any]:
    return {
        "target": target["target"],
        "share": target["share"],
        "steps": steps,
        "seconds": seconds,
        "reached": {
            "baseline": sum(runners.baseline is not None for runners in field),
            "arm": sum(runners.arm is not None for runners in field),
        },
        "of": len(field),
    }
