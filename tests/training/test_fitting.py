"""Training from Python: strings and classes, and nothing of the notebook's own is disturbed."""

import importlib
import json
import linecache
import logging
import random
import signal
import sys
import threading
from functools import partial
from typing import Any, cast

import hydra.version
import numpy as np
import pytest
import torch
from experiments import QUIET, compose
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from torch import nn

import lnrnn
from lnrnn.data import mnist1d
from lnrnn.models import RecurrentEncoder
from lnrnn.runs.best_files import best_files
from lnrnn.runs.tensor_files import read_tensors
from lnrnn.training import ConfigurationError, evaluate, fit, train
from lnrnn.training.fitting import _written

SHORT = (*QUIET, "model.hidden_size=8", "trainer.max_epochs=2")
QUICK = (*QUIET, "trainer.max_epochs=1")


class Averages(nn.Module):
    """An encoder of a notebook: running means of the features."""

    def __init__(self, num_features: int, *, hidden_size: int = 4, label: str = "plain") -> None:
        super().__init__()
        self.label = label
        self.output_size = hidden_size
        self.linear = nn.Linear(num_features, hidden_size)

    def forward(self, inputs, lengths=None, state=None):
        return self.linear(inputs.cumsum(1) / 10), None


def test_a_run_from_python_is_the_run_of_the_command_line(tmp_path):
    run = fit("model=lstm_ln", *SHORT, seed=1, root=tmp_path / "python")
    folder, record = train(compose("model=lstm_ln", *SHORT, "seed=1"), tmp_path / "command")
    assert run.metrics == record.metrics
    assert run.folder.path.relative_to(tmp_path / "python") == folder.path.relative_to(
        tmp_path / "command"
    )
    assert run.folder.metrics.read_bytes() == folder.metrics.read_bytes()
    assert evaluate(run.folder.path).metrics == run.metrics
    assert f"test/accuracy {run.metrics['test/accuracy']:.4f}" in repr(run)


def test_curves_and_the_model_are_those_of_the_run(tmp_path):
    run = fit("model=gru", *SHORT, root=tmp_path)
    lines = [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]
    wanted = [(line["step"], line["value"]) for line in lines if line["name"] == "val/loss"]
    assert list(zip(*run.curves()["val/loss"], strict=True)) == wanted
    model = run.model
    assert not model.training
    saved = torch.load(run.folder.checkpoints / "step-00000014.ckpt", weights_only=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, saved["state_dict"][f"model.{name}"])
    scores, _ = model(torch.randn(2, 9, 12))
    assert scores.shape == (2, 9)


def test_a_finished_run_is_read_and_settings_are_named_in_its_folder(tmp_path):
    first = fit("model=rnn", *SHORT, root=tmp_path, schedule="cosine")
    assert first.folder.path.parent.name == "rnn-hidden_size-8-max_epochs-2-schedule-cosine"
    before = first.folder.record.stat().st_mtime_ns
    again = fit("model=rnn", *SHORT, root=tmp_path, schedule="cosine")
    assert again.metrics == first.metrics
    assert again.folder.record.stat().st_mtime_ns == before


def test_a_class_is_a_model_and_its_arguments_are_in_the_folders_name(tmp_path):
    own = partial(Averages, hidden_size=6, label="it's {odd}, \\'quoted")
    run = fit(*QUICK, model=own, data="japanese_vowels", root=tmp_path)
    assert run.record.model == "Averages"
    assert "hidden_size-6" in run.folder.path.parent.name
    encoder: object = run.model.encoder
    assert isinstance(encoder, Averages)
    assert encoder.label == "it's {odd}, \\'quoted"
    assert run.config.model.num_features == 12
    with pytest.raises(ConfigurationError, match="names classes or functions of"):
        evaluate(run.folder.path)
    assert evaluate(run.folder.path, trust=[Averages.__module__]).metrics == run.metrics
    assert not any("searchpath" in text for text in run.record.overrides)


