"""Several splits: what interval and p-value are made of, and what a comparison says of them."""

import csv
import io
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from comparison.sample import sample_runs
from rich.console import Console
from scipy import stats

from lnrnn.comparison import Run, compare, print_table, tables, write
from lnrnn.comparison.records import Unreadable
from lnrnn.comparison.splits import judge, overlap
from lnrnn.comparison.statistics import crossed_error

SIZES = {"train": 640, "validation": 160, "test": 200}


def on_splits(arms=("rnn", "rnn_ln"), seeds=8, splits=5, *, fresh=False, gain=0.03, sizes=SIZES):
    """Runs of every seed on every split, whose test values are known numbers."""
    random = np.random.default_rng(3)
    made = {}
    common = random.normal(0, 0.02, (seeds, splits))
    for place, runs in enumerate(sample_runs(arms, seeds, points=6, monitor=False).values()):
        own = random.normal(0, 0.004, (seeds, splits)) + random.normal(0, 0.004, splits)
        made[arms[place]] = [
            replace(
                run,
                folder=f"{run.folder}/split{split}",
                split=split,
                split_key="split_seed",
                split_fresh=fresh,
                split_sizes=sizes,
                data_fingerprint=f"data{split}",
                metrics={
                    "test/accuracy": float(0.8 + common[s, split] + own[s, split] + gain * place)
                },
            )
            for s, run in enumerate(runs)
            for split in range(splits)
        ]
    return made


def values(runs, splits=5):
    return np.array([run.test_value for run in runs]).reshape(-1, splits)


@pytest.mark.parametrize("shape", [(7, 5), (5, 7)])
@pytest.mark.parametrize("correction", [0.0, 0.25])
def test_interval_and_p_value_are_those_written_out(shape, correction):
    gains = np.random.default_rng(1).normal(0.3, 1, shape)
    seeds = [sum(row) / shape[1] for row in gains.tolist()]
    splits = [sum(column) / shape[0] for column in gains.T.tolist()]
    error = math.sqrt(
        np.var(seeds, ddof=1) / shape[0] + np.var(splits, ddof=1) * (1 / shape[1] + correction)
    )
    found = judge(gains, correction, 0.9)
    assert found is not None
    low, high = stats.t.interval(0.9, 4, loc=gains.mean(), scale=error)
    assert found.interval == pytest.approx((low, high))
    # The p-value is the level at which the interval's nearer end is zero.
    assert found.p is not None
    edge = judge(gains, correction, 1 - found.p)
    assert edge is not None
    assert min(map(abs, edge.interval)) == pytest.approx(0, abs=1e-9)
    assert found.splits == shape[1]
    assert crossed_error(gains, correction) == pytest.approx(error)


def test_tables_that_say_nothing():
    assert judge(np.ones((1, 5)), 0.0) is None
    assert judge(np.ones((5, 1)), 0.0) is None
    zero, one = judge(np.zeros((6, 3)), 0.2), judge(np.ones((6, 3)), 0.2)
    assert zero is not None
    assert one is not None
    assert (zero.interval, zero.p) == ((0.0, 0.0), None)
    assert (one.interval, one.p) == ((1.0, 1.0), 0.0)


def test_the_correction_is_the_size_of_the_test_over_the_rest():
    run = on_splits()["rnn"][0]
    assert overlap(run) == 200 / 800
    assert overlap(replace(run, split_fresh=True)) == 0
    # Of 1,000 examples, two random tests of 200 share a fifth on average: r = 0.2, r/(1 - r) = 1/4.
    random = np.random.default_rng(0)
    shared = [
        len({*random.permutation(1000)[:200]} & {*random.permutation(1000)[:200]}) / 200
        for _ in range(300)
    ]
    assert np.mean(shared) == pytest.approx(0.2, abs=0.005)


def test_the_level_is_kept_where_splits_are_correlated():
    random, trials, r = np.random.default_rng(0), 2000, 0.2
    false = {"corrected": 0, "not corrected": 0, "seeds alone": 0}
    for _ in range(trials):
        splits = math.sqrt(r) * random.normal() + math.sqrt(1 - r) * random.normal(size=5)
        gains = splits + 0.3 * random.normal(size=(7, 1)) + 0.5 * random.normal(size=(7, 5))
        for name, correction in (("corrected", r / (1 - r)), ("not corrected", 0.0)):
            found = judge(gains, correction)
            assert found is not None
            assert found.p is not None
            false[name] += found.p < 0.05
        alone: Any = stats.ttest_1samp(gains.mean(1), 0)
        false["seeds alone"] += alone.pvalue < 0.05
    assert false["corrected"] / trials < 0.06
    assert false["not corrected"] / trials > 0.07
    assert false["seeds alone"] / trials > 0.5


