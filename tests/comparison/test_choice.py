import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from lnrnn.comparison import Run, compare
from lnrnn.comparison.choice import EXACT_SEEDS, Exchanges, choose, robust_mean
from lnrnn.comparison.claims import claim
from lnrnn.comparison.statistics import sign_flip_p

RATES = (0.001, 0.01, 0.1)


def test_a_robust_mean_leaves_out_a_fifth_at_each_end():
    for n, cut in ((3, 1), (4, 1), (9, 1), (10, 2), (15, 3)):
        losses = np.random.default_rng(n).normal(size=(n, 2))
        assert robust_mean(losses) == pytest.approx(np.sort(losses, 0)[cut : n - cut].mean(0))
    assert robust_mean(np.array([[1.0], [5.0]])) == pytest.approx([3.0])


def test_fewer_lost_runs_come_before_a_lower_loss():
    lost = [[0.1, 0.5, math.inf], [math.inf, 0.5, math.inf], [0.1, 0.6, 0.0], [0.1, 0.6, 0.0]]
    assert choose(np.array(lost)) == 1
    assert choose(np.full((3, 2), math.inf)) == 0
    assert choose(np.array([[0.3, 0.3]])) == 0


def by_hand(losses, outcomes):
    """Exchange every subset of seeds, choose both rates anew, and count what is as far away."""
    scores = []
    for swap in product((False, True), repeat=len(losses[0])):
        arms = []
        for side in (0, 1):
            rows = [(losses, outcomes)[k][side ^ s][i] for k in (0, 1) for i, s in enumerate(swap)]
            loss, outcome = np.array(rows[: len(swap)]), np.array(rows[len(swap) :])
            ends = np.sort(loss, 0)[1:-1] if len(swap) < 10 else np.sort(loss, 0)[2:-2]
            arms.append(outcome[:, ends.mean(0).argmin()])
        scores.append(abs(stats.ttest_rel(*arms).statistic))
    return np.mean(np.array(scores) >= scores[0] - 1e-9)


def test_the_exchange_test_equals_all_exchanges_written_out():
    random = np.random.default_rng(4)
    losses, outcomes = random.normal(size=(2, 2, 6, 3))
    outcomes[1] += 0.6
    p = Exchanges(*losses).p(*outcomes)
    assert p == by_hand(losses, outcomes)
    assert p not in (0, 1)


def test_arms_whose_best_rates_are_apart_can_be_told_apart():
    """A mixed arm's best rate suits some of its seeds, and the others end far away."""
    random = np.random.default_rng(6)
    stuck = random.random((10, 1)) < 0.3
    first = np.array([-35.0, -12.0, 0.0, -3.0]) + random.normal(size=(10, 4))
    second = 3 + np.array([0.0, 0.0, -3.0, -60.0]) + random.normal(size=(10, 4))
    second -= 60 * stuck * np.array([0, 0, 1, 0])
    p = Exchanges(-first, -second).p(first, second)
    assert p is not None
    assert p < 0.02


def test_with_one_rate_it_is_the_sign_flip_test():
    baseline, arm, loss = np.random.default_rng(1).normal(size=(3, 8, 1))
    assert Exchanges(loss, loss).p(baseline, arm) == sign_flip_p((arm - baseline)[:, 0])
    assert Exchanges(loss, loss).p(baseline, baseline) is None
    assert Exchanges(loss, loss).p(baseline, np.full_like(arm, np.nan)) is None


def test_many_seeds_take_random_exchanges_that_repeat():
    n = EXACT_SEEDS + 3
    losses, outcomes = np.random.default_rng(2).normal(size=(2, 2, n, 2))
    p = Exchanges(*losses).p(*outcomes)
    assert p == Exchanges(*losses).p(*outcomes)
    assert p is not None
    far = Exchanges(*losses).p(outcomes[0], outcomes[0] + 9)
    assert far is not None
    assert far < 0.01 < p <= 1


def test_equal_arms_that_choose_a_rate_claim_in_at_most_one_of_twenty():
    """The response is sloped: where arms choose differently, one is truly worse at its rate."""
    random = np.random.default_rng(3)
    repetitions, once, anew = 800, 0, 0
    for _ in range(repetitions):
        quality = np.array([-1.5, -0.5, 0.0]) + random.normal(size=(2, 8, 3))
        losses = -quality + 0.5 * random.normal(size=quality.shape)
        values = [
            dict(enumerate(q[:, choose(loss)])) for q, loss in zip(quality, losses, strict=True)
        ]
        p = Exchanges(*losses).p(*quality)
        (found,) = claim(
            values[0], [values[1]], higher_is_better=True, choices=[lambda left_out, p=p: p]
        )
        anew += found.supported
        tuned = np.array([-1.5, -0.5, 0.0]) + random.normal(size=(2, 3))  # on a seed of its own
        values = [dict(enumerate(q[:, t.argmax()])) for q, t in zip(quality, tuned, strict=True)]
        once += claim(values[0], [values[1]], higher_is_better=True)[0].supported
    assert anew <= stats.binom.ppf(1 - 5e-4, repetitions, 0.05)
    assert once > stats.binom.ppf(1 - 5e-4, repetitions, 0.05)  # what the test is for


def run(arm, seed, rate, value, loss):
    curves = {"val/accuracy": ((10, 0.1), (20, value)), "val/loss": ((10, 3.0), (20, loss))}
    metrics = {"test/accuracy": value}
    folder = f"{arm}/{rate}/{seed}"
    return Run(folder, "finished", "d", arm, seed, "accuracy", True, metrics=metrics, curves=curves)


def grid(arm, seeds, gain, seed=0):
    random = np.random.default_rng(seed)
    return {
        rate: [
            run(arm, s, rate, float(0.5 + gain + 0.02 * random.normal()), abs(place - 1) + 0.5)
            for s in range(seeds)
        ]
        for place, rate in enumerate(RATES)
    }


def test_a_comparison_over_a_grid_uses_the_larger_p_and_says_how_rates_were_chosen():
    grids = {"rnn": grid("rnn", 8, 0.0, 1), "rnn_ln": grid("rnn_ln", 8, 0.2, 2)}
    result = compare({arm: rates[0.01] for arm, rates in grids.items()}, grid=grids)
    tuning = result["tuning"]
    assert (tuning["procedure"], [arm["best"] for arm in tuning["arms"]]) == (
        "every seed",
        [0.01] * 2,
    )
    (pair,) = result["pairs"]
    assert pair["p_choice"] is not None
    assert pair["p_holm"] == max(pair["p_sign_flip"], pair["p_choice"])
    assert pair["supported"]
    steps = pair["speed"][0]["steps"]
    assert (steps["p"], steps["p_choice"] is None) == (None, True) or steps["p_choice"] >= 0
    assert not any("share seeds" in text or "chosen once" in text for text in result["warnings"])
    once = compare({arm: rates[0.01] for arm, rates in grids.items()})
    assert once["pairs"][0]["p_choice"] is None
