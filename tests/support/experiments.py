"""Composing the real configurations for tests, and interrupting runs."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from lnrnn.config import CONF as CONF
from lnrnn.training import Experiment, RunFolder, SequenceTask, compose_experiment, train

QUIET = ["trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"]
CLASSIFIER = (
    "model=lstm_ln",
    "model.hidden_size=8",
    "model.dropout=0.3",
    "model.num_layers=2",
    "trainer.max_epochs=3",
    "trainer.log_every_n_steps=3",
    "checkpoint_every_n_steps=3",
)
LANGUAGE_MODEL = (
    "data=text_files",
    "data.batch_size=3",
    "data.window=12",
    "model=gru",
    "model.hidden_size=8",
    "model.dropout=0.2",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=4",
    "checkpoint_every_n_steps=4",
)


class Interruption(Exception):
    """Raised by a test in the middle of a run."""


def compose(*overrides: str) -> Experiment:
    """Compose an experiment that prints nothing."""
    return compose_experiment([*QUIET, *overrides])


def only(paths: Iterable[Path]) -> Path:
    """Return the one path there is; a search that is left half done warns when it is forgotten."""
    (path,) = paths
    return path


def interrupt_call(monkeypatch, method: str, number: int) -> None:
    """Let the ``number``-th call (from 0) of a method of the task raise Interruption."""
    original, calls = getattr(SequenceTask, method), iter(range(10**9))

    def interrupted(self, *args, **kwargs):
        if next(calls) == number:
            raise Interruption(f"{method} {number}")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SequenceTask, method, interrupted)


def run(overrides, root: Path, *interruptions, monkeypatch) -> RunFolder:
    """Train, interrupted as often as there are (method, call) pairs, until it is finished."""
    for method, number in interruptions:
        with monkeypatch.context() as patch:
            interrupt_call(patch, method, number)
            with pytest.raises(Interruption):
                train(compose(*overrides), root)
    return train(compose(*overrides), root)[0]
