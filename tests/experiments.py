"""Composing the real configurations for tests, and interrupting runs."""

from collections.abc import Iterable
from pathlib import Path

from lnrnn.training import Experiment, SequenceTask, compose_experiment

CONF = Path(__file__).resolve().parent.parent / "conf"
QUIET = ["trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"]


class Interruption(Exception):
    """Raised by a test in the middle of a run."""


def compose(*overrides: str) -> Experiment:
    """Compose an experiment that prints nothing."""
    return compose_experiment([*QUIET, *overrides], CONF)


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
