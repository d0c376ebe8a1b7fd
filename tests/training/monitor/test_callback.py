"""A run with the monitor is the run without it, and more records; and it resumes exactly."""

import json

import pytest
from experiments import (
    CLASSIFIER,
    LANGUAGE_MODEL,
    Interruption,
    compose,
    interrupt_call,
    run,
)
from same_runs import assert_equal, assert_same_run, content

from lnrnn.runs.curves import plot_curves
from lnrnn.training import (
    ConfigurationError,
    NonFiniteError,
    RunFolder,
    SequenceTask,
    folder_of,
    train,
)
from lnrnn.training.monitor import callback as monitor_module

ON = "monitor=true"


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(monitor_module, "EVERY", 4)


@pytest.fixture
def text(tmp_path) -> str:
    path = tmp_path / "text.txt"
    path.write_text("".join(chr(97 + (i * i) % 26) for i in range(1200)))
    return f"data.files={path}"


def lines(folder: RunFolder, *, monitored: bool) -> list[dict]:
    found = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [line for line in found if line["name"].startswith("monitor/") == monitored]


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param([], id="dropout and two layers"),
        pytest.param(["model=rnn", "model.bidirectional=true"], id="bidirectional"),
        pytest.param(["model=lstm_lncell", "model.fused=true"], id="kernels"),
        pytest.param(["model=transformer"], id="transformer"),
        pytest.param(["trainer.precision=bf16-mixed", "model=gru_lncell"], id="autocast"),
        pytest.param(["trainer.accumulate_grad_batches=3"], id="accumulation"),
        pytest.param(["trainer.gradient_clip_val=null"], id="no clipping"),
        pytest.param(["trainer.precision=64-true", "data.standardize=false"], id="float64"),
    ],
)
def test_nothing_but_records_is_added(extra, tmp_path):
    overrides = (*CLASSIFIER, *extra)
    without = train(compose(*overrides), tmp_path / "without")[0]
    monitored = train(compose(*overrides, ON), tmp_path / "with")[0]
    assert_equal(content(monitored)[0], content(without)[0])
    assert lines(monitored, monitored=False) == lines(without, monitored=False)
    assert lines(without, monitored=True) == []
    seen = lines(monitored, monitored=True)
    assert {line["step"] for line in seen} == set(range(0, seen[-1]["step"] + 1, 4))
    assert all(line["value"] is not None for line in seen)
    assert [line["epoch"] for line in seen] == sorted(line["epoch"] for line in seen)
    assert without.read_record().diagnosis is None
    assert monitored.read_record().diagnosis
    assert monitored.path.relative_to(tmp_path / "with") == without.path.relative_to(
        tmp_path / "without"
    )


def test_a_language_models_carried_state_is_left_alone(text, tmp_path):
    overrides = (*LANGUAGE_MODEL, text)
    without = train(compose(*overrides), tmp_path / "without")[0]
    monitored = train(compose(*overrides, ON), tmp_path / "with")[0]
    assert_equal(content(monitored)[0], content(without)[0])
    assert lines(monitored, monitored=False) == lines(without, monitored=False)


@pytest.mark.parametrize(
    "interruptions",
    [
        pytest.param([("training_step", 4)], id="in a sampled step"),
        pytest.param([("training_step", 10)], id="between samples"),
        pytest.param([("training_step", 17), ("training_step", 2)], id="twice"),
        pytest.param([("validation_step", 0)], id="in a validation"),
        pytest.param([("test_step", 0)], id="in the test"),
    ],
)
@pytest.mark.parametrize("extra", [[], ["trainer.accumulate_grad_batches=2"]], ids=["", "two"])
def test_a_resumed_run_has_the_same_samples(interruptions, extra, tmp_path, monkeypatch):
    overrides = (*CLASSIFIER, "trainer.gradient_clip_val=0.5", ON, *extra)
    whole = run(overrides, tmp_path / "whole", monkeypatch=monkeypatch)
    again = run(overrides, tmp_path / "again", *interruptions, monkeypatch=monkeypatch)
    assert_same_run(again, whole)
    assert again.read_record().diagnosis == whole.read_record().diagnosis


@pytest.mark.parametrize("call", [9, 14])
def test_a_resumed_language_model_has_the_same_samples(call, text, tmp_path, monkeypatch):
    overrides = (*LANGUAGE_MODEL, text, ON)
    whole = run(overrides, tmp_path / "whole", monkeypatch=monkeypatch)
    again = run(overrides, tmp_path / "again", ("training_step", call), monkeypatch=monkeypatch)
    assert_same_run(again, whole)