def test_an_edited_class_does_not_get_the_result_of_the_one_before(tmp_path, monkeypatch):
    text = (
        "from torch import nn\n"
        "class Edited(nn.Module):\n"
        "    def __init__(self, num_features):\n"
        "        super().__init__()\n"
        "        self.output_size = 4\n"
        "        self.linear = nn.Linear(num_features, 4)\n"
        "    def forward(self, inputs, lengths=None, state=None):\n"
        "        return self.linear(inputs), None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def edited(text: str) -> Any:
        (tmp_path / "edited_models.py").write_text(text)
        sys.modules.pop("edited_models", None)
        linecache.clearcache()
        importlib.invalidate_caches()
        return importlib.import_module("edited_models").Edited

    model = edited(text)
    run = fit(*QUICK, model=model, root=tmp_path)
    assert fit(*QUICK, model=model, root=tmp_path).metrics == run.metrics
    model = edited(text.replace("self.linear(inputs), None", "2.0 * self.linear(inputs), None"))
    with pytest.raises(ConfigurationError, match="has been edited since"):
        fit(*QUICK, model=model, root=tmp_path)
    assert fit(*QUICK, model=model, root=tmp_path, name="doubled").metrics != run.metrics


def test_ours_need_no_trust_and_an_optimizer_may_be_torchs(tmp_path):
    norm = lnrnn.CellNorm(kind="rms", cell=None)
    encoder = partial(RecurrentEncoder, cell="gru", hidden_size=8, norm=norm)
    optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    run = fit(*QUICK, model=encoder, optimizer=optimizer, root=tmp_path)
    assert run.config.model._target_ == "lnrnn.models.RecurrentEncoder"
    assert run.config.model.norm.kind == "rms"
    assert run.config.optimizer._target_ == "torch.optim.SGD"
    assert evaluate(run.folder.path).metrics == run.metrics


def test_the_model_has_the_weights_that_were_tested(tmp_path):
    worse = ("optimizer.lr=1.0", "test=best", "model=rnn")  # best before its end
    run = fit(*SHORT, *worse, root=tmp_path)
    (best,) = best_files(run.folder.checkpoints)
    kept = read_tensors(best)[0]
    newest = run.folder.newest_checkpoint()
    assert newest is not None
    last = torch.load(newest, weights_only=True)["state_dict"]
    assert not all(torch.equal(last[f"model.{name}"], kept[name]) for name in kept)
    assert all(torch.equal(value, kept[name]) for name, value in run.model.state_dict().items())


def test_numpys_numbers_are_numbers_and_texts_stay_texts(tmp_path):
    own = partial(Averages, label="null", hidden_size=cast(int, np.int64(3)))
    settings: dict[str, Any] = {"optimizer.lr": np.float64(0.02)}
    run = fit(*QUICK, model=own, root=tmp_path, **settings)
    assert run.config.optimizer.lr == 0.02
    assert (run.config.model.label, run.config.model.hidden_size) == ("null", 3)
    assert "lr-0.02" in run.folder.path.parent.name
    for text in ("true", "NaN", "False", "inf"):
        assert _written("x", text) == f"'{text}'"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sead": 1}, "there is no key sead"),
        ({"model": "lstn"}, "Did you mean lstm"),
        ({"seed": object()}, "seed must be a number, a text"),
        ({"model": partial(Averages, 3)}, "bind arguments by their names"),
        ({"model": lambda: None}, "must be a class or function of a module"),
        ({"model": partial(cast(Any, Averages), hidden=3)}, "no key model.hidden"),
    ],
)
def test_what_cannot_be_trained_is_refused(settings, words, tmp_path):
    with pytest.raises(ConfigurationError, match=words):
        fit(*QUICK, **settings, root=tmp_path)
    assert not list(tmp_path.rglob("run.json"))


def test_nothing_global_is_left_changed(tmp_path):
    def snapshot():
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        loggers = ("", "lightning.pytorch", "lightning.pytorch.profilers", "hydra")
        return (
            [signal.getsignal(number) for number in numbers],
            [logging.getLogger(name).level for name in loggers],
            [list(logging.getLogger(name).handlers) for name in loggers],
            torch.are_deterministic_algorithms_enabled(),
            torch.initial_seed(),
            torch.get_rng_state().tolist(),
            random.getstate(),
            hydra.version.getbase(),
        )

    torch.use_deterministic_algorithms(False)
    with initialize_config_module("hydra.conf", version_base="1.2"):
        own = GlobalHydra.instance().hydra
        before = snapshot()
        fit("model=rnn", *SHORT, root=tmp_path)
        assert GlobalHydra.instance().hydra is own
        assert snapshot() == before


def test_it_works_in_a_thread_that_is_not_the_first(tmp_path):
    found = []
    thread = threading.Thread(
        target=lambda: found.append(fit("model=rnn", *SHORT, root=tmp_path).metrics)
    )
    thread.start()
    thread.join()
    assert "test/accuracy" in found[0]


def test_an_interrupted_kernel_saves_and_the_same_call_resumes(tmp_path, monkeypatch):
    from lnrnn.training import SequenceTask

    original = SequenceTask.training_step

    def interrupted(self, batch, batch_idx):
        if self.global_step == 9:
            signal.raise_signal(signal.SIGINT)
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceTask, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt, match="the same call resumes it"):
            fit("model=rnn", *SHORT, root=tmp_path)
    run = fit("model=rnn", *SHORT, root=tmp_path)
    whole = fit("model=rnn", *SHORT, root=tmp_path / "whole")
    assert run.folder.metrics.read_bytes() == whole.folder.metrics.read_bytes()
    assert run.record.resumed


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"model": lnrnn.LSTM(3, 4)},
            r"model is built already \(LSTM\).*model=functools\.partial\(LSTM",
        ),
        (
            {"optimizer": torch.optim.SGD([torch.zeros(1)], lr=0.1)},
            r"optimizer is built already \(SGD\).*optimizer=functools\.partial\(SGD, \.\.\.\)",
        ),
        (
            {"data": mnist1d()},
            r"data is built already \(DataModule\).*conf/data/NAME\.yaml.*data=NAME",
        ),
        ({"head": torch.nn.Linear(2, 2)}, r"head is built already \(Linear\).*conf/head/NAME"),
    ],
    ids=["model", "optimizer", "data", "head"],
)
def test_what_is_built_already_is_refused_with_the_way_out(given, words, tmp_path):
    with pytest.raises(ConfigurationError, match=words):
        fit(**given, root=tmp_path)
    assert not [*tmp_path.iterdir()]
