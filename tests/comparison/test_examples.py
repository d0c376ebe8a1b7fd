"""Differences over other test sets: seeds and examples are both samples."""

from dataclasses import replace

import numpy as np
import pytest
from comparison.sample import sample_runs

from lnrnn.comparison import compare, read_run
from lnrnn.comparison.examples import compare_examples, crossed_interval
from lnrnn.comparison.html import page
from lnrnn.comparison.plots import draw
from lnrnn.comparison.statistics import paired_t_interval
from lnrnn.runs.record import RecordError, pack_correct, unpack_correct


def interval_of(gains: np.ndarray) -> tuple[float, float]:
    found = crossed_interval(gains)
    assert found is not None
    return found


def answers(seed: int, right: float, examples: int = 40) -> tuple[bool, ...]:
    return tuple((np.random.default_rng(seed).random(examples) < right).tolist())


def with_answers(runs, right: float, offset: int, examples: int = 40):
    return [replace(run, test_correct=answers(offset + run.seed, right, examples)) for run in runs]


@pytest.fixture
def arms():
    runs = sample_runs(("lstm", "lstm_ln"), monitor=False)
    return {
        "lstm": with_answers(runs["lstm"], 0.7, 0),
        "lstm_ln": with_answers(runs["lstm_ln"], 0.8, 100),
    }


def test_the_interval_is_worked_out_by_hand():
    gains = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    # Means of rows 2/3 and 1/3, of columns 1/2, 0 and 1; quantile of t with one degree 12.7062.
    half = 12.7062 * np.sqrt((1 / 18) / 2 + (1 / 4) / 3)
    np.testing.assert_allclose(interval_of(gains), (0.5 - half, 0.5 + half), rtol=1e-5)


def test_it_holds_the_interval_over_seeds_and_is_it_where_examples_are_alike():
    rng = np.random.default_rng(0)
    gains = rng.integers(-1, 2, (7, 30)).astype(float)
    low, high = interval_of(gains)
    inner = paired_t_interval(gains.mean(1))
    assert low < inner[0] < inner[1] < high
    alike = np.repeat(rng.normal(size=(7, 1)), 30, axis=1)
    np.testing.assert_allclose(interval_of(alike), paired_t_interval(alike[:, 0]))
    assert crossed_interval(gains[:1]) is None
    assert crossed_interval(gains[:, :1]) is None


def test_it_covers_the_truth_where_the_interval_over_seeds_does_not():
    """Examples that suit one arm: 300 comparisons of arms that are equal over all of them."""
    rng = np.random.default_rng(1)
    crossed = seeds = 0
    for _ in range(300):
        suits = rng.normal(0, 0.25, 50)
        gains = suits + rng.normal(0, 0.3, (10, 50)) + rng.normal(0, 0.02, (10, 1))
        low, high = interval_of(gains)
        crossed += low <= 0 <= high
        low, high = paired_t_interval(gains.mean(1))
        seeds += low <= 0 <= high
    assert crossed >= 0.93 * 300
    assert seeds <= 0.85 * 300


def test_a_pair_says_it_and_the_page_shows_it(arms):
    result = compare(arms)
    (pair,) = result["pairs"]
    gains = [
        np.subtract(arm.test_correct, base.test_correct, dtype=float)
        for base, arm in zip(*arms.values(), strict=True)
    ]
    assert pair["examples"] == {
        "n": 40,
        "pairs": 10,
        "interval": list(interval_of(np.array(gains))),
    }
    text = page(result, draw(result, arms))
    assert "95 % interval (seeds and examples)" in text
    low, high = pair["examples"]["interval"]
    assert f"[{low:+.4f}, {high:+.4f}]" in text


def test_a_claim_that_other_examples_may_undo_is_warned_of(arms):
    words = "with examples drawn anew as well, the 95 % interval of the difference includes zero"
    arms["lstm_ln"] = [replace(run, test_correct=arms["lstm"][run.seed].test_correct[::-1])
                       for run in arms["lstm_ln"]]  # fmt: skip
    result = compare(arms)
    assert result["pairs"][0]["supported"]
    assert sum(words in warning for warning in result["warnings"]) == 1
    arms["lstm_ln"] = [replace(run, test_correct=(True,) * 40) for run in arms["lstm_ln"]]
    assert not any(words in warning for warning in compare(arms)["warnings"])


def test_where_it_was_not_recorded_nothing_is_said(arms):
    bare = sample_runs(("lstm", "lstm_ln"), monitor=False)
    assert compare(bare)["pairs"][0]["examples"] is None
    assert "seeds and examples" not in page(compare(bare), {})
    other = with_answers(bare["lstm_ln"], 0.8, 0, examples=41)
    assert compare_examples(arms["lstm"], other) is None
    alone = compare_examples(arms["lstm"][:1], arms["lstm_ln"])
    assert alone == {"n": 40, "pairs": 1, "interval": None}


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 370])
def test_answers_survive_the_record(count):
    correct = list(answers(count, 0.5, count))
    packed = pack_correct(correct)
    assert len(packed["hex"]) == 2 * -(-count // 8)
    assert unpack_correct(packed) == correct
    assert unpack_correct({}) == []


@pytest.mark.parametrize(
    "packed",
    [
        {"examples": 9, "hex": "ff"},
        {"examples": 10**12, "hex": "ff"},
        {"examples": -1, "hex": ""},
        {"examples": True, "hex": "01"},
        {"examples": 8, "hex": "zz"},
        {"hex": "ff"},
        {"examples": 8},
    ],
)
def test_answers_of_another_form_are_refused(packed, write_run):
    folder = write_run("rnn", 0, test_correct=packed)
    with pytest.raises(RecordError, match="test_correct must hold a number of examples"):
        read_run(folder)


def test_many_answers_are_packed_in_time():
    many = [True, False, True] * 200_000
    assert unpack_correct(pack_correct(many)) == many