@pytest.mark.parametrize("fresh", [False, True])
def test_a_comparison_takes_seeds_and_splits_for_samples(fresh):
    runs = on_splits(fresh=fresh)
    result = compare(runs)
    assert (result["seeds"], result["splits"]) == ([*range(8)], [*range(5)])
    (pair,) = result["pairs"]
    gains = values(runs["rnn_ln"]) - values(runs["rnn"])
    expected = judge(gains, 0.0 if fresh else 0.25)
    assert expected is not None
    assert pair["n"] == 8
    assert pair["difference"] == pytest.approx(gains.mean())
    assert pair["interval"] == pytest.approx(expected.interval)
    assert pair["p_splits"] == pytest.approx(expected.p)
    assert pair["p_sign_flip"] == 2 / 2**8
    assert pair["p_holm"] == max(pair["p_sign_flip"], pair["p_splits"])
    assert pair["supported"]
    assert pair["splits"]["differences"] == pytest.approx(gains.mean(0).tolist())
    assert pair["splits"]["correction"] == (0.0 if fresh else 0.25)
    assert pair["examples"] is None
    assert "8 pairs on each of 5 splits" in pair["verdict"]
    assert not [text for text in result["warnings"] if "data" in text]
    assert result["arms"][0]["mean"] == pytest.approx(values(runs["rnn"]).mean())
    json.dumps(result, allow_nan=False)


def test_what_differs_by_split_alone_is_not_supported():
    runs = on_splits(gain=0.0)
    lucky = [
        replace(run, metrics={"test/accuracy": run.metrics["test/accuracy"] + 0.1})
        if run.split == 0
        else run
        for run in runs["rnn_ln"]
    ]
    alone = {name: [r for r in members if r.split == 0] for name, members in
             {**runs, "rnn_ln": lucky}.items()}  # fmt: skip
    assert compare(alone)["pairs"][0]["supported"]
    (pair,) = compare({**runs, "rnn_ln": lucky})["pairs"]
    assert pair["p_sign_flip"] < 0.01
    assert not pair["supported"]


def test_one_split_is_compared_as_ever():
    runs = {
        name: [run for run in members if run.split == 0] for name, members in on_splits().items()
    }
    without = {
        name: [replace(run, split=None, split_key=None) for run in members]
        for name, members in runs.items()
    }
    one, other = compare(runs), compare(without)
    assert one["splits"] == [0]
    assert other["splits"] == [None]
    assert one["pairs"] == other["pairs"]
    assert one["pairs"][0]["splits"] is None
    assert one["steps_to_target"]


def test_a_seed_without_a_result_on_every_split_is_no_pair():
    runs = on_splits()
    lost = runs["rnn"][7]  # seed 1 on split 2
    runs["rnn"][7] = replace(lost, status="failed", metrics={}, curves={}, error="no memory")
    result = compare(runs)
    (pair,) = result["pairs"]
    assert (lost.seed, lost.split) == (1, 2)
    assert pair["n"] == 7
    assert (pair["failures"]["baseline"], pair["failures"]["of"]) == (1, 8)
    assert "Runs of the baseline fail with 1 of 8 seeds, of this arm with 0" in pair["verdict"]
    assert pair["given_success"]["n"] == 7
    text = "so only the 7 they share are paired (left out: 1)"
    assert any(text in warning for warning in result["warnings"])


def test_arms_on_other_splits_are_not_compared():
    runs = on_splits()
    runs["rnn_ln"] = [run for run in runs["rnn_ln"] if run.split != 4]
    with pytest.raises(ValueError, match=r"rnn has 0, 1, 2, 3, 4 and rnn_ln has 0, 1, 2, 3$"):
        compare(runs)


def test_splits_on_which_an_arm_has_no_run_yet_are_left_out():
    runs = on_splits()
    missing = Unreadable("rnn_ln/split4", "there is no run.json")
    partly = {
        name: [missing if name == "rnn_ln" and run.split == 4 else run for run in members]
        for name, members in runs.items()
    }
    result = compare(partly)
    common = {name: [run for run in members if run.split != 4] for name, members in runs.items()}
    whole = compare(common)
    assert result["splits"] == [0, 1, 2, 3]
    for key in ("n", "difference", "interval", "p_splits", "splits"):
        assert result["pairs"][0][key] == whole["pairs"][0][key]
    text = "rnn_ln has no run that can be read on some splits (4), so no arm is compared on them"
    assert result["warnings"][0] == text
    assert any("8 of 40 runs gave no complete result" in line for line in result["warnings"])


