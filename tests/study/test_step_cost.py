"""A step measured is the step that training makes, and measuring it leaves no trace."""

import json
from itertools import pairwise

import pytest
import torch
from experiments import compose
from same_runs import content

from lnrnn.study import step_cost
from lnrnn.study.step_cost import TrainingStep, measure_cost
from lnrnn.study.turns import order
from lnrnn.training import train
from lnrnn.training.build import build_data

SMALL = ("model.hidden_size=8", "model.dropout=0.2")
BUDGET = ("trainer.max_epochs=-1", "trainer.max_steps=3")  # within an epoch
TEXT = ("data=text_files", "data.batch_size=3", "data.window=12")


@pytest.fixture
def few_rounds(monkeypatch):
    monkeypatch.setattr(step_cost, "ROUNDS", 6)


@pytest.fixture
def text(tmp_path) -> str:
    path = tmp_path / "text.txt"
    path.write_text("".join(chr(97 + (i * i) % 26) for i in range(1200)))
    return f"data.files={path}"


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(["model=lstm_lncell"], id="packed"),
        pytest.param(["model=transformer", "optimizer=sgd"], id="transformer"),
        pytest.param(["model=gru_ln", *TEXT], id="carried state"),
        pytest.param(["model=rnn", "trainer.accumulate_grad_batches=2"], id="accumulation"),
        pytest.param(["model=gru_lncell", "trainer.precision=bf16-mixed"], id="autocast"),
        pytest.param(["model=lstm", "trainer.gradient_clip_val=0.01"], id="clipped hard"),
    ],
)
def test_the_step_is_the_one_that_training_makes(overrides, text, tmp_path):
    if "data=text_files" in overrides:
        overrides = [*overrides, text]
    experiment = compose(*overrides, *SMALL, *BUDGET)
    trained = content(train(experiment, tmp_path)[0])[0]["state_dict"]
    step = TrainingStep(experiment.config, build_data(experiment.config))
    for _ in range(3):
        step.run(step.next_batches())
    weights = step.task.state_dict()
    assert weights.keys() == trained.keys()
    for name, value in weights.items():
        if name.startswith("model."):
            assert torch.equal(value, trained[name]), name


def test_every_arm_gets_every_number(few_rounds, text):
    arms = {
        "packed": compose("model=lstm", *SMALL),
        "transformer": compose("model=transformer", *SMALL),
        "text": compose("model=gru_lncell", *SMALL, *TEXT, text),
    }
    found = measure_cost(arms)
    assert found["rounds"] == 6
    assert found["threads"] == torch.get_num_threads()
    assert found["machine"]["device"] == "cpu"
    assert [arm["name"] for arm in found["arms"]] == list(arms)
    assert [arm["unit"] for arm in found["arms"]] == ["sequences", "sequences", "characters"]
    first, *others = found["arms"]
    assert first["ratio"] is None
    assert first["ratio_quartiles"] is None
    for arm in found["arms"]:
        assert 0 < arm["quartiles"][0] <= arm["seconds_per_step"] <= arm["quartiles"][1]
        assert arm["peak_memory"] > 4 * arm["parameters"]  # gradients alone are that much
        assert arm["items_per_second"] > 0
    for arm in others:
        assert 0 < arm["ratio_quartiles"][0] <= arm["ratio"] <= arm["ratio_quartiles"][1]
    assert json.loads(json.dumps(found)) == found


def test_memory_repeats_exactly_and_grows_with_the_batch(few_rounds):
    def peak(*overrides: str) -> int:
        arms = {"one": compose("model=lstm_lncell", "data=mnist1d", *SMALL, *overrides)}
        return measure_cost(arms)["arms"][0]["peak_memory"]

    whole, half = peak("data.batch_size=100"), peak("data.batch_size=50")
    assert peak("data.batch_size=100") == whole
    assert 1.7 < whole / half < 2.1


def test_nothing_but_the_clock_decides_between_two_measurements(few_rounds):
    def untimed(found: dict) -> list:
        kept = ("name", "parameters", "peak_memory", "unit")
        return [[arm[key] for key in kept] for arm in found["arms"]]

    arms = {"rnn": compose("model=rnn", *SMALL), "gru": compose("model=gru", *SMALL)}
    assert untimed(measure_cost(arms)) == untimed(measure_cost(arms))


def test_no_trace_is_left(few_rounds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.use_deterministic_algorithms(False)
    before = torch.get_rng_state()
    measure_cost({"rnn": compose("model=rnn", *SMALL), "again": compose("model=rnn", *SMALL)})
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()
    assert list(tmp_path.iterdir()) == []


def test_no_arm_can_diverge_while_it_is_measured(few_rounds):
    wild = compose("model=rnn", "optimizer=sgd", "optimizer.lr=1e30", *SMALL)
    assert measure_cost({"wild": wild})["rounds"] == 6


def test_every_arm_comes_first_as_often_and_follows_every_other():
    rounds = [order(number, 3) for number in range(6)]
    assert all(sorted(order) == [0, 1, 2] for order in rounds)
    assert sorted(order[0] for order in rounds) == [0, 0, 1, 1, 2, 2]
    pairs = {pair for order in rounds for pair in pairwise(order)}
    assert len(pairs) == 6


def test_the_arms_take_turns_and_the_time_is_bounded(monkeypatch):
    monkeypatch.setattr(step_cost, "SECONDS", 0.0)
    turns: list[str] = []
    original = TrainingStep.run

    def run(self, batches):
        turns.append(self.config.model.cell)
        original(self, batches)

    monkeypatch.setattr(TrainingStep, "run", run)
    found = measure_cost({cell: compose(f"model={cell}", *SMALL) for cell in ("rnn", "gru")})
    assert found["rounds"] == step_cost.LEAST_ROUNDS
    timed = turns[: 2 * (step_cost.WARM_UP + step_cost.LEAST_ROUNDS)]
    assert timed == ["rnn", "gru", "gru", "rnn", "gru", "rnn", "rnn", "gru"] * 2


def test_no_arms():
    with pytest.raises(ValueError, match="at least one arm"):
        measure_cost({})
