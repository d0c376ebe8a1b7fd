import io
import json
import math

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from lnrnn.comparison import RecordError, compare, print_table, write

BASE = [0.90, 0.91, 0.89, 0.92, 0.90, 0.93, 0.91]
FIGURES = ["learning_curves.png", "speed.png", "pairs.png"]
FILES = ["compare.json", "compare.csv", *FIGURES, "report.html"]
BETTER = [0.95, 0.955, 0.93, 0.97, 0.955, 0.96, 0.96]


@pytest.fixture
def three_arms(write_run):
    return {
        "rnn": write_run.arm("rnn", BASE),
        "rnn_ln": write_run.arm("rnn_ln", BETTER, gain=0.1),
        "rnn_lncell": write_run.arm("rnn_lncell", BASE[1:] + BASE[:1]),
    }


def printed(result, width=100):
    screen = io.StringIO()
    print_table(result, Console(file=screen, width=width))
    return screen.getvalue()


def test_keys_are_those_of_the_design_and_what_is_added(three_arms):
    result = compare(three_arms)
    assert list(result) == [
        *(
            "command",
            "data",
            "metric",
            "higher_is_better",
            "primary",
            "tested",
            "seeds",
            "splits",
            "commit",
            "versions",
            "machine",
        ),
        *("data_fingerprint", "arms", "pairs", "steps_to_target", "cost", "tuning", "validity"),
        "warnings",
    ]
    assert list(result["arms"][0]) == [
        *("name", "overrides", "parameters", "seconds_per_step", "mean", "sd"),
        *(
            "validation_mean",
            "best",
            "final_validation",
            "failed",
            "diagnosis",
            "diagnoses",
            "runs",
        ),
    ]
    assert list(result["arms"][0]["runs"][0]) == [
        *("seed", "split", "folder", "status", "value", "validation_mean", "best", "error"),
        "diverged",
    ]
    statistics = [
        *("n", "difference", "interval", "level", "p_sign_flip", "p_choice", "p_splits"),
        "p_holm",
        *("probability_better", "bootstrap", "supported", "fragile"),
    ]
    pair = result["pairs"][0]
    added = [
        "validation_difference",
        "best_difference",
        "examples",
        "splits",
        "failures",
        "given_success",
        "speed",
    ]
    words = ["verdict", "verdict_parts", "primary"]
    assert list(pair) == ["baseline", "arm", *statistics, *added, *words]
    assert list(pair["validation_difference"]) == statistics
    assert list(pair["best_difference"]) == statistics
    parts = ["title", "same_runs", "at_end", "over_training", "speed", "failures"]
    parts += ["primary", "tested"]
    assert list(pair["verdict_parts"]) == parts
    rung = pair["speed"][0]
    assert list(rung) == ["target", "share", "steps", "seconds", "reached", "of"]
    assert list(rung["steps"]) == [
        *("n", "ratio", "interval", "p", "p_choice", "p_holm", "supported", "censored"),
    ]
    assert list(result["validity"])[:3] == [
        *("paired_initial_values", "checked_parameters", "paired_streams"),
    ]


def test_numbers_are_those_of_scipy(three_arms):
    result = compare(three_arms)
    base, better, _ = result["arms"]
    assert (base["mean"], base["sd"]) == pytest.approx((stats.tmean(BASE), stats.tstd(BASE)))
    assert base["seconds_per_step"] == 0.004  # median of 0.001 to 0.007
    assert base["overrides"] == ["model=rnn"]
    assert better["validation_mean"]["mean"] == pytest.approx(
        np.mean([run["validation_mean"] for run in better["runs"]])
    )
    pair = result["pairs"][0]
    interval = stats.ttest_rel(BETTER, BASE).confidence_interval(0.95)
    assert pair["interval"] == pytest.approx([interval.low, interval.high], abs=1e-14)
    assert (pair["n"], pair["p_sign_flip"], pair["probability_better"]) == (7, 2**-6, 1)
    assert pair["p_holm"] == 2 * 2**-6
    assert pair["validation_difference"]["difference"] == pytest.approx(0.1)
    assert (result["data"], result["metric"]) == ("japanese_vowels", "accuracy")
    assert result["seeds"] == list(range(7))
    assert result["machine"] == {"cpu": "some", "device": "cpu", "threads": 2}
    assert len(result["steps_to_target"]) == 4


