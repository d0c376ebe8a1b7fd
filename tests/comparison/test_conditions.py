import copy
from dataclasses import replace

from comparison.sample import COST, sample_runs

from lnrnn.comparison import compare, html_tables
from lnrnn.comparison.conditions import check_ceiling, check_clipping, check_clock
from lnrnn.comparison.summary import summary
from lnrnn.comparison.tables import measured

CLIPPED = "monitor/clipped"


def test_a_clock_that_was_disturbed_is_told():
    assert check_clock(COST) == check_clock(None) == []
    cost = copy.deepcopy(COST)
    cost["arms"][1]["quartiles"] = [0.004, 0.0081]
    cost["arms"][2]["ratio_quartiles"] = [0.5, 1.5]
    first, second = check_clock(cost)
    assert first.startswith("lstm_ln: the middle half of its step times spreads 2.0-fold")
    assert second.startswith("lstm_lncell: the middle half of its step times spreads 3.0-fold")
    assert first in compare(sample_runs(seeds=6), cost=cost)["warnings"]


def clipped(runs, shares):
    return {
        name: [
            replace(run, curves=run.curves | {CLIPPED: ((10, share), (20, share))})
            for run in members
        ]
        for (name, members), share in zip(runs.items(), shares, strict=True)
    }


def test_clipping_that_differs_by_arm_is_told():
    runs = sample_runs(seeds=6)
    (text,) = check_clipping(clipped(runs, (1.0, 0.85, 0.01)))
    assert "(lstm 100 %, lstm_ln 85 %, lstm_lncell 1 %)" in text
    assert check_clipping(clipped(runs, (1.0, 0.9, 0.8))) == []
    assert check_clipping(sample_runs(seeds=6, monitor=False)) == []
    assert text in compare(clipped(runs, (1.0, 0.85, 0.01)))["warnings"]


def test_validation_at_its_ceiling_is_told():
    runs = sample_runs(seeds=6, monitor=False)
    assert check_ceiling(runs) == []
    top = ((10, 0.5), (20, 1.0))
    perfect = [replace(run, curves={"val/accuracy": top}) for run in runs["lstm"][:3]]
    (text,) = check_ceiling({**runs, "lstm": [*perfect, *runs["lstm"][3:]]})
    assert "(lstm in 3 of 6 runs)" in text
    assert check_ceiling({**runs, "lstm": [*perfect[:2], *runs["lstm"][2:]]}) == []
    failed = replace(perfect[0], status="failed")
    assert "(a in 2 of 2 runs)" in check_ceiling({"a": [failed, *perfect[1:]]})[0]


def test_tests_of_best_and_of_last_weights_are_told_apart():
    runs = sample_runs(seeds=6, monitor=False)
    told = "tested the weights of their best validation and others their last"
    assert not any(told in text for text in compare(runs)["warnings"])
    best = {**runs, "lstm": [replace(run, tested="best") for run in runs["lstm"]]}
    assert any(told in text for text in compare(best)["warnings"])
    # A record that lacks the entry is of a version that tested the last weights.
    last = {**runs, "lstm": [replace(run, tested="last") for run in runs["lstm"]]}
    assert not any(told in text for text in compare(last)["warnings"])


def test_what_the_best_weights_had_is_not_said_to_be_at_the_end():
    runs = sample_runs(seeds=6, monitor=False)
    best = {arm: [replace(run, tested="best") for run in members] for arm, members in runs.items()}
    for tested, words in (
        (compare(runs), "at the end"),
        (compare(best), "with the best weights"),
    ):
        other = {"at the end": "with the best weights"}.get(words, "at the end")
        said = [
            tested["primary"]["meaning"],
            *(pair["verdict"] for pair in tested["pairs"]),
            *(summary(tested, place) for place in range(1, len(tested["arms"]))),
            *(outcome.title for outcome in measured(tested)[:1]),
            str(html_tables.seeds(tested).caption),
        ]
        assert all(words in text for text in said), said
        assert not any(other in text for text in said), said
    assert compare(best)["tested"] == "best"
    assert compare({**best, "lstm": runs["lstm"]})["tested"] == "last"
