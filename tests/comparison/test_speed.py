import math
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lnrnn.comparison.records import Run
from lnrnn.comparison.speed import Cost, Race, race, speed, speed_up
from lnrnn.comparison.targets import check_grid, steps_to_target
from lnrnn.comparison.validity import check_speed_strength

ran = 1000  # steps


def make_run(seed, values, *, status="finished", every=10, arm="arm"):
    curve = tuple((every * place, value) for place, value in enumerate(values, start=1))
    curves = {"val/accuracy": curve}
    return Run(f"{arm}/{seed}", status, "d", "m", seed, "accuracy", True, curves=curves)


def arrives(seed, step, *, arm, length=20, status="finished"):
    """A run whose accuracy jumps to 1 at a step, or never."""
    values = [float(step is not None and 10 * place >= step) for place in range(1, length + 1)]
    return make_run(seed, values, status=status, arm=arm)


TARGET = [{"target": 1.0, "share": 1.0}]


def raced(baseline, arm, costs=None, **changes):
    arms = {
        "base": [arrives(seed, step, arm="base") for seed, step in enumerate(baseline)],
        "arm": [arrives(seed, step, arm="arm", **changes) for seed, step in enumerate(arm)],
    }
    ((rung,),) = speed(arms, TARGET, costs)
    return rung


def test_ratios_of_runs_that_all_arrive_are_averaged_as_logarithms():
    first, second = [100, 80, 120, 90, 100, 110, 70], [50, 50, 40, 60, 50, 60, 30]
    rung = raced(first, second)
    logs = np.log(first) - np.log(second)
    interval = stats.ttest_1samp(logs, 0).confidence_interval(0.95)
    flips = stats.permutation_test((logs,), np.mean, permutation_type="samples")
    steps = rung["steps"]
    assert steps["ratio"] == pytest.approx(stats.gmean(np.divide(first, second)))
    assert steps["interval"] == pytest.approx([math.exp(interval.low), math.exp(interval.high)])
    assert steps["p"] == pytest.approx(flips.pvalue, abs=1e-14)
    assert (steps["n"], steps["censored"], steps["supported"]) == (7, 0, True)
    assert (rung["reached"], rung["of"], rung["seconds"]) == ({"baseline": 7, "arm": 7}, 7, None)


def test_seconds_are_steps_times_what_a_step_takes():
    costs = {"arm": Cost(1.5, (1.48, 1.53))}
    rung = raced([100, 80, 120, 90, 100, 110, 70], [50, 50, 40, 60, 50, 60, 30], costs)
    steps, seconds = rung["steps"], rung["seconds"]
    assert seconds["ratio"] == pytest.approx(steps["ratio"] / 1.5)
    assert seconds["interval"] == pytest.approx([bound / 1.5 for bound in steps["interval"]])
    assert seconds["supported"] == (steps["interval"][0] > 1.53)


def test_a_clock_that_is_a_hundredth_off_supports_nothing():
    equal = [100] * 10
    rung = raced(equal, equal, {"arm": Cost(1.01, (0.98, 1.03))})
    assert rung["steps"]["p"] is None
    assert rung["seconds"]["p"] == 2**-9
    assert not rung["seconds"]["supported"]
    clear = raced(equal, equal, {"arm": Cost(1.4, (1.38, 1.43))})
    assert clear["seconds"]["supported"]
    assert clear["seconds"]["ratio"] == pytest.approx(1 / 1.4)


def test_an_arm_with_itself_is_exactly_equal_even_where_it_never_arrives():
    runs = [arrives(seed, None if seed == 3 else 100, arm="base") for seed in range(7)]
    ((rung,),) = speed({"a": runs, "b": runs}, TARGET, {"b": Cost(1.02, (1.01, 1.03))})
    assert (rung["steps"]["ratio"], rung["steps"]["interval"]) == (1, [1, 1])
    assert (rung["steps"]["p"], rung["steps"]["supported"]) == (None, False)
    assert rung["seconds"]["ratio"] == 1
    assert rung["reached"] == {"baseline": 6, "arm": 6}


def test_runs_that_never_arrive_are_kept():
    first = [100, 120, 100, 90, 110, 100, 100, None, None, 100]
    second = [50, 50, 50, 50, 50, 50, 50, 60, None, None]
    rung = raced(first, second)
    steps = rung["steps"]
    assert (steps["n"], steps["censored"], rung["of"]) == (10, 3, 10)
    assert rung["reached"] == {"baseline": 8, "arm": 8}
    # sorted: never 0, 0 (neither), 1.8, 2 x 4, 2.2, 2.4, infinite
    assert steps["ratio"] == pytest.approx(2.0)
    # order statistics 2 and 9: the pair of which nothing is known is least, and largest.
    assert steps["interval"] == [None, None]
    assert steps["p"] == pytest.approx(stats.binomtest(8, 9).pvalue)
    assert not steps["supported"]
    known = raced(first[:8] + [100] * 2, [*second[:8], 50, None])["steps"]
    assert known["interval"] == pytest.approx([1.8, 2.4])
    assert known["p"] == pytest.approx(2 * (1 + 10) / 2**10)
    assert known["supported"]


