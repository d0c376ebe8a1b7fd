import math

import pytest
import torch
from experiments import compose, only

from lnrnn.data import Batch
from lnrnn.runs.checkpoint_files import read_checkpoint
from lnrnn.training import NonFiniteError, RunFolder, SequenceTask, train
from lnrnn.training.callbacks import StepTimer
from lnrnn.training.finite import bad_activation, bad_gradient, bad_parameter

SMALL = ("model=lstm_ln", "model.hidden_size=8", "trainer.max_epochs=2")
AT = 5


def spoil(patch, place: str) -> None:
    """Let a number go wrong in the training step ``AT``."""
    original = SequenceTask.training_step

    def step(self, batch, batch_idx):
        if self.global_step == AT - 1:
            if place == "parameter":
                with torch.no_grad():
                    self.model.encoder.layer.weight_hh_l0[0, 0] = math.nan
            elif place == "batch":
                batch.inputs[0, 0, 0] = math.nan
            elif place == "activation":
                head = self.model.head
                head.register_forward_hook(lambda module, inputs, output: output / 0)
            elif place == "gradient":
                self.model.head.linear.weight.register_hook(lambda grad: grad * math.nan)
        return original(self, batch, batch_idx)

    patch.setattr(SequenceTask, "training_step", step)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("parameter", r"loss .* First to go wrong: the parameter encoder\.layer\.weight_hh_l0"),
        ("batch", "loss .* First to go wrong: the batch itself"),
        ("activation", r"loss .* the output of head \(ClassificationHead\)"),
        ("gradient", r"gradient's norm .* the gradient of head\.linear\.weight"),
    ],
)
def test_the_run_stops_within_the_step_and_says_where(place, words, tmp_path, monkeypatch):
    spoil(monkeypatch, place)
    with pytest.raises(NonFiniteError, match=words) as caught:
        train(compose(*SMALL, "checkpoint_every_n_steps=1"), tmp_path)
    assert f"at step {AT} (epoch 0)" in str(caught.value)
    folder = RunFolder(only(tmp_path.glob("*/*/seed0")))
    record = folder.read_record()
    assert (record.status, record.steps) == ("failed", AT - 1)
    assert (folder.checkpoints / "last").read_text() == f"step-{AT - 1:08d}.ckpt\n"
    newest = folder.newest_checkpoint()
    assert newest is not None
    assert all(value.isfinite().all() for value in read_checkpoint(newest)["state_dict"].values())


def test_weights_that_a_step_has_ruined_are_never_saved(tmp_path, monkeypatch):
    def ruin(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == AT:
            with torch.no_grad():
                module.model.head.linear.bias[0] = math.inf

    monkeypatch.setattr(StepTimer, "on_train_batch_end", ruin)  # runs before the save
    with pytest.raises(NonFiniteError, match=r"step 5 made the parameter .*head\.linear\.bias"):
        train(compose(*SMALL, "checkpoint_every_n_steps=1"), tmp_path)
    folder = RunFolder(only(tmp_path.glob("*/*/seed0")))
    assert (folder.checkpoints / "last").read_text() == "step-00000004.ckpt\n"


class Chain(torch.nn.Module):
    """Two layers, as a sequence model is called."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)

    def forward(self, inputs, lengths, state):
        return self.second(self.first(inputs).exp()), state


def batch(value: float) -> Batch:
    return Batch(torch.full((2, 3), value), torch.zeros(2), None)


def test_the_first_output_is_named():
    model = Chain()
    with torch.no_grad():
        model.first.weight.fill_(1.0)
    assert bad_activation(model, batch(1.0), None) == "the loss, of finite predictions"
    assert bad_activation(model, batch(500.0), None) == "the output of second (Linear)"
    assert bad_activation(model, batch(3e38), None) == "the output of first (Linear)"
    assert bad_activation(model, batch(math.nan), None) == "the batch itself"
    assert not model.first._forward_hooks


def test_the_first_parameter_and_gradient_are_named():
    model = Chain()
    assert bad_parameter(model) is None
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    model.second.weight.grad = torch.full((2, 4), 3e38)
    assert bad_gradient(model).startswith("no single gradient, but their norm; the largest, 3e+38")
    model.second.bias.grad = torch.tensor([0.0, math.inf])
    assert bad_gradient(model) == "the gradient of second.bias"
    with torch.no_grad():
        model.first.bias[1] = math.nan
        model.second.bias[0] = math.nan
    assert bad_parameter(model) == "the parameter first.bias"
