"""Interrupt a small run at any point, inside one process, and go on: it must end in the same bits.

Two epochs of four batches, with dropout, validation and test. A crash is an exception, which leaves
what the last checkpoint left; a stop is a signal, which saves at the next step boundary.
"""

import os
import signal
import tempfile
from functools import cache
from pathlib import Path

import pytest
from experiments import Interruption, compose
from hypothesis import example, given, settings
from hypothesis import strategies as st
from same_runs import assert_same_run

from lnrnn.training import Interrupted, RunFolder, SequenceTask, train

SMALL = (
    "model.hidden_size=8",
    "model.dropout=0.3",
    "model.num_layers=2",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=4",
    "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=2",
    "trainer.log_every_n_steps=3",
)
# The ways to train that resuming must respect.
WAYS = {
    "plain": (),
    "accumulation": ("trainer.accumulate_grad_batches=3", "schedule=linear"),
    "schedule": ("schedule=cosine", "warmup_steps=3"),
    "validation inside": ("trainer.val_check_interval=2",),
    "workers": ("data.num_workers=2",),
    "early stopping": ("early_stopping=1", "optimizer.lr=1.0", "trainer.max_epochs=6"),
    "steps": ("trainer.max_epochs=-1", "trainer.max_steps=6"),
    "steps to an epoch's end": ("trainer.max_epochs=-1", "trainer.max_steps=8"),
    "validation by steps": (
        *("trainer.max_epochs=-1", "trainer.max_steps=10", "trainer.accumulate_grad_batches=2"),
        *("trainer.val_check_interval=3", "early_stopping=9"),
    ),
    "language model": (
        "data=text_files",
        "data.batch_size=3",
        "data.window=8",
        "model=lstm",
        "model.num_layers=1",
        "trainer.limit_train_batches=4",
    ),
}


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """Drawing takes longer than these runs do."""
    monkeypatch.setattr("lnrnn.training.run.plot_curves", lambda metrics, picture: None)


@cache
def text_file() -> Path:
    path = Path(tempfile.mkdtemp(prefix="lnrnn-text-")) / "text.txt"
    path.write_text("".join(chr(97 + (i * i) % 26) for i in range(1200)))
    return path


def overrides_of(way: str, every: int) -> tuple[str, ...]:
    extra = WAYS[way]
    if "data=text_files" in extra:
        extra = (*extra, f"data.files={text_file()}")
    chosen = [text for text in extra if text.startswith(("data=", "model="))]
    rest = [text for text in extra if text not in chosen]
    return (*chosen, *SMALL, *rest, f"checkpoint_every_n_steps={every}")


@cache
def whole(way: str) -> RunFolder:
    return train(compose(*overrides_of(way, 3)), Path(tempfile.mkdtemp(prefix="lnrnn-whole-")))[0]


def stop_at(patch: pytest.MonkeyPatch, method: str, number: int, how: str) -> None:
    """Let the ``number``-th call of a method of the task crash, or be met by a signal."""
    original, calls = getattr(SequenceTask, method), iter(range(10**6))

    def met(self, *args, **kwargs):
        if next(calls) == number:
            if how == "crash":
                raise Interruption
            os.kill(os.getpid(), getattr(signal, how))
        return original(self, *args, **kwargs)

    patch.setattr(SequenceTask, method, met)


def check(way: str, every: int, *stops: tuple[str, int, str]) -> None:
    """Stop a run at each of ``stops``, finish it, and compare it with the one never stopped."""
    experiment = compose(*overrides_of(way, every))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for stop in stops:
            with pytest.MonkeyPatch.context() as patch:
                stop_at(patch, *stop)
                try:
                    train(experiment, root)
                except (Interruption, Interrupted):
                    continue
        folder, record = train(experiment, root)
        assert record.status == "finished"
        assert_same_run(folder, whole(way))
        assert not list(root.rglob("*.tmp"))
        assert not list(root.rglob("run.lock"))


def with_examples(function):
    """Every batch index of the two epochs, crashed and stopped, beside what is drawn."""
    for index in range(8):
        how = "SIGTERM" if index % 2 else "crash"
        function = example(index=index, every=1 + index % 3, how=how)(function)
    return function


@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@with_examples
@given(
    index=st.integers(0, 7),
    every=st.integers(1, 4),
    how=st.sampled_from(["crash", "SIGTERM", "SIGINT", "SIGUSR1"]),
)
def test_every_batch_index(index, every, how):
    check("plain", every, ("training_step", index, how))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "stops",
    [
        pytest.param([("training_step", 3, "SIGTERM")], id="stopped at the epoch's last batch"),
        pytest.param([("validation_step", 0, "SIGTERM")], id="stopped in the validation"),
        pytest.param(
            [("training_step", 2, "crash"), ("training_step", 1, "SIGINT")], id="crashed, stopped"
        ),
    ],
)
def test_every_way_to_train(way, stops):
    check(way, 2, *stops)


@pytest.mark.parametrize(
    "stops",
    [
        pytest.param([("validation_step", 1, "crash")], id="crash in the validation"),
        pytest.param([("validation_step", 3, "SIGTERM")], id="last batch of the last validation"),
        pytest.param([("on_validation_epoch_end", 0, "SIGTERM")], id="as the validation ends"),
        pytest.param([("on_validation_epoch_end", 1, "crash")], id="crash as the last one ends"),
        pytest.param([("test_step", 0, "SIGTERM")], id="in the test"),
        pytest.param([("test_step", 1, "crash")], id="crash in the test"),
        pytest.param(
            [("validation_step", 0, "SIGTERM"), ("validation_step", 0, "SIGTERM")],
            id="twice in the same validation",
        ),
        pytest.param(
            [("training_step", 1, "SIGTERM")] * 5, id="again and again, two steps at a time"
        ),
    ],
)
def test_every_phase(stops):
    check("plain", 3, *stops)


# Where training ends, and the validations of two batches before its last one.
LAST = {"steps": 1, "steps to an epoch's end": 1, "validation by steps": 3, "plain": 1}


@pytest.mark.parametrize("way", LAST)
@pytest.mark.parametrize(
    "stops",
    [
        pytest.param([("validation_step", 0, "SIGTERM")], id="stopped in it"),
        pytest.param([("validation_step", 1, "crash")], id="crash in it"),
        pytest.param([("on_validation_epoch_end", 0, "crash")], id="crash as it ends"),
        pytest.param(
            [("validation_step", 0, "SIGTERM"), ("validation_step", 1, "SIGINT")], id="twice in it"
        ),
        pytest.param(
            [("validation_step", 1, "SIGTERM"), ("validation_step", 0, "crash")],
            id="stopped and crashed in it",
        ),
        pytest.param(
            [("validation_step", 0, "SIGUSR1"), ("test_step", 0, "SIGTERM")], id="then in the test"
        ),
    ],
)
def test_the_last_validation(way, stops):
    """The weights of the end are validated once, whenever the run is stopped."""
    (method, number, how), *later = stops
    before = LAST[way] * (2 if method == "validation_step" else 1)
    check(way, 100, (method, before + number, how), *later)


@pytest.mark.parametrize("method", ["test_step", "validation_step"])
def test_early_stopping_is_not_forgotten(method):
    """It had ended training: nothing may be trained after it, wherever the run was stopped."""
    assert whole("early stopping").read_record().steps in range(1, 24)
    last = 2 * 2 if method == "validation_step" else 0
    check("early stopping", 3, (method, last, "crash"), (method, 0, "SIGTERM"))
