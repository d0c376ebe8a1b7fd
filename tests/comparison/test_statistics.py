import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from lnrnn.comparison.statistics import (
    compare_pairs,
    holm,
    mean_and_sd,
    median_curve,
    paired_t_interval,
    pairs_needed,
    probability_better,
    sign_flip_p,
)


@pytest.fixture
def pairs():
    rng = np.random.default_rng(7)
    baseline = rng.normal(0.9, 0.02, 9)
    return baseline, baseline + rng.normal(0.01, 0.015, 9)


def test_difference_and_interval_equal_scipys_paired_t_test(pairs):
    baseline, arm = pairs
    paired = compare_pairs(baseline, arm, higher_is_better=True)
    test = stats.ttest_rel(arm, baseline)
    expected = test.confidence_interval(0.95)
    assert paired.n == 9
    assert paired.difference == pytest.approx(np.mean(arm) - np.mean(baseline), abs=1e-14)
    assert paired.interval == pytest.approx((expected.low, expected.high), abs=1e-14)


def test_level_changes_the_interval(pairs):
    expected = stats.ttest_rel(*pairs[::-1]).confidence_interval(0.8)
    assert paired_t_interval(pairs[1] - pairs[0], 0.8) == pytest.approx(tuple(expected), abs=1e-14)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 9])
def test_sign_flip_equals_all_flips_written_out(n):
    differences = np.random.default_rng(n).normal(0.4, 1, n)
    means = [np.mean(np.multiply(signs, differences)) for signs in product([1, -1], repeat=n)]
    share = np.mean([abs(mean) >= abs(means[0]) - 1e-12 for mean in means])
    assert sign_flip_p(differences) == share


def test_sign_flip_equals_scipys_permutation_test(pairs):
    differences = pairs[1] - pairs[0]
    test = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=10_000
    )
    assert sign_flip_p(differences) == pytest.approx(test.pvalue, abs=1e-14)


@pytest.mark.parametrize(("n", "smallest"), [(5, 0.0625), (6, 0.03125), (10, 2**-9), (20, 2**-19)])
def test_smallest_p(n, smallest):
    assert sign_flip_p(np.linspace(1, 2, n)) == smallest
    assert sign_flip_p(-np.linspace(1, 2, n)) == smallest


def test_sums_that_are_equal_but_for_rounding_count_as_equal():
    # 0.1 + 0.2 - 0.3 is 5.6e-17: every flip is at least as far from zero as zero.
    assert sign_flip_p([0.1, 0.2, -0.3]) == 1


def test_many_pairs_give_a_repeatable_p_close_to_the_t_test():
    differences = np.random.default_rng(3).normal(0.3, 1, 40)
    p = sign_flip_p(differences)
    assert p == sign_flip_p(differences)
    assert p == pytest.approx(stats.ttest_rel(differences, np.zeros(40)).pvalue, abs=0.01)


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.5: times 4, 3, 2, 1, never falling.
    corrected = holm([0.03, 0.01, None, 0.5, 0.02])
    assert corrected[2] is None
    assert [p for p in corrected if p is not None] == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


@pytest.mark.parametrize(("tests", "pairs"), [(0, 6), (1, 6), (2, 7), (3, 8), (4, 8), (12, 10)])
def test_pairs_needed_is_the_first_n_whose_smallest_p_passes_holm(tests, pairs):
    def corrected(n):
        return sign_flip_p(np.ones(n)) * max(tests, 1)

    assert pairs_needed(tests) == pairs
    assert corrected(pairs) < 0.04 <= corrected(pairs - 1)


def test_probability_better_counts_ties_half_and_knows_the_direction():
    differences = [1.0, 2.0, 0.0, -1.0]
    assert probability_better(differences, higher_is_better=True) == 2.5 / 4
    assert probability_better(differences, higher_is_better=False) == 1.5 / 4
    assert stats.mannwhitneyu([1], [0]).statistic == probability_better([1.0], True)


def test_direction_changes_neither_difference_nor_p(pairs):
    up = compare_pairs(*pairs, higher_is_better=True)
    down = compare_pairs(*pairs, higher_is_better=False)
    assert (up.difference, up.interval, up.p_sign_flip) == (
        down.difference,
        down.interval,
        down.p_sign_flip,
    )
    assert up.probability_better == pytest.approx(1 - (down.probability_better or 0))


def test_equal_arms_are_exactly_zero_apart_and_not_tested():
    values = [0.1, 0.7, 0.3, 0.4, 0.5, 0.6]
    paired = compare_pairs(values, values, higher_is_better=True)
    assert paired.difference == 0
    assert paired.interval == (0, 0)
    assert paired.p_sign_flip is None
    assert paired.probability_better == 0.5


def test_one_pair_and_none():
    one = compare_pairs([0.5], [0.75], higher_is_better=True)
    assert (one.n, one.difference, one.interval, one.p_sign_flip) == (1, 0.25, None, None)
    none = compare_pairs([], [], higher_is_better=True)
    assert (none.n, none.difference, none.probability_better) == (0, None, None)


def test_mean_and_sd_use_n_minus_1():
    values = [0.91, 0.95, 0.99, 0.90]
    assert mean_and_sd(values) == pytest.approx((stats.tmean(values), stats.tstd(values)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare_pairs([1.0], [1.0, 2.0], higher_is_better=True), "equally many"),
        (lambda: compare_pairs([math.nan], [1.0], higher_is_better=True), "finite"),
        (lambda: paired_t_interval([1.0]), "at least two"),
        (lambda: sign_flip_p([]), "at least one"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_intervals_cover_and_equal_arms_are_rarely_told_apart():
    n, repetitions, truth = 8, 2000, 0.3
    differences = np.random.default_rng(11).normal(truth, 1, (repetitions, n))
    intervals = np.array([paired_t_interval(row) for row in differences])
    covered = int(((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])).sum())
    # A binomial count strays further than these from its mean once in 1000 such tests.
    assert stats.binom.ppf(5e-4, repetitions, 0.95) <= covered
    assert covered <= stats.binom.ppf(1 - 5e-4, repetitions, 0.95)
    rejected = sum(sign_flip_p(row - truth) < 0.05 for row in differences)
    assert rejected <= stats.binom.ppf(1 - 5e-4, repetitions, 0.05)
    assert rejected >= stats.binom.ppf(
        5e-4, repetitions, 12 / 256
    )  # 12 of 256 flips are below 0.05


def test_median_curve_uses_the_steps_all_have():
    curves = [((10, 1.0), (20, 2.0)), ((10, 3.0), (20, 8.0), (30, 9.0)), ((20, 5.0), (10, 2.0))]
    steps, quartiles = median_curve(curves)
    assert steps.tolist() == [10, 20]
    assert quartiles.tolist() == [[1.5, 3.5], [2.0, 5.0], [2.5, 6.5]]
    assert median_curve([])[0].shape == (0,)
    assert median_curve([((1, 0.0),), ((2, 0.0),)])[1].shape == (3, 0)
