"""Arms with initial weights or frozen parts: checked before training, measured as they are."""

import shutil

import pytest
import torch
from experiments import compose
from same_runs import content

from lnrnn.study.plan import build_once
from lnrnn.study.step_cost import TrainingStep
from lnrnn.training import ConfigurationError, RunFolder, SequenceTask, train
from lnrnn.training.build import build_data

SMALL = ("model=rnn_ln", "model.hidden_size=8", "trainer.max_epochs=-1", "trainer.max_steps=3")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> RunFolder:
    return train(compose(*SMALL, "name=source"), tmp_path_factory.mktemp("source"))[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("init_from=nowhere",), "the arm 'warm': init_from=nowhere: there is no such run"),
        (("freeze=encodr",), "the arm 'warm': freeze=encodr.*Did you mean encoder"),
        (("freeze=[encoder,head]",), "the arm 'warm': .*leaves nothing to be trained"),
        (("init_from={}", "model.hidden_size=9"), r"the arm 'warm': .*\(8, 12\) in the file"),
        (("freeze=head", "unfreeze_at=3"), "the arm 'warm': unfreeze_at=3 is after step 3, but"),
        (("freeze=head", "unfreeze_at=1epoch"), "the arm 'warm': unfreeze_at=1epoch is after st"),
        (("init_from={}", "init_parts=haed"), "the arm 'warm': init_parts=haed.*Did you mean head"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_arm_is_trained(
    words, message, source, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = [word.format(source.path) for word in words]
    runs = {"rnn_ln": [compose(*SMALL)], "warm": [compose(*SMALL, *words)]}
    with pytest.raises(ConfigurationError, match=f"(?s){message}"):
        build_once(runs)


def test_an_arm_that_has_begun_needs_its_source_no_more(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(source.path, "copy")
    run = compose(*SMALL, "init_from=copy")
    build_once({"warm": [run]})
    train(run)
    shutil.rmtree("copy")
    build_once({"warm": [run]})
    with pytest.raises(ConfigurationError, match="init_from=copy: there is no such run"):
        build_once({"warm": [run, compose(*SMALL, "init_from=copy", "seed=1")]})


@pytest.mark.parametrize(
    "words",
    [("freeze=encoder",), ("class_weights=[1,2,3,4,5,6,7,8,9]",), ("freeze=encoder", "model=lstm")],
)
def test_the_step_that_is_measured_is_the_one_that_training_makes(words, tmp_path):
    experiment = compose(*SMALL, *words)
    trained = content(train(experiment, tmp_path)[0])[0]["state_dict"]
    step = TrainingStep(experiment.config, build_data(experiment.config))
    for _ in range(3):
        step.run(step.next_batches())
    frozen = [name for name, part in step.task.model.named_parameters() if part.grad is None]
    assert all(name.startswith("encoder.") for name in frozen)
    assert bool(frozen) == ("freeze=encoder" in words)
    for name, value in step.task.model.state_dict().items():
        assert torch.equal(value, trained[f"model.{name}"]), name


def test_parts_that_are_trained_later_are_measured_as_trained():
    experiment = compose(*SMALL, "freeze=encoder", "unfreeze_at=2")
    step = TrainingStep(experiment.config, build_data(experiment.config))
    step.run(step.next_batches())
    assert all(part.grad is not None for part in step.task.model.parameters())


def test_weights_of_classes_are_where_the_loss_is_computed(monkeypatch):
    experiment = compose(*SMALL, "class_weights=balanced")
    moved = []
    monkeypatch.setattr(SequenceTask, "on_fit_start", lambda task: moved.append(task))
    step = TrainingStep(experiment.config, build_data(experiment.config))
    assert moved == [step.task]