def test_the_clipped_share_is_that_of_the_steps_since_the_last_sample(tmp_path, monkeypatch):
    norms: list[float] = []
    original = SequenceTask.configure_gradient_clipping

    def note(self, *args, **kwargs):
        original(self, *args, **kwargs)
        norms.append(float(self.gradient_norm))

    monkeypatch.setattr(SequenceTask, "configure_gradient_clipping", note)
    limit = 1.3
    folder, _ = train(compose(*CLASSIFIER, f"trainer.gradient_clip_val={limit}", ON), tmp_path)
    found = {
        line["step"]: line["value"]
        for line in lines(folder, monitored=True)
        if line["name"] == "monitor/clipped"
    }
    assert found.keys() == {4, 8, 12, 16, 20}
    for step, share in found.items():
        assert share == sum(norm > limit for norm in norms[step - 4 : step]) / 4
    assert len(set(found.values())) > 1


def test_the_gradient_of_the_recurrent_weights_is_the_steps_own(tmp_path, monkeypatch):
    norms: list[float] = []
    original = SequenceTask.configure_gradient_clipping

    def note(self, *args, **kwargs):
        norms.append(float(self.model.encoder.layer.weight_hh_l1.grad.norm()))
        original(self, *args, **kwargs)

    monkeypatch.setattr(SequenceTask, "configure_gradient_clipping", note)
    folder, _ = train(compose(*CLASSIFIER, "trainer.gradient_clip_val=0.1", ON), tmp_path)
    found = [
        (line["step"], line["value"])
        for line in lines(folder, monitored=True)
        if line["name"] == "monitor/recurrent_gradient/l1"
    ]
    assert found == [(step, norms[step]) for step in (0, 4, 8, 12, 16, 20)]


def test_a_finished_run_is_not_made_again_for_the_monitor(tmp_path):
    folder, record = train(compose(*CLASSIFIER), tmp_path)
    before = folder.metrics.read_bytes()
    again, found = train(compose(*CLASSIFIER, ON), tmp_path)
    assert again == folder
    assert found == record
    assert found.diagnosis is None
    assert folder.metrics.read_bytes() == before


def test_an_interrupted_run_can_go_on_with_the_monitor(tmp_path, monkeypatch):
    whole = train(compose(*CLASSIFIER), tmp_path / "whole")[0]
    place = tmp_path / "again"
    with monkeypatch.context() as patch:
        interrupt_call(patch, "training_step", 10)
        with pytest.raises(Interruption):
            train(compose(*CLASSIFIER), place)
    folder, _ = train(compose(*CLASSIFIER, ON), place)
    assert lines(folder, monitored=False) == lines(whole, monitored=False)
    assert {line["step"] for line in lines(folder, monitored=True)} == {12, 16, 20}


def test_a_run_that_diverges_is_diagnosed(tmp_path):
    experiment = compose(*CLASSIFIER, "optimizer=sgd", "optimizer.lr=1e30", ON)
    with pytest.raises(NonFiniteError):
        train(experiment, tmp_path)
    assert folder_of(experiment, tmp_path).read_record().diagnosis


def test_the_picture_of_curves_leaves_the_monitor_out(tmp_path):
    folder, _ = train(compose(*CLASSIFIER, ON), tmp_path)
    plain = tmp_path / "plain.jsonl"
    kept = [x for x in folder.metrics.read_text().splitlines(keepends=True) if "monitor/" not in x]
    plain.write_text("".join(kept))
    plot_curves(plain, tmp_path / "plain.png")
    assert folder.curves.read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_loggers_are_handed_the_samples(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _ = train(compose(*CLASSIFIER, ON, "logger=tensorboard"), tmp_path)
    (events,) = {path.parent for path in folder.path.rglob("events.out*")}
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    logged = [event.step for event in accumulator.Scalars("monitor/state_norm/l0")]
    assert logged == [0, 4, 8, 12, 16, 20]


@pytest.mark.parametrize("value", ["1", "yes", "null"])
def test_the_switch_is_true_or_false(value):
    with pytest.raises(ConfigurationError, match="monitor must be true or false"):
        compose(f"monitor={value}")


def test_it_is_off_by_default():
    assert compose().config.monitor is False
