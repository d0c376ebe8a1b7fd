"""The learning rate range test: what it suggests, and that the run after it is the same."""

import math

import numpy as np
import pytest
from experiments import compose
from same_runs import assert_same_run

from lnrnn.training import ConfigurationError, train
from lnrnn.training.build import build_data
from lnrnn.training.metrics import sum_loss
from lnrnn.training.rate_finder import RateCurve, find_rate, plot_rates

SMALL = ("model=rnn_ln", "model.hidden_size=16")
RANGE = {"lowest": 1e-5, "highest": 10.0, "steps": 60}


def made_up(*, noise: float = 0.0) -> RateCurve:
    """A loss that falls fastest at a rate of 1e-2, is lowest at 1e-1, and rises beyond."""
    rates = np.logspace(-6, 1, 200)
    place = np.log10(rates)
    losses = 2.0 - 1.5 / (1 + np.exp(-(place + 2) * 4)) + 3.0 * np.maximum(place + 0.5, 0) ** 2
    losses += noise * np.random.default_rng(0).standard_normal(200)
    return RateCurve(tuple(rates), tuple(losses), diverged=False)


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_the_steepest_fall_is_suggested(noise):
    curve = made_up(noise=noise)
    rate = curve.suggestion()
    assert rate is not None
    assert 5e-3 < rate < 2e-2
    assert 3e-2 < curve.lowest < 0.6
    assert curve.smoothed.shape == (200,)


def test_a_loss_that_only_rises_gives_no_suggestion():
    rates = tuple(np.logspace(0, 1, 40))
    assert RateCurve(rates, tuple(np.linspace(1, 9, 40)), diverged=True).suggestion() is None
    assert RateCurve(rates[:3], (3.0, 2.0, 1.0), diverged=True).suggestion() is None, "too short"


def test_rates_rise_by_one_factor_and_the_test_ends_where_the_loss_diverges():
    curve = find_rate(compose(*SMALL).config, **RANGE)
    assert curve.diverged
    assert len(curve.rates) == len(curve.losses) < 60
    assert curve.rates[0] == 1e-5
    factors = np.diff(np.log(curve.rates))
    np.testing.assert_allclose(factors, math.log(1e6) / 59)
    rate = curve.suggestion()
    assert rate is not None
    assert 1e-4 < rate < 1e-1
    whole = find_rate(compose(*SMALL).config, **{**RANGE, "highest": 1e-2})
    assert len(whole.rates) == 60
    assert whole.rates[-1] == pytest.approx(1e-2)
    assert not whole.diverged


def test_the_model_and_the_first_batch_are_those_of_the_run():
    config = compose(*SMALL, "seed=4").config
    from lnrnn.training.build import build_task

    data = build_data(config)
    task = build_task(config, data)
    batch = next(iter(data.train_dataloader()))
    total, count = sum_loss(task.model(batch.inputs, batch.lengths)[0], batch.targets)
    curve = find_rate(config, **RANGE)
    assert curve.losses[0] == pytest.approx(float(total.detach() / count), rel=1e-6)
    assert curve.losses == find_rate(config, **RANGE).losses
    assert curve.losses != find_rate(compose(*SMALL, "seed=5").config, **RANGE).losses


def test_the_run_that_follows_is_the_same(tmp_path):
    words = (*SMALL, "model.dropout=0.3", "trainer.max_epochs=2", "schedule=cosine")
    plain, _ = train(compose(*words), tmp_path / "plain")
    experiment = compose(*words)
    before = experiment.config.copy()
    find_rate(experiment.config, **RANGE)
    assert experiment.config == before
    after, _ = train(experiment, tmp_path / "after")
    assert_same_run(after, plain)


def test_what_has_no_say_changes_nothing():
    """A whole command for training can be given."""
    extra = ("optimizer.lr=7", "schedule=linear", "warmup_steps=50", "trainer.max_epochs=1")
    curves = [find_rate(compose(*SMALL, *words).config, **RANGE) for words in ((), extra)]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("accumulated", [2, 3])
def test_a_step_of_several_batches_has_one_rate(accumulated):
    words = (*SMALL, f"trainer.accumulate_grad_batches={accumulated}")
    curve = find_rate(compose(*words).config, lowest=1e-5, highest=1e-3, steps=20)
    assert len(curve.losses) == 20


def test_initial_weights_and_frozen_parts_are_those_of_the_run(tmp_path):
    source, _ = train(compose(*SMALL, "trainer.max_epochs=2"), tmp_path)
    warm = (*SMALL, f"init_from={source.path}")
    curve = find_rate(compose(*warm).config, **RANGE)
    cold = find_rate(compose(*SMALL).config, **RANGE)
    assert curve.losses[0] < cold.losses[0]
    frozen = find_rate(compose(*warm, "freeze=encoder", "unfreeze_at=999").config, **RANGE)
    assert frozen.losses[0] == curve.losses[0]
    assert frozen.losses[10] != curve.losses[10]


def test_a_loss_that_is_not_finite_is_the_end(monkeypatch):
    from lnrnn.training import rate_finder

    monkeypatch.setattr(rate_finder, "DIVERGED", math.inf)
    words = ("data=adding", "data.length=9", "model=gru", "optimizer=sgd", "model.hidden_size=8")
    words = (*words, "trainer.gradient_clip_val=null")
    curve = find_rate(compose(*words).config, lowest=1e-3, highest=1e20, steps=40)
    assert curve.diverged
    assert 5 < len(curve.losses) < 40
    assert all(map(math.isfinite, curve.losses))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lowest": 0.0}, "lowest and highest must be learning rates above 0"),
        ({"lowest": 1.0, "highest": 0.5}, "the second larger; got 1.0 and 0.5"),
        ({"highest": math.inf}, "the second larger"),
        ({"highest": "1"}, "the second larger"),
        ({"steps": 19}, "steps must be a whole number from 20 up, got 19"),
        ({"steps": 50.0}, "steps must be a whole number"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(changes, reason):
    with pytest.raises(ConfigurationError, match=reason):
        find_rate(compose(*SMALL).config, **{**RANGE, **changes})


def test_a_picture_can_be_drawn(tmp_path):
    for number, curve in enumerate((made_up(), RateCurve((1.0, 2.0), (1.0, 9.0), diverged=True))):
        plot_rates(curve, tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")