def test_verdicts_claim_what_is_supported_and_no_more(three_arms):
    first, second = (pair["verdict"] for pair in compare(three_arms)["pairs"])
    assert first.startswith("rnn_ln against rnn: at the end, better test accuracy, 0.04")
    assert "Secondary: over training, better mean validation accuracy, 0.1" in first
    assert "at the end, no supported difference in test accuracy" in second


def test_lower_is_better(write_run):
    metric = {"metric": "error", "higher_is_better": False}
    arms = {
        name: [
            write_run(name, seed, value=value + shift, curve=(3 - seed / 100, 2 + shift), **metric)
            for seed, value in enumerate(BASE)
        ]
        for name, shift in (("rnn", 0.0), ("rnn_ln", 0.5))
    }
    pair = compare(arms)["pairs"][0]
    assert pair["difference"] == pytest.approx(0.5)
    assert pair["probability_better"] == 0
    assert "at the end, worse test error, 0.50" in pair["verdict"]
    assert "higher" in pair["verdict"]


def test_an_arm_with_itself_is_no_difference(three_arms):
    result = compare({"rnn": three_arms["rnn"], "rnn again": three_arms["rnn"]})
    pair = result["pairs"][0]
    for outcome in (pair, pair["validation_difference"]):
        assert (outcome["difference"], outcome["interval"]) == (0, [0, 0])
        assert (outcome["p_sign_flip"], outcome["p_holm"]) == (None, None)
        assert outcome["probability_better"] == 0.5
    for rung in pair["speed"]:
        assert (rung["steps"]["ratio"], rung["steps"]["interval"]) == (1, [1, 1])
        assert (rung["steps"]["p"], rung["steps"]["supported"]) == (None, False)
    assert pair["verdict"] == (
        "rnn again against rnn: no difference, both are the same 7 runs, so no test was run."
    )
    assert "no difference" in printed(result)


def test_unequal_seeds_are_paired_on_those_both_have(three_arms):
    arms = {"rnn": three_arms["rnn"][:-1], "rnn_ln": three_arms["rnn_ln"][1:]}
    result = compare(arms)
    pair = result["pairs"][0]
    assert pair["n"] == 5
    assert pair["difference"] == pytest.approx(np.mean(BETTER[1:6]) - np.mean(BASE[1:6]))
    assert result["arms"][0]["mean"] == pytest.approx(np.mean(BASE[:6]))  # all its own runs
    (warning,) = [text for text in result["warnings"] if "not the same" in text]
    assert "only the 5 they share are paired (left out: 0, 6)" in warning


def test_failed_and_unreadable_runs_are_counted_and_named(three_arms, write_run, tmp_path):
    failed = write_run("rnn_ln", 9, status="failed", value=None, error="loss is nan at step 20")
    arms = {**three_arms, "rnn_ln": [*three_arms["rnn_ln"], failed, tmp_path / "gone"]}
    result = compare(arms)
    runs = result["arms"][1]["runs"]
    assert [run["status"] for run in runs[-2:]] == ["failed", "unreadable"]
    assert [run["value"] for run in runs[-2:]] == [None, None]
    warnings = "\n".join(result["warnings"])
    assert f"rnn_ln: seed 9 ({failed}) did not finish" in warnings
    assert "loss is nan at step 20" in warnings
    assert "gone/run.json" in warnings
    assert "rnn_ln: 2 of 9 runs gave no complete result" in warnings
    assert result["pairs"][0]["n"] == 7
    assert [text for text in warnings.split("\n") if "not the same" in text] == []


def test_an_arm_of_which_nothing_is_left_still_prints(three_arms, tmp_path):
    result = compare({"rnn": three_arms["rnn"], "lost": [tmp_path / "lost"], "none": []})
    for pair in result["pairs"]:
        assert (pair["n"], pair["difference"], pair["interval"]) == (0, None, None)
        assert "cannot be compared" in pair["verdict"]
    assert result["arms"][1]["mean"] is None
    assert "none: no run was given" in result["warnings"]
    text = printed(result)
    assert "lost" in text
    assert "0.909 ± 0.013" in text
    swapped = compare({"lost": [tmp_path / "lost"], "rnn": three_arms["rnn"]})
    assert swapped["steps_to_target"] == []
    assert any(text.startswith("no targets") for text in swapped["warnings"])


