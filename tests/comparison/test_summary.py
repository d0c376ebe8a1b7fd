"""The verdict in two sentences, and what was run: never more than the numbers beside them say."""

from dataclasses import replace

import pytest
from comparison.sample import COST, sample_runs

from lnrnn.comparison import Run, compare
from lnrnn.comparison.html import page
from lnrnn.comparison.html_setup import setup
from lnrnn.comparison.plots import draw
from lnrnn.comparison.summary import summary

TARGET = "90 % of the baseline's improvement"

SEEDS_ALONE = "hold for other seeds, on the same split of the same data"


@pytest.fixture(scope="module")
def runs() -> dict[str, list[Run]]:
    return sample_runs(monitor=False)


def test_the_primary_endpoint_comes_first_and_then_the_others(runs):
    result = compare(runs, cost=COST)
    base, arm = (f"{result['arms'][place]['mean']:.4f}" for place in (0, 1))
    ratio, time = (result["pairs"][0]["speed"][2][kind]["ratio"] for kind in ("steps", "seconds"))
    assert summary(result, 1) == (
        f"lstm_ln has the better test accuracy at the end: {arm} against {base} on average, in 10 "
        "pairs. Secondary: it has the better mean validation accuracy over training and needs "
        f"{ratio:.2f}x fewer steps and {time:.2f}x less time to {TARGET}."
    )
    area = summary(compare(runs, primary="area"), 1)
    assert area.startswith("lstm_ln has the better mean validation accuracy over training: ")
    assert "Secondary: it has the better test accuracy at the end and needs " in area
    speed = summary(compare(runs, primary="steps_to_90"), 1)
    assert speed.startswith(f"lstm_ln needs {ratio:.2f}x fewer steps to {TARGET}, in 10 pairs.")


def test_slower_and_worse_are_said_so(runs):
    result = compare({"lstm_ln": runs["lstm_ln"], "lstm": runs["lstm"]}, primary="steps_to_90")
    words = summary(result, 1)
    ratio = 1 / result["pairs"][0]["speed"][2]["steps"]["ratio"]
    assert words.startswith(f"lstm needs {ratio:.2f}x as many steps to {TARGET}, in 10 pairs.")
    assert "Secondary: it has the worse test accuracy at the end and" in words


def test_what_is_not_supported_is_no_claim(runs):
    half = {"lstm": runs["lstm"], "shuffled": runs["lstm"][1:] + runs["lstm"][:1]}
    half["shuffled"] = [
        replace(run, seed=seed, folder=f"other/{seed}") for seed, run in enumerate(half["shuffled"])
    ]
    result = compare(half)
    mean = f"{result['arms'][0]['mean']:.4f}"
    assert summary(result, 1) == (
        "These 10 pairs do not support a difference in test accuracy at the end: "
        f"{mean} against {mean} on average. Secondary: no difference is supported in mean "
        f"validation accuracy over training or steps to {TARGET}."
    )


def test_few_pairs_none_and_the_same(runs):
    few = compare({name: members[:4] for name, members in runs.items()})
    assert summary(few, 1).startswith("4 pairs of runs are too few to conclude about test accuracy")
    assert "Secondary" not in summary(few, 1)
    apart = compare({"lstm": runs["lstm"][:5], "lstm_ln": runs["lstm_ln"][5:]})
    words = "lstm_ln and lstm cannot be compared in test accuracy at the end."
    assert summary(apart, 1) == words
    same = compare({"lstm": runs["lstm"], "again": runs["lstm"]})
    assert summary(same, 1) == "No difference, both are the same 10 runs, so no test was run."


def test_failures_are_told_where_there_are_any(runs):
    lost = [replace(run, status="failed", metrics={}, curves={}) for run in runs["lstm_ln"]]
    words = summary(compare({"lstm": runs["lstm"], "lstm_ln": lost}), 1)
    assert words == (
        "lstm_ln and lstm cannot be compared in test accuracy at the end. "
        f"Secondary: it needs more steps to {TARGET} and fails more often."
    )
    one = [lost[0], *runs["lstm_ln"][1:]]
    words = summary(compare({"lstm": runs["lstm"], "lstm_ln": one}), 1)
    assert "how often runs fail (1 of 10 against 0 of 10)" in words


def test_what_was_run_is_what_all_runs_share(runs):
    result = compare(
        {
            name: [
                replace(run, steps=4000 - run.seed, split_sizes={"train": 3600, "test": 1000})
                for run in members
            ]
            for name, members in runs.items()
        },
        command="lnrnn compare 'arms=[lstm,lstm_ln]' <b>",
    )
    result["validity"]["shared_configuration"] = {
        "data.batch_size": 100,
        "model.hidden_size": 64,
        "model.num_layers": 1,
        "optimizer._target_": "torch.optim.AdamW",
        "optimizer._partial_": True,
        "optimizer.lr": 0.005,
        "schedule": "cosine",
        "trainer.accumulate_grad_batches": 1,
        "trainer.gradient_clip_val": 1.0,
        "trainer.max_epochs": 40,
        "warmup_steps": 50,
    }
    assert dict(setup(result)) == {
        "data": "mnist1d: 3,600 training, 1,000 test sequences or windows",
        "training": "3,991 to 4,000 optimizer steps, 40 epochs, batches of 100, gradients clipped "
        "to a norm of 1",
        "optimizer": "AdamW, learning rate 0.005, cosine schedule, 50 steps of warmup",
        "model": "64 units, layers: 1",
        "intervals and p-values": SEEDS_ALONE,
    }
    html = page(result, draw(result, runs))
    assert "lnrnn compare &#39;arms=[lstm,lstm_ln]&#39; &lt;b&gt;" in html
    assert "<span>trainer.gradient_clip_val</span></th><td>1.0</td>" in html


@pytest.mark.parametrize(
    ("clip", "words"),
    [(0, "no clipping"), (None, "no clipping"), (0.5, "to a norm of 0.5"), ("x<y", "norm of x<y")],
)
def test_whatever_a_configuration_holds_is_said(runs, clip, words):
    result = compare(runs)
    result["validity"]["shared_configuration"] = {"trainer.gradient_clip_val": clip}
    assert dict(setup(result))["training"].endswith(words)


def test_later_looks_have_their_own_level(runs):
    result = compare(runs, looks=[7])
    text = page(result, {})
    level = f"{100 * result['pairs'][0]['level']:.4g} %"
    assert level != "95 %"
    assert f"{level} interval (t)" in text
    assert f"below {result['primary']['alpha']:.2g} after" in text


def test_what_is_not_known_is_left_out(runs):
    known = {"data": "mnist1d", "intervals and p-values": SEEDS_ALONE}
    assert dict(setup(compare(runs))) == known
