import math

import pytest

from lnrnn.comparison import Run, Unreadable, choose_rates
from lnrnn.comparison.tuning import EVERY_SEED, check_tuning, describe_tuning


def run(seed, losses, status="finished"):
    curve = tuple((10 * place, value) for place, value in enumerate(losses, start=1))
    curves = {"val/loss": curve}
    return Run(f"seed{seed}", status, "d", "m", seed, "accuracy", True, curves=curves)


def runs(*losses, status="finished"):
    """One run a loss, its best, which is not its last."""
    return [run(1000 + i, (9.0, loss, loss + 1), status) for i, loss in enumerate(losses)]


def warnings_of(tuning, seeds):
    """What weakens a choice that the tests make anew."""
    return check_tuning(describe_tuning(tuning, EVERY_SEED), seeds)


def test_the_best_rate_has_the_lowest_mean_of_best_losses():
    tuning = {
        "a": {0.001: runs(0.5, 0.7), 0.01: runs(0.4, 0.9), 0.003: runs(0.6, 0.5)},
        "b": {0.001: runs(0.1, 0.1), 0.003: runs(0.2, 0.2), 0.01: runs(0.3, 0.3)},
    }
    assert choose_rates(tuning) == {"a": 0.003, "b": 0.001}
    described = describe_tuning(tuning)
    assert (described["grid"], described["seeds"]) == ([0.001, 0.003, 0.01], [1000, 1001])
    assert [entry["rate"] for entry in described["arms"][0]["rates"]] == described["grid"]
    assert described["arms"][0]["rates"][2]["values"] == [0.4, 0.9]
    assert described["arms"][0]["rates"][2]["mean"] == pytest.approx(0.65)


@pytest.mark.parametrize(
    "lost",
    [
        run(1001, (0.1, 0.1), "failed"),
        run(1001, (0.1, math.nan)),
        run(1001, ()),
        Unreadable("x", "gone"),
    ],
    ids=["failed", "nan", "no loss", "unreadable"],
)
def test_a_lost_run_counts_as_infinite_and_is_counted(lost):
    tuning = {"a": {0.01: [run(1000, (0.1,)), lost], 0.001: runs(2.0, 3.0)}}
    arm = describe_tuning(tuning)["arms"][0]
    assert arm["best"] == 0.001
    entry = arm["rates"][1]
    assert (entry["values"], entry["mean"], entry["diverged"]) == ([0.1, None], None, 1)


def test_there_is_always_a_choice_and_a_warning():
    one_left = {"a": {0.01: runs(0.1, math.nan), 0.03: runs(math.nan, math.nan)}}
    assert choose_rates(one_left) == {"a": 0.01}
    (text,) = warnings_of(one_left, [0])
    assert text.startswith("a: no learning rate finished on all tuning seeds; 0.01 was chosen")
    assert text.endswith("lost the fewest runs")
    nothing = {"a": {0.03: runs(1, 1, status="failed"), 0.01: runs(1, 1, status="failed")}}
    assert choose_rates(nothing) == {"a": 0.01}
    (text,) = warnings_of(nothing, [0])
    assert text.endswith("lost every run")


def test_one_stuck_seed_in_three_decides_nothing():
    tuning = {"a": {0.01: runs(0.4, 0.4, 9.0), 0.001: runs(0.6, 0.6, 0.6)}}
    assert choose_rates(tuning) == {"a": 0.01}
    entry = describe_tuning(tuning)["arms"][0]["rates"][1]
    assert (entry["mean"], entry["robust_mean"]) == (pytest.approx(9.8 / 3), 0.4)


def test_octaves_are_those_of_the_unbroken_stretch_around_the_best():
    means = {0.001: 1.0, 0.002: 2.0, 0.004: 1.04, 0.008: 1.0, 0.016: 1.05, 0.032: 1.06}
    tuning = {"a": {rate: runs(mean - 0.01, mean + 0.01) for rate, mean in means.items()}}
    tuning["a"][0.008] = runs(0.99, 1.0)
    arm = describe_tuning(tuning)["arms"][0]
    assert arm["best"] == 0.008
    # within 1.05 * 0.995: 0.004 alone beside the best; 0.001 lies behind a gap.
    assert arm["octaves_within_5_percent"] == pytest.approx(1.0)
    alone = describe_tuning({"a": {0.1: runs(1.0), 0.2: runs(2.0)}})["arms"][0]
    assert alone["octaves_within_5_percent"] == 0


@pytest.mark.parametrize(("losses", "edge"), [((1, 2, 3), "lowest"), ((3, 2, 1), "highest")])
def test_a_best_rate_at_the_edge_is_a_warning(losses, edge):
    grid = dict(zip((0.001, 0.01, 0.1), map(runs, losses), strict=True))
    (text,) = warnings_of({"a": grid}, [0, 1])
    assert f"is the {edge} one tried" in text


def test_a_best_rate_inside_is_none_and_neither_is_a_single_rate():
    inside = dict(zip((0.001, 0.01, 0.1), map(runs, (3, 1, 2)), strict=True))
    assert warnings_of({"a": inside}, [0, 1]) == []
    assert warnings_of({"a": {0.1: runs(1)}}, [0, 1]) == []


def test_unequal_treatment_is_named():
    tuning = {
        "a": {0.1: runs(3), 0.2: runs(1), 0.4: runs(3)},
        "b": {0.1: runs(1), 0.2: runs(0.5)},
    }
    texts = check_tuning(describe_tuning(tuning), [1000])
    assert "chosen once, on 1 seed of their own, and no test knows of that choice" in texts[0]
    assert "share seeds, so the results look better than they are: 1000" in texts[1]
    assert texts[2] == "b: tuned on a smaller grid than other arms, without the rates 0.4"
    with pytest.raises(ValueError, match="a has none"):
        choose_rates({"a": {}})


def test_folders_are_read(write_run):
    folder = write_run("rnn", 1000, metric="loss", curve=(0.5, 0.25), higher_is_better=False)
    assert choose_rates({"rnn": {0.1: [folder]}}) == {"rnn": 0.1}
    assert describe_tuning({"rnn": {0.1: [folder]}})["arms"][0]["rates"][0]["values"] == [0.25]
