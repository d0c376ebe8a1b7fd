"""What is said of a run follows from its records, and nothing is said without need."""

import json
from pathlib import Path

import pytest

from lnrnn.training.monitor.diagnosis import diagnose

HEALTHY = {
    **{f"state_gradient/l0/lag{2**k}": 0.5 / 2**k for k in range(7)},
    **{f"saturation/l0/{gate}": 0.1 for gate in "ifgo"},
    "near_eps/l0/ih": 0.01,
    "low_variance/l0/ih": 1e-3,
    "state_norm/l0": 0.4,
    "clipped": 0.2,
}


@pytest.fixture
def said(tmp_path):
    """Return what is said of samples, each a dictionary of values by name."""

    def say(*samples: dict, eps: float | None = 1e-5) -> str:
        lines = [
            {"step": 50 * k, "epoch": 0, "name": f"monitor/{name}", "value": value}
            for k, sample in enumerate(samples)
            for name, value in sample.items()
        ]
        lines.append({"step": 9, "epoch": 0, "name": "train/loss", "value": None})
        path: Path = tmp_path / "metrics.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return diagnose(path, eps)

    return say


def test_a_healthy_run(said):
    assert said(HEALTHY, HEALTHY) == "nothing remarkable"


def test_no_sample(said, tmp_path):
    assert said() == "no sample was taken"
    assert diagnose(tmp_path / "nowhere.jsonl", 1e-5) == "no sample was taken"


def test_the_last_line_may_be_cut_short(said, tmp_path):
    said(HEALTHY)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 50, "epoch": 0, "name": "monitor/cl')
    assert diagnose(tmp_path / "metrics.jsonl", 1e-5) == "nothing remarkable"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"state_gradient/l0/lag64": 1e-6},
            "gradients vanish: 64 steps back they are 2e-06 times as large as one step back (l0)",
        ),
        (
            {"state_gradient/l0/lag32": 300.0},
            "gradients explode: 32 steps back they are 6e+02 times as large as one step back (l0)",
        ),
        (
            {"state_gradient/l0/lag64": None},
            "gradients explode: 64 steps back they are NaN or infinity (l0)",
        ),
        ({"saturation/l0/f": 0.83}, "forget gate saturated in 83 % of activations (l0)"),
        (
            {"near_eps/l0/ih": 0.12, "low_variance/l0/ih": 2e-5},
            "variance near eps in 12 % of rows (l0 ih): try model.eps=1e-06",
        ),
        (
            {"near_eps/l0/ih": 0.5, "low_variance/l0/ih": 0.0},
            "variance near eps in 50 % of rows (l0 ih), some of it zero: no eps helps",
        ),
        ({"state_norm/l0": 2e-3}, "the hidden state is close to zero: 2e-03 per unit (l0)"),
        (
            {"clipped": 0.9},
            "90 % of steps clipped: try a smaller optimizer.lr or a larger "
            "trainer.gradient_clip_val",
        ),
    ],
)
def test_what_is_remarkable_is_said_in_words(said, changes, words):
    assert said({**HEALTHY, **changes}) == words


def test_one_bad_sample_of_three_is_no_diagnosis(said):
    bad = {**HEALTHY, "clipped": 1.0, "state_gradient/l0/lag64": 0.0}
    assert said(HEALTHY, bad, HEALTHY) == "nothing remarkable"
    assert said(bad, bad, HEALTHY).startswith("gradients vanish: 64 steps back they are zero (l0)")


def test_the_worst_layer_is_named(said):
    other = {name.replace("l0", "l1_reverse"): value for name, value in HEALTHY.items()}
    other |= {"saturation/l1_reverse/o": 0.9, "state_gradient/l1_reverse/lag64": 1e-9}
    worse = {**HEALTHY, "saturation/l0/o": 0.6, "state_gradient/l0/lag64": 1e-6}
    words = said({**worse, **other})
    assert words.split("; ") == [
        "gradients vanish: 64 steps back they are 2e-09 times as large as one step back "
        "(l1_reverse)",
        "output gate saturated in 90 % of activations (l1_reverse)",
    ]


def test_an_eps_is_only_suggested_where_it_is_smaller(said):
    near = {**HEALTHY, "near_eps/l0/ih": 0.12, "low_variance/l0/ih": 2e-5}
    assert said(near, eps=1e-6) == "variance near eps in 12 % of rows (l0 ih)"
    assert said(near, eps=None).endswith("try model.eps=1e-06")


def test_short_sequences_have_one_lag_and_cannot_vanish(said):
    assert said({"state_gradient/l0/lag1": 1e-9, "state_norm/l0": 0.5}) == "nothing remarkable"
