import numpy as np
import pytest
from comparison.sample import sample_runs

from lnrnn.comparison import compare
from lnrnn.comparison.claims import claim
from lnrnn.comparison.looks import Look, looks_with
from lnrnn.comparison.statistics import ALPHA, alpha_of, holm

PARTS = {"final": "at the end", "area": "over training", "steps_to_90": "to reach 90 %"}


@pytest.mark.parametrize("endpoint", PARTS)
def test_a_verdict_begins_with_the_primary_endpoint(endpoint):
    result = compare(sample_runs(monitor=False), primary=endpoint, named=endpoint)
    assert result["primary"]["endpoint"] == endpoint
    assert (result["primary"]["looks"], result["primary"]["alpha"]) == ([10], pytest.approx(0.04))
    for pair in result["pairs"]:
        assert pair["verdict"].startswith(f"{pair['arm']} against lstm: {PARTS[endpoint]}")
        assert "Secondary: " in pair["verdict"]
        assert pair["primary"]["endpoint"] == endpoint


def test_the_primary_steps_are_corrected_over_the_arms_alone():
    result = compare(sample_runs(monitor=False), primary="steps_to_90")
    ladder = [pair["speed"][2]["steps"] for pair in result["pairs"]]
    assert [pair["primary"]["p_holm"] for pair in result["pairs"]] == holm([s["p"] for s in ladder])
    assert all(
        pair["primary"]["p_holm"] < steps["p_holm"]
        for pair, steps in zip(result["pairs"], ladder, strict=True)
    )


def test_an_endpoint_that_does_not_exist_or_was_not_named_is_told():
    runs = sample_runs(seeds=6, monitor=False)
    with pytest.raises(ValueError, match="one of final, area, steps_to_90, got 'best'"):
        compare(runs, primary="best")
    changed = compare(runs, primary="area", named="final")
    assert changed["primary"]["named_before_the_runs"] == "final"
    assert any("primary=area afterwards" in text for text in changed["warnings"])
    assert not any(
        "was named before the runs" in text for text in compare(runs, named="final")["warnings"]
    )


def test_seeds_that_are_added_make_a_claim_harder():
    runs = sample_runs(monitor=False)
    (first, *_), (second, *_) = (compare(runs, looks=looks)["pairs"] for looks in ((), (7,)))
    assert (first["level"], second["level"]) == (0.95, pytest.approx(0.992))
    assert np.ptp(second["interval"]) > np.ptp(first["interval"])
    extended = compare(runs, looks=(7,))
    assert extended["primary"]["looks"] == [7, 10]
    assert any("seeds were added after the result over 7 seeds" in w for w in extended["warnings"])
    assert compare(runs, looks=(10,))["primary"]["looks"] == [10]


def test_looks_spend_no_more_than_there_is():
    assert sum(alpha_of(look) for look in range(1, 60)) == pytest.approx(ALPHA)
    for before, seeds, looks in [
        ([10], 7, [10]),
        ([7, 7], 7, [7]),
        ([7, 10, 8], 15, [7, 10, 15]),
        ([7, 10], 15, [7, 10, 15]),
        ([0], 5, [5]),
    ]:
        assert looks_with(before, Look(seeds)) == [Look(count) for count in looks]


@pytest.mark.parametrize(
    ("before", "now", "looks"),
    [
        ([(7, 5)], (10, 3), [(7, 5), (10, 3)]),  # fewer runs, and yet three seeds more
        ([(7, 5), (10, 3)], (10, 5), [(7, 5), (10, 3), (10, 5)]),  # three seeds on two splits more
        ([(7, 5), (10, 3)], (7, 3), [(7, 5), (10, 3)]),
        ([(3, 3)], (7, 3), [(7, 3)]),  # nine runs of an arm, and too few seeds for any claim
        ([(7, 3)], (7, 5), [(7, 3), (7, 5)]),
    ],
)
def test_a_look_is_over_seeds_and_splits(before, now, looks):
    assert looks_with(before, Look(*now)) == looks


def test_equal_arms_that_are_looked_at_until_they_differ_claim_in_at_most_one_of_twenty():
    random, repetitions, claimed = np.random.default_rng(6), 200, 0
    for _ in range(repetitions):
        gaps = random.normal(size=16)
        for look, n in enumerate((7, 10, 13, 16), start=1):
            values = dict.fromkeys(range(n), 0.0), dict(enumerate(gaps[:n].tolist()))
            if claim(values[0], [values[1]], higher_is_better=True, look=look)[0].supported:
                claimed += 1
                break
    assert claimed <= 0.05 * repetitions
