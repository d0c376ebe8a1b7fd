from typing import Any

import numpy as np
import pytest
from scipy import stats

from lnrnn.comparison.claims import claim, compare_arms, supported
from lnrnn.comparison.statistics import bootstrap_interval, holm, without_spread


def by_seed(values):
    return dict(enumerate(np.asarray(values, dtype=float).tolist()))


def shifted(differences):
    """A baseline and an arm that are so far apart."""
    baseline = np.linspace(0.3, 0.9, len(differences))
    return by_seed(baseline), by_seed(baseline + differences)


def compared(*differences):
    baselines, arms = zip(*map(shifted, differences), strict=True)
    return compare_arms(baselines[0], arms, higher_is_better=True)


FLIPS: dict[str, Any] = {"permutation_type": "samples", "n_resamples": np.inf}  # all of them


def rule(tables):
    """The claim rule by other means: scipy's t interval and permutation test, Holm by hand."""
    p = [float(stats.permutation_test((d,), np.mean, **FLIPS).pvalue) for d in tables]
    corrected: list[float] = [0.0] * len(p)
    for rank, place in enumerate(sorted(range(len(p)), key=lambda place: p[place])):
        corrected[place] = max((len(p) - rank) * p[place], *corrected)  # the others are smaller
    intervals = [stats.ttest_1samp(d, 0).confidence_interval(0.95) for d in tables]
    return [
        (bool(len(d) >= 6 and q < 0.04 and (i.low > 0 or i.high < 0)), np.sign(d.mean()), i)
        for d, q, i in zip(tables, corrected, intervals, strict=True)
    ]


@pytest.mark.parametrize("seed", range(12))
def test_claims_and_fragile_seeds_equal_the_rule_written_out(seed):
    rng = np.random.default_rng(seed)
    tables = [rng.normal(effect, 1, 9) for effect in (0.9, -0.8)]
    outcomes = compared(*tables)
    expected = rule(tables)
    fragile = [[], []]
    for left_out in range(9):
        rest = rule([np.delete(d, left_out) for d in tables])
        for place, (before, after) in enumerate(zip(expected, rest, strict=True)):
            if before[0] != after[0] or (before[0] and before[1] != after[1]):
                fragile[place].append(left_out)
    assert [outcome.supported for outcome in outcomes] == [claimed for claimed, *_ in expected]
    assert [list(outcome.fragile) for outcome in outcomes] == fragile


def test_the_cases_above_hold_fragile_and_steady_claims():
    found = [
        outcome
        for seed in range(12)
        for outcome in compared(*[np.random.default_rng(seed).normal(m, 1, 9) for m in (0.9, -0.8)])
    ]
    kinds = {(outcome.supported, bool(outcome.fragile)) for outcome in found}
    assert kinds == {(True, True), (True, False), (False, True), (False, False)}


def test_one_seed_can_hold_up_a_claim():
    steady = [0.30, 0.31, 0.29, 0.32, 0.28, 0.30, 0.31, 0.33, 0.27, 0.30]
    assert compared(steady)[0].fragile == ()
    (broken,) = compared([*steady[:9], -1.0])
    assert (broken.supported, broken.fragile) == (False, (9,))


def test_at_the_fewest_pairs_only_the_interval_or_the_direction_turns_a_claim():
    (steady,) = compared([0.30, 0.31, 0.29, 0.32, 0.28, 0.30])
    assert (steady.supported, steady.fragile) == (True, ())  # although five pairs support nothing
    (uneven,) = compared([0.30, 0.01, 0.30, 0.30, 0.01, 0.20])
    assert uneven.supported
    rest = {seed: np.delete([0.30, 0.01, 0.30, 0.30, 0.01, 0.20], seed) for seed in range(6)}
    hanging = [s for s, d in rest.items() if stats.ttest_1samp(d, 0).confidence_interval().low <= 0]
    assert list(uneven.fragile) == hanging == [0, 2, 3, 5]


def test_without_a_difference_or_a_pair_nothing_is_fragile():
    (equal,) = compared(np.zeros(8))
    assert (equal.supported, equal.fragile, equal.bootstrap, equal.p_holm) == (
        False,
        (),
        None,
        None,
    )
    (none,) = compare_arms({1: 0.5}, [{2: 0.5}], higher_is_better=True)
    assert (none.paired.n, none.fragile, none.bootstrap) == (0, (), None)