def test_an_arm_that_never_arrives_has_no_ratio_and_an_upper_bound():
    steps = raced([100] * 7, [None] * 7)["steps"]
    assert steps["ratio"] is None
    assert steps["interval"] == [None, pytest.approx(100 / 200)]  # it ran 200 steps
    assert (steps["p"], steps["supported"]) == (2**-6, True)


def test_a_run_that_failed_never_arrives_and_one_that_still_runs_is_no_race():
    failed = raced([100] * 7, [None] * 7, length=3, status="failed")["steps"]
    assert failed["interval"] == [None, pytest.approx(100 / 200)]  # it had the steps of the others
    running = raced([100] * 7, [50] * 7, status="running")
    assert (running["of"], running["steps"]["n"], running["steps"]["ratio"]) == (0, 0, None)
    assert running["steps"]["interval"] is None
    arms = {
        "base": [arrives(seed, 100, arm="base", status="interrupted") for seed in range(7)],
        "arm": [arrives(seed, 50, arm="arm") for seed in range(7)],
    }
    assert speed(arms, TARGET)[0][0]["of"] == 0


def test_one_pair_has_a_ratio_and_no_test():
    steps = raced([100], [50])["steps"]
    assert (steps["ratio"], steps["interval"], steps["p"]) == (pytest.approx(2), None, None)
    never = raced([100], [None])["steps"]
    assert (never["ratio"], never["interval"], never["p"]) == (None, None, None)


def test_all_targets_of_all_arms_are_one_family():
    rng = np.random.default_rng(1)
    arms = {
        name: [make_run(s, np.sort(rng.uniform(0, 1 + lift, 30)), arm=name) for s in range(9)]
        for name, lift in (("base", 0.0), ("a", 0.5), ("b", 1.0))
    }
    targets = steps_to_target(arms)
    rungs = [rung["steps"] for arm in speed(arms, targets) for rung in arm]
    p = np.array([rung["p"] for rung in rungs])
    assert len(p) == 8
    order = np.argsort(p, kind="stable")
    expected = np.maximum.accumulate(np.minimum(1, (8 - np.arange(8)) * p[order]))
    np.testing.assert_allclose([rungs[place]["p_holm"] for place in order], expected)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 8, 9, 10, 17, 24])
def test_the_interval_of_the_median_is_scipys_and_that_of_coin_tosses(n):
    values = np.random.default_rng(n).normal(0, 1, n)
    races = [Race(v, v, v) for v in values[1:]] + [Race(math.inf, float(values[0]), math.inf)]
    interval = speed_up(races).interval
    least = stats.quantile_test(values, p=0.5).confidence_interval(0.95).low
    most = stats.quantile_test([*values[1:], math.inf], p=0.5).confidence_interval(0.95).high
    if n < 6:
        assert interval is None
        assert math.isnan(least)
        return
    assert interval is not None
    assert interval == (least, most)
    # Of n values, fewer than k lie below the median with at most 2.5 %.
    tosses = [sum(comb(n, heads) for heads in range(k)) / 2**n for k in range(1, n)]
    k = sum(share <= 0.025 for share in tosses)
    assert interval[0] == np.sort(values)[k - 1]


outcomes = st.tuples(st.none() | st.integers(1, ran), st.none() | st.integers(1, ran))


@settings(max_examples=150, deadline=None)
@given(st.lists(outcomes, min_size=1, max_size=12), st.floats(0.2, 5.0))
def test_swapping_the_arms_turns_everything_round(pairs, cost):
    up = speed_up([race(a, b, ran, ran, cost) for a, b in pairs])
    down = speed_up([race(b, a, ran, ran, 1 / cost) for a, b in pairs])
    assert (up.n, up.censored) == (down.n, down.censored) == (len(pairs), up.censored)
    assert up.p == (None if down.p is None else pytest.approx(down.p))
    if up.middle is None or down.middle is None:
        assert up.middle is down.middle
    else:
        assert up.middle == pytest.approx(-down.middle, abs=1e-12)
    if up.interval is not None and down.interval is not None and up.middle is not None:
        assert up.interval == pytest.approx((-down.interval[1], -down.interval[0]), abs=1e-9)
        assert up.interval[0] - 1e-9 <= up.middle <= up.interval[1] + 1e-9