def test_without_a_seed_on_two_splits_runs_are_paired_by_seed_alone():
    runs = on_splits()
    # Arms on a split each; and in all arms, every seed on a split of its own.
    apart = {
        name: [r for r in m if r.split == place] for place, (name, m) in enumerate(runs.items())
    }
    own = {name: [r for r in m if r.split == r.seed % 5] for name, m in runs.items()}
    for chosen in (apart, own):
        result = compare(chosen)
        assert result["splits"] == [None]
        assert result["pairs"][0]["n"] == 8
        assert result["pairs"][0]["p_splits"] is None
        assert not [text for text in result["warnings"] if "left out" in text]
        assert any("the runs saw different data" in text for text in result["warnings"])


def test_what_no_test_over_splits_accounts_for_is_refused():
    runs = on_splits()
    with pytest.raises(ValueError, match="steps to a target are not compared over several splits"):
        compare(runs, primary="steps_to_90")
    rates = {name: {0.1: members, 0.2: members} for name, members in runs.items()}
    with pytest.raises(ValueError, match="several splits and the choice of learning rates"):
        compare(runs, tuning=rates)


def test_data_that_do_not_fit_their_splits_are_named():
    runs = on_splits()
    same = {name: [replace(r, data_fingerprint="same") for r in m] for name, m in runs.items()}
    assert any("one split counted several" in text for text in compare(same)["warnings"])
    runs["rnn"][3] = replace(runs["rnn"][3], data_fingerprint="other")
    assert any("the runs saw different data" in text for text in compare(runs)["warnings"])


def test_runs_of_older_versions_are_of_the_split_with_their_data():
    runs = on_splits()
    old = {
        name: [
            replace(r, split=None, split_key=None) if r.split == 0 and r.seed < 4 else r for r in m
        ]
        for name, m in runs.items()
    }
    assert compare(old) == compare(runs)


@pytest.mark.parametrize("fresh", [False, True])
def test_the_page_and_the_files_say_what_is_covered(fresh, tmp_path):
    runs = on_splits(fresh=fresh)
    result = compare(runs)
    write(result, runs, tmp_path)
    html = (tmp_path / "report.html").read_text()
    said = {
        False: "hold for other seeds and other splits: the 5 splits share out the same examples, "
        "so the variance between them counts for 1/5 + 0.25 instead of 1/5",
        True: "hold for other seeds and for other data of the same kind",
    }[fresh]
    assert said in html
    assert "on 5 splits" in html
    assert "one difference, the mean over 5 splits of the data, which all arms share. A" in html
    assert "median over 8 seeds on 5 splits" in html
    rows = list(csv.DictReader((tmp_path / "compare.csv").read_text().splitlines()))
    first = [row for row in rows if row["arm"] == "rnn" and row["outcome"] == "test/accuracy"]
    assert [(row["seed"], row["split"]) for row in first[:6]] == [
        *(("0", str(split)) for split in range(5)),
        ("1", "0"),
    ]
    console = Console(width=300, record=True, file=io.StringIO())
    print_table(result, console)
    assert said in console.export_text()
    # A row of the page is a seed's mean over splits.
    means = values(runs["rnn"]).mean(1)
    cells = [row.cells["value 0"].value for row in tables.seeds(result)]
    assert cells == pytest.approx(means.tolist())


def test_added_splits_are_another_look():
    few, more = on_splits(splits=3), on_splits(splits=5)
    assert compare(few)["primary"]["looks"] == [[8, 3]]
    again = compare(more, looks=[[8, 3]])
    assert again["primary"]["looks"] == [[8, 3], [8, 5]]
    assert again["pairs"][0]["level"] == pytest.approx(0.992)
    assert any(
        "seeds or splits were added after the result over 8 seeds on 3 splits had been seen" in text
        for text in again["warnings"]
    )


def test_a_run_is_one_of_a_pair_by_seed_and_split():
    run = Run("", "finished", "d", "m", 3, "accuracy", True)
    assert run.pair == (3, -1)
    assert replace(run, split=2).pair == (3, 2)


def test_weights_that_may_have_seen_other_splits_are_named():
    def warned(**how) -> bool:
        made = on_splits(**how)
        made["rnn_ln"] = [replace(run, init_from="runs/digits/rnn/seed0") for run in made["rnn_ln"]]
        said = [line for line in compare(made)["warnings"] if "runs/digits/rnn/seed0" in line]
        assert all(line.startswith("rnn_ln: its runs on all splits start with") for line in said)
        return bool(said)

    assert warned()
    assert not warned(fresh=True)
    assert not warned(splits=1)
    assert not any("start with the weights" in line for line in compare(on_splits())["warnings"])