def test_arms_with_other_seeds_are_judged_on_their_own_pairs():
    rng = np.random.default_rng(5)
    baseline = by_seed(rng.normal(0, 1, 12))
    full = {seed: value + 1 + rng.normal(0, 0.3) for seed, value in baseline.items()}
    part = {seed: full[seed] for seed in range(4, 12)}
    first, second = compare_arms(baseline, [full, part], higher_is_better=True)
    assert (first.paired.n, second.paired.n) == (12, 8)
    assert set(second.fragile) <= set(range(4, 12))


@pytest.mark.parametrize(
    ("n", "interval", "p", "expected"),
    [
        (6, (0.1, 0.2), 0.03125, True),
        (6, (-0.2, -0.1), 0.03125, True),
        (5, (0.1, 0.2), 0.01, False),
        (6, (0.0, 0.2), 0.01, False),
        (6, (0.1, 0.2), 0.05, False),
        (6, (0.1, 0.2), None, False),
        (6, None, 0.01, False),
    ],
)
def test_supported(n, interval, p, expected):
    assert supported(n, interval, p) is expected


def bca(values, rng, resamples=40_000, level=0.95):
    """BCa written out after Efron (1987), with resamples of its own."""
    means = rng.choice(values, (resamples, len(values))).mean(axis=1)
    bias = stats.norm.ppf(np.mean(means < values.mean()) + np.mean(means == values.mean()) / 2)
    jackknife = np.array([np.delete(values, place).mean() for place in range(len(values))])
    spread = jackknife.mean() - jackknife
    acceleration = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    z = bias + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    return np.quantile(means, stats.norm.cdf(bias + z / (1 - acceleration * z)))


def test_bootstrap_equals_bca_written_out():
    rng = np.random.default_rng(2)
    values = rng.exponential(1.0, 12) - 0.3  # skewed, so that bias and acceleration count
    ours = bootstrap_interval(values)
    assert ours == pytest.approx(bca(values, rng), abs=0.02)
    plain = np.quantile(rng.choice(values, (40_000, 12)).mean(axis=1), [0.025, 0.975])
    assert ours != pytest.approx(plain, abs=0.02)
    assert ours == bootstrap_interval(values)


def test_nothing_to_resample_is_no_bootstrap():
    assert bootstrap_interval([]) is None
    assert bootstrap_interval([0.1]) is None
    assert bootstrap_interval([0.0, 0.0]) is None
    nearly = [0.4 - 0.3, 0.5 - 0.4, 0.2 - 0.1]  # equal but for rounding
    assert len(set(nearly)) > 1
    assert bootstrap_interval(nearly) is None
    assert without_spread(nearly)
    assert not without_spread([0.1, 0.1001])


@pytest.mark.parametrize(("arms", "n"), [(1, 6), (1, 10), (2, 8), (4, 10)])
def test_equal_arms_give_a_claim_in_at_most_five_per_cent(arms, n):
    rng, repetitions = np.random.default_rng(17 * n + arms), 1000
    false = 0
    for _ in range(repetitions):
        values = rng.normal(0, 1, (arms + 1, n)) + rng.normal(0, 2, n)  # arms share a seed's luck
        baseline, *others = map(by_seed, values)
        outcomes = claim(baseline, others, higher_is_better=True)
        false += any(outcome.supported for outcome in outcomes)
    # A binomial count of this mean is larger once in 2000 times.
    assert false <= stats.binom.ppf(1 - 5e-4, repetitions, 0.05)


def test_real_differences_are_found():
    rng, found = np.random.default_rng(23), 0
    for _ in range(200):
        baseline, arm = map(by_seed, rng.normal([[0.0], [2.0]], 1, (2, 10)))
        (outcome,) = claim(baseline, [arm], higher_is_better=True)
        found += outcome.supported
    # A t-test of ten such pairs has power 0.98.
    assert found >= stats.binom.ppf(5e-4, 200, 0.95)


def test_holm_keeps_to_a_family_of_its_own():
    one, two = compared(
        [0.3, 0.31, 0.29, 0.32, 0.28, 0.3, 0.2], [0.1, -0.1, 0.2, -0.3, 0.1, 0, 0.1]
    )
    assert [one.p_holm, two.p_holm] == holm([one.paired.p_sign_flip, two.paired.p_sign_flip])