def test_a_single_seed_concludes_nothing(write_run):
    arms = {"a": [write_run("a", 0, value=0.5)], "b": [write_run("b", 0, value=0.75)]}
    result = compare(arms)
    pair = result["pairs"][0]
    assert (pair["difference"], pair["interval"], pair["p_holm"]) == (0.25, None, None)
    assert result["arms"][0]["sd"] is None
    assert "too few pairs to conclude about" in pair["verdict"]
    rule = "too few pairs to conclude: fewer than 6 cannot reach p < 0.05 (pairs: 1)"
    assert f"b against a: {rule}" in result["warnings"]
    assert "+0.2500" in printed(result)


def test_the_number_of_pairs_is_judged_with_holm(three_arms):
    six = compare({name: folders[:6] for name, folders in three_arms.items()})["warnings"]
    assert any("6 pairs cannot support any claim, because 2 comparisons" in text for text in six)
    assert any("at least 7 seeds" in text for text in six)
    seven = compare(three_arms)["warnings"]
    assert "caution, only 7 pairs: 10 or more are recommended" in seven[0]
    assert not any("7 pairs cannot support any claim," in text for text in seven)
    one_pair = compare({name: three_arms[name][:6] for name in ("rnn", "rnn_ln")})["warnings"]
    assert not any("any claim, because" in text for text in one_pair)


def test_a_missing_metric_is_named_and_the_rest_is_compared(write_run):
    arms = {
        "a": [write_run("a", 0, value=None), write_run("a", 1), write_run("a", 2, curve=())],
        "b": [write_run("b", 0), write_run("b", 1, value=float("nan")), write_run("b", 2)],
    }
    result = compare(arms)
    warnings = "\n".join(result["warnings"])
    assert "finished, but test/accuracy is missing" in warnings
    assert "finished, but test/accuracy is NaN or infinity" in warnings
    assert "finished, but val/accuracy is missing" in warnings
    assert result["pairs"][0]["n"] == 1
    assert result["pairs"][0]["validation_difference"]["n"] == 2
    json.dumps(result, allow_nan=False)


def test_differing_surroundings_are_named(write_run):
    arms = {
        "a": [write_run("a", 0)],
        "b": [
            write_run(
                "b",
                0,
                curve=(0.5, 0.6),
                commit="def",
                versions={"torch": "2.14.0", "numpy": "2"},
                machine={"cpu": "other", "threads": 2, "device": "cpu"},
                data_fingerprint="beef",
                initial_parameters={"head.weight": "else", "encoder.gain": "x"},
            )
        ],
    }
    result = compare(arms)
    warnings = "\n".join(result["warnings"])
    assert "different data" in warnings
    assert "different commits: abc, def" in warnings
    assert "different versions of numpy, torch" in warnings
    assert "machines differ in cpu" in warnings
    assert "validated at different steps" in warnings
    assert "less noise: head.weight" in warnings
    assert (result["commit"], result["data_fingerprint"]) == (None, None)
    assert result["versions"] == {"numpy": None, "torch": None}
    assert result["machine"] == {"cpu": None, "device": "cpu", "threads": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "mnist1d"}, "share one data, got japanese_vowels, mnist1d"),
        ({"metric": "error"}, "share one metric, got accuracy, error"),
        ({"higher_is_better": False}, "share one higher_is_better"),
    ],
)
def test_what_cannot_be_compared_is_refused(write_run, change, message):
    with pytest.raises(ValueError, match=message):
        compare({"a": [write_run("a", 0)], "b": [write_run("b", 0, **change)]})


def test_one_seed_twice_no_arm_and_no_run_are_refused(write_run, tmp_path):
    with pytest.raises(ValueError, match=r"one run per seed, but a has the seeds \[0, 0\]"):
        compare({"a": [write_run("a", 0), write_run("b", 0)]})
    with pytest.raises(ValueError, match="at least one arm"):
        compare({})
    with pytest.raises(RecordError, match=r"can be read: .*gone/run\.json"):
        compare({"a": [tmp_path / "gone"]})