@settings(max_examples=150, deadline=None)
@given(st.integers(1, ran), st.integers(1, ran), st.integers(1, ran), st.floats(0.2, 5.0))
def test_what_is_known_of_a_censored_race_holds_whenever_it_would_have_arrived(a, b, more, cost):
    truth = race(ran + more, b, ran, ran, cost).value
    known = race(None, b, ran, ran, cost)
    assert known.low <= truth <= known.high
    assert known.value in (0, math.inf)
    assert known.value == 0 or truth > 0
    truth = race(a, ran + more, ran, ran, cost).value
    known = race(a, None, ran, ran, cost)
    assert known.low <= truth <= known.high
    assert known.value == 0 or truth < 0


def test_intervals_of_the_geometric_mean_cover_it():
    rng, repetitions, ratio = np.random.default_rng(7), 3000, 1.7
    covered = 0
    for _ in range(repetitions):
        base = rng.normal(12, 0.3, 8)
        arm = base - math.log(ratio) + rng.normal(0, 0.25, 8)
        pairs = np.exp([base, arm]).astype(int).T.tolist()
        interval = speed_up([race(a, b, ran, ran) for a, b in pairs]).interval
        assert interval is not None
        covered += interval[0] <= math.log(ratio) <= interval[1]
    assert stats.binom.ppf(5e-4, repetitions, 0.95) <= covered
    assert covered <= stats.binom.ppf(1 - 5e-4, repetitions, 0.95)
    assert 0.93 <= covered / repetitions <= 0.97


@pytest.mark.parametrize("budget", [160_000, 200_000, 280_000])
def test_intervals_of_censored_races_cover_the_median_at_least_as_often_as_they_say(budget):
    rng, repetitions, ratio = np.random.default_rng(budget), 1000, 1.3
    covered = censored = 0
    for _ in range(repetitions):
        base = rng.normal(12, 0.4, 10)
        arm = base - math.log(ratio) + rng.normal(0, 0.3, 10)
        steps = [
            [step if step <= budget else None for step in pair]
            for pair in np.exp([base, arm]).astype(int).T.tolist()
        ]
        up = speed_up([race(first, second, budget, budget) for first, second in steps])
        assert up.interval is not None
        covered += up.interval[0] <= math.log(ratio) <= up.interval[1]
        censored += up.censored > 0
    assert censored > repetitions / 2
    assert covered >= stats.binom.ppf(5e-4, repetitions, 0.95)


def test_equal_arms_are_called_faster_in_at_most_five_per_cent():
    rng, repetitions, false = np.random.default_rng(29), 250, 0
    costs = {"a": Cost(1.0, (0.99, 1.01)), "b": Cost(1.0, (0.99, 1.01))}
    for _ in range(repetitions):
        # Learning curves with a rate and an end of their own; some never get to the last target.
        rate, end = rng.lognormal(-2, 0.4, (3, 10, 1)), rng.normal(0.9, 0.02, (3, 10, 1))
        values = end * (1 - np.exp(-rate * np.arange(1, 25))) + rng.normal(0, 0.005, (3, 10, 24))
        arms = {
            name: [make_run(seed, row, arm=name) for seed, row in enumerate(rows)]
            for name, rows in zip(("base", "a", "b"), values.tolist(), strict=True)
        }
        found = speed(arms, steps_to_target(arms), costs)
        false += any(rung["steps"]["supported"] for rungs in found for rung in rungs)
    assert false <= stats.binom.ppf(1 - 5e-4, repetitions, 0.05)


def test_a_target_within_the_first_two_validations_is_a_coarse_clock():
    slow = [arrives(seed, 150, arm="base") for seed in range(3)]
    fast = [arrives(seed, 20, arm="arm") for seed in range(3)]
    arms = {"base": slow, "arm": fast}
    (text,) = check_grid(steps_to_target(arms), arms)
    assert text.startswith("arm: half of the runs reach the target at 50 %, 75 %, 90 %, 100 % by")
    assert check_grid(steps_to_target({"base": slow}), {"base": slow}) == []


def test_too_few_pairs_for_a_family_of_targets_are_named():
    def pairs(n, arms):
        return [[{"steps": {"n": n, "p_holm": 0.5}}] * 4] * arms

    (text,) = check_speed_strength(pairs(7, 2))
    assert text.startswith("7 pairs cannot support any claim of speed, because 8 tests, one per")
    assert "use at least 9 seeds, or name the one at 90 %" in text
    assert check_speed_strength(pairs(9, 2)) == []
    assert check_speed_strength(pairs(5, 2)) == []  # said for everything already
    assert check_speed_strength([]) == []
