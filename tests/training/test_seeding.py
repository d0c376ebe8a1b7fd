from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from experiments import compose
from torch import nn

from lnrnn.models import ClassificationHead, RecurrentEncoder, SequenceModel
from lnrnn.seeding import derive_seed, initialize
from lnrnn.training import train
from lnrnn.training.callbacks import StepSeed, dropout_seed


def build(norm, seed=0):
    encoder = RecurrentEncoder("lstm", num_features=3, hidden_size=6, num_layers=2, norm=norm)
    model = SequenceModel(encoder, partial(ClassificationHead, 4))
    initialize(model, seed)
    return dict(model.named_parameters())


@pytest.mark.parametrize("norm", ["output", "cell"])
def test_variants_share_the_initial_value_of_every_parameter_they_share(norm):
    plain, normed = build(None), build(norm)
    assert plain.keys() < normed.keys()
    assert all(torch.equal(plain[name], normed[name]) for name in plain)
    added = normed.keys() - plain.keys()
    assert all(torch.all(normed[name] == float("gain" in name)) for name in added)


def test_another_seed_gives_other_values():
    one, other = build(None, 0), build(None, 1)
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_a_record_shows_what_two_runs_of_one_seed_share(tmp_path):
    few = ["trainer.max_steps=1", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"]
    runs = [("rnn", 0), ("lstm_ln", 0), ("rnn", 1)]
    arms = [compose(f"model={model}", f"seed={seed}", *few) for model, seed in runs]
    one, other, third = (train(arm, tmp_path)[1] for arm in arms)
    for key in ("data_order", "dropout_seed"):
        assert getattr(one, key) == getattr(other, key) != getattr(third, key)
    assert one.split_sizes == {"train": 216, "validation": 54, "test": 370}


def test_a_step_on_the_cpu_draws_as_torch_seeds_it_and_asks_no_gpu(monkeypatch):
    torch.manual_seed(dropout_seed(3, 7, 0))
    expected = torch.rand(5)

    def fail(seed):
        raise AssertionError("a GPU's generators were seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", fail)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=7))
    trainer: Any = SimpleNamespace(fit_loop=loop, global_rank=0)
    task: Any = SimpleNamespace(device=torch.device("cpu"))
    batch: Any = None
    StepSeed(3).on_train_batch_start(trainer, task, batch, 0)
    assert torch.equal(torch.rand(5), expected)


def test_the_global_generator_is_left_alone():
    layer = nn.Linear(3, 4)
    before = torch.get_rng_state()
    initialize(layer, 0)
    assert torch.equal(before, torch.get_rng_state())


def test_a_module_that_cannot_redraw_its_parameters_is_refused():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

    with pytest.raises(TypeError, match=r"1 \(Bare\) owns parameters but has no reset_parameters"):
        initialize(nn.Sequential(nn.Linear(2, 2), Bare()), 0)


def test_seeds_depend_on_everything():
    keys = [
        (0, "order", 1),
        (0, "order", 2),
        (1, "order", 1),
        (0, "dropout", 1),
        (0, "order", 1, 1),
    ]
    seeds = {derive_seed(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, "order", 1) == 4489457307835839548
