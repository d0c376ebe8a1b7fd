import numpy as np
import pytest
from scipy import stats

from lnrnn.comparison import compare
from lnrnn.comparison.failures import at_most, exact_p

LEARNS, STUCK = (0.1, 0.5, 0.9), (0.1, 0.1, 0.12)


def arms(write_run, stuck, where="lstm", **lost):
    """Two arms, some runs of one of which are stuck; where none is, they are as good."""
    noise = np.random.default_rng(0).normal(0, 0.01, (2, 10))
    found = {}
    for place, name in enumerate(("lstm", "lstm_ln")):
        found[name] = []
        for seed in range(10):
            fails = name == where and seed in stuck
            value = 0.1 if fails else 0.9 + noise[place, seed]
            curve = STUCK if fails else LEARNS
            changes = lost if place == 1 and seed == 9 else {}
            found[name].append(write_run(name, seed, value=value, curve=curve, **changes))
    return found


def test_failures_and_what_is_left_without_them_are_told_apart(write_run):
    result = compare(arms(write_run, stuck=(2, 5, 7)))
    (pair,) = result["pairs"]
    counts = [pair["failures"][key] for key in ("baseline", "arm", "of", "p", "supported")]
    assert counts == [3, 0, 10, 0.25, False]
    assert pair["given_success"]["n"] == 7
    assert abs(pair["given_success"]["difference"]) < 0.02 < pair["difference"]
    assert not pair["given_success"]["supported"]
    words = "3 of 10 runs of the baseline and 0 of 10 of this arm fail (no supported difference"
    assert words in pair["verdict"]
    assert "; where neither does, no supported difference in test accuracy" in pair["verdict"]


def test_many_more_failures_are_a_claim_of_their_own(write_run):
    (pair,) = compare(arms(write_run, stuck=range(7), where="lstm_ln"))["pairs"]
    assert pair["failures"]["p"] == 2 / 2**7
    assert "(it fails more often, Holm p = 0.0156)" in pair["verdict"]


def test_a_run_that_was_lost_fails_and_one_that_goes_on_does_not(write_run):
    failed = compare(arms(write_run, stuck=(), status="failed", error="nan"))["pairs"][0]
    assert [failed["failures"][key] for key in ("baseline", "arm", "of")] == [0, 1, 10]


def test_nothing_is_said_where_nothing_fails(write_run):
    (pair,) = compare(arms(write_run, stuck=()))["pairs"]
    assert pair["verdict_parts"]["failures"] is None
    assert pair["failures"]["p"] is None
    assert pair["failures"]["arm_at_most"] == pytest.approx(1 - 0.05 ** (1 / 10))
    assert pair["given_success"]["difference"] == pair["difference"]


def test_the_test_and_the_bound_are_the_textbooks():
    assert exact_p(0, 0) is None
    assert exact_p(1, 6) == stats.binomtest(1, 7).pvalue
    assert (at_most(0, 0), at_most(3, 3)) == (None, 1.0)
    assert stats.binom.cdf(2, 9, at_most(2, 9)) == pytest.approx(0.05)