def test_the_same_runs_give_the_same_bytes_in_any_order(three_arms, tmp_path):
    reversed_folders = {name: folders[::-1] for name, folders in three_arms.items()}
    contents = []
    for place, arms in enumerate((three_arms, three_arms, reversed_folders)):
        files = write(compare(arms), arms, tmp_path / f"out{place}")
        assert [file.name for file in files] == FILES
        contents.append([file.read_bytes() for file in files])
    assert contents[0] == contents[1] == contents[2]
    assert contents[0][2].startswith(b"\x89PNG")
    assert json.loads(contents[0][0]) == compare(three_arms)


def test_write_replaces_whole_files_and_leaves_no_draft(three_arms, tmp_path):
    result = compare(three_arms)
    write(result, three_arms, tmp_path / "out")
    before = (tmp_path / "out" / "compare.json").read_bytes()
    with pytest.raises(ValueError, match="Out of range float"):
        write({**result, "mean": float("nan")}, three_arms, tmp_path / "out")
    assert (tmp_path / "out" / "compare.json").read_bytes() == before
    write(result, three_arms, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == sorted(FILES)


def test_without_a_curve_there_is_no_figure(write_run, tmp_path):
    arms = {"a": [write_run("a", 0, curve=())]}
    assert [file.name for file in write(compare(arms), arms, tmp_path)] == [*FILES[:2], FILES[-1]]


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_shows_both_outcomes_and_the_cost(three_arms, width):
    text = printed(compare(three_arms), width)
    assert "test accuracy at the end" in text
    assert "mean validation accuracy over training" in text
    assert "minus rnn [95 %]" in text
    assert "0.909 ± 0.013" in text
    assert "4.00 ms (x 1.00)" in text
    assert "steps to" in text
    assert max(map(len, text.split("\n"))) <= width
    caption = "intervals are not corrected for the number of arms; Holm p is, within each table"
    assert text.split("\n").count(caption) == 1


def test_one_pair_needs_no_correction(three_arms):
    text = printed(compare({name: three_arms[name] for name in ("rnn", "rnn_ln")}))
    assert "not corrected" not in text


def test_names_with_brackets_are_printed_as_they_are(write_run):
    result = compare({"a": [write_run("a", 0)], "b x=[1,2]": [write_run("b", 0)]})
    assert "b x=[1,2]" in printed(result)


def measured(*names, ratio=1.5):
    """What measure_cost returns; every arm's step takes ``ratio`` times that of the one before."""
    return {
        "machine": {"cpu": "some"},
        "rounds": 40,
        "threads": 1,
        "arms": [
            {
                "name": name,
                "parameters": 4937,
                "seconds_per_step": 0.002 * ratio**place,
                "quartiles": [0.0019 * ratio**place, 0.0021 * ratio**place],
                "ratio": ratio**place if place else None,
                "ratio_quartiles": [0.98 * ratio**place, 1.03 * ratio**place] if place else None,
                "peak_memory": 12_300_000 if place else None,
                "items_per_second": 16_000.0 / ratio**place,
                "unit": "sequences",
            }
            for place, name in enumerate(names)
        ],
    }


def tuned(write_run, losses):
    return {
        arm: {
            rate: [write_run(f"{arm}-{rate}", 1000, curve=(9, loss), metric="loss", value=1)]
            for rate, loss in rates.items()
        }
        for arm, rates in losses.items()
    }


def test_seconds_are_steps_times_the_measured_step_time(three_arms):
    cost = measured(*three_arms)
    result = compare(three_arms, cost=cost)
    assert result["cost"] == cost
    for target in result["steps_to_target"]:
        for place, arm in enumerate(target["arms"]):
            step = 0.002 * 1.5**place
            assert arm["seconds"] == (arm["median"] and pytest.approx(arm["median"] * step))
    for place, pair in enumerate(result["pairs"], start=1):
        for rung in pair["speed"]:
            if rung["steps"]["ratio"] is not None and not rung["steps"]["censored"]:
                expected = rung["steps"]["ratio"] / 1.5**place
                assert rung["seconds"]["ratio"] == pytest.approx(expected)
    assert not any("seconds" in text for text in result["warnings"])
    assert " time, " in result["pairs"][0]["verdict"]


def test_without_step_times_of_these_arms_nothing_is_said_of_seconds(three_arms):
    none = compare(three_arms)
    part = compare(three_arms, cost=measured("rnn", "rnn_ln"))
    other = compare(three_arms, cost=measured("rnn_ln", "rnn", "rnn_lncell"))
    for result, pairs in ((none, [0, 1]), (part, [1]), (other, [0, 1])):
        for place in pairs:
            assert all(rung["seconds"] is None for rung in result["pairs"][place]["speed"])
        assert sum("nothing is said about seconds" in text for text in result["warnings"]) == 1
    assert all(rung["seconds"] for rung in part["pairs"][0]["speed"])
    assert "rnn_lncell: its step time was not measured" in "".join(part["warnings"])


def test_an_arm_with_itself_costs_what_it_costs(three_arms):
    arms = {"rnn": three_arms["rnn"], "rnn again": three_arms["rnn"]}
    result = compare(arms, cost=measured(*arms, ratio=1.01))
    for rung in result["pairs"][0]["speed"]:
        assert (rung["seconds"]["ratio"], rung["seconds"]["p"]) == (1, None)


def test_tuning_is_described_and_weak_choices_are_warned_of(three_arms, write_run):
    losses = {name: {0.001: 0.5, 0.01: 0.4, 0.1: 0.3} for name in three_arms}
    result = compare(three_arms, tuning=tuned(write_run, losses))
    assert result["tuning"]["grid"] == [0.001, 0.01, 0.1]
    assert result["tuning"]["seeds"] == [1000]
    assert [arm["best"] for arm in result["tuning"]["arms"]] == [0.1] * 3
    assert sum("is the highest one tried" in text for text in result["warnings"]) == 3
    assert compare(three_arms)["tuning"] is None


def test_validity_says_what_was_paired_and_what_differs(three_arms, write_run):
    arms = {**three_arms, "gru": [write_run("gru", 0, status="failed", error="loss is nan")]}
    validity = compare(arms)["validity"]
    assert (validity["paired_initial_values"], validity["checked_parameters"]) == (True, 1)
    assert [entry["value"] for entry in validity["configuration_differences"]] == [
        *("rnn_ln", "rnn_lncell", "gru"),
    ]
    assert validity["commits"] == ["abc"]
    assert validity["data_fingerprints"] == ["f00d"]
    (failed,) = validity["failed_runs"]
    assert failed.startswith("gru: seed 0 (")
    assert failed.endswith("did not finish (status 'failed'): loss is nan")


@pytest.mark.parametrize(
    ("other", "paired", "checked"),
    [({"head.weight": "else"}, False, 1), ({}, False, 0), ({"head.bias": "else"}, False, 0)],
)
def test_pairing_is_checked_and_not_assumed(write_run, other, paired, checked):
    arms = {"a": [write_run("a", 0)], "b": [write_run("b", 0, initial_parameters=other)]}
    result = compare(arms)
    validity = result["validity"]
    assert validity["paired_initial_values"] is paired
    assert validity["checked_parameters"] == checked
    assert validity["paired_streams"] is True
    told = ("less noise: head.weight", "share no parameter whose initial value was recorded")
    assert sum(any(part in text for part in told) for text in result["warnings"]) == 1


def test_threads_that_differ_are_named(write_run):
    machine = {"cpu": "some", "device": "cpu"}
    arms = {
        name: [write_run(name, 0, machine={**machine, "threads": threads})]
        for name, threads in (("a", 1), ("b", 2))
    }
    result = compare(arms)
    assert result["validity"]["threads"] == ["1", "2"]
    assert any("numbers of threads (1, 2), which round" in text for text in result["warnings"])


def test_runs_tell_what_ended_them_and_what_the_monitor_said(write_run, tmp_path):
    arms = {
        "a": [
            write_run("a", 0, diagnosis="gradients vanish"),
            write_run("a", 1, status="failed", error="loss is nan at step 20", diverged=True),
            # As written before there was the key.
            write_run("a", 2, status="failed", error="NonFiniteError: at step 20"),
            write_run("a", 3, status="failed", error="ValueError: at step 20"),
            tmp_path / "gone",
        ],
    }
    (arm,) = compare(arms)["arms"]
    assert arm["diagnosis"] == ["seed 0: gradients vanish"]
    assert arm["diagnoses"] == [{"seed": 0, "text": "gradients vanish"}]
    assert arm["failed"] == 4
    assert [run["diverged"] for run in arm["runs"]] == [False, True, True, False, None]
    assert [run["error"] and run["error"][-6:] for run in arm["runs"]] == [
        *(None, "tep 20", "tep 20", "tep 20", "issing"),
    ]
    assert "seed 0: gradients vanish" in printed(compare(arms))


@pytest.mark.parametrize("width", [80, 100])
def test_every_table_stays_within_the_screen(three_arms, write_run, width):
    losses = {name: {0.001: 0.5, 0.01: 0.4, 0.1: math.nan} for name in three_arms}
    tuning = tuned(write_run, losses)
    result = compare(three_arms, cost=measured(*three_arms), tuning=tuning)
    text = printed(result, width)
    assert max(map(len, text.split("\n"))) <= width
    assert "speed-up over rnn [95 %]" in text
    assert "x 1.50 [1.47, 1.54]" in text
    assert "12.3 MB" in text
    assert "16,000" in text
    assert "octaves" in text
    assert "best validation accuracy" in text


def test_long_names_are_broken_and_numbers_are_not(write_run):
    names = ["transformer_nonorm model.eps=1e-3 optimizer.lr=3e-3", "lstm_lncell optimizer.lr=1e-2"]
    arms = {
        name: write_run.arm(arm, values)
        for name, arm, values in zip(names, "ab", (BASE, BETTER), strict=True)
    }
    text = printed(compare(arms, cost=measured(*arms)), width=80)
    assert max(map(len, text.split("\n"))) <= 80
    assert "minus the first [95 %]" in text
    assert "+0.046 [+0.038, +0.053]" in text
    assert "x 1.50 [1.47, 1.54]" in text
    assert "…" not in text


def test_a_tuned_table_marks_the_rate_that_was_chosen(three_arms, write_run):
    folders = [write_run("t", 1000, curve=(9, 0.4), metric="loss", value=1)]
    lost = [write_run("u", 1000, status="failed", metric="loss")]
    result = compare(three_arms, tuning={"rnn": {0.001: folders, 0.01: lost}})
    text = printed(result)
    assert "> 0.4" in text
    assert "(1 lost)" in text


def test_crashed_arms_stay_in_every_table(three_arms, write_run):
    crashed = [write_run("gru", seed, status="failed", value=None, curve=()) for seed in range(7)]
    result = compare({**three_arms, "gru": crashed}, cost=measured(*three_arms, "gru"))
    assert result["arms"][3]["failed"] == 7
    pair = result["pairs"][2]
    assert (pair["n"], pair["difference"], pair["supported"]) == (0, None, False)
    # Every run of the baseline that arrives is sooner than one that never does.
    assert pair["speed"][0]["reached"] == {"baseline": 7, "arm": 0}
    assert pair["speed"][0]["steps"]["censored"] == 7
    assert pair["speed"][0]["steps"]["ratio"] is None
    assert printed(result).count("gru") >= 6
    json.dumps(result, allow_nan=False)
    first = compare({"gru": crashed, **three_arms})
    assert first["pairs"][0]["speed"] == []
    assert "gru" in printed(first)


@pytest.mark.parametrize(
    ("other", "paired", "told"),
    [
        ({"data_order": "else"}, False, ["data order"]),
        ({"dropout_seed": 7}, False, ["dropout stream"]),
        ({"data_order": "else", "dropout_seed": 7}, False, ["data order", "dropout stream"]),
        ({"data_order": None}, None, []),
    ],
)
def test_streams_are_checked_and_not_assumed(write_run, other, paired, told):
    result = compare({"a": [write_run("a", 0)], "b": [write_run("b", 0, **other)]})
    assert result["validity"]["paired_streams"] is paired
    warned = [text for text in result["warnings"] if "with the same seed differ" in text]
    assert [text.split("in their ")[1].split(",")[0] for text in warned] == told
