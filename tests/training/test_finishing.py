"""What a finished run promises is there when it says so, or is made by the next start."""

import json
import os
import signal
import socket

import pytest
from experiments import compose, only

from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.finished import complete, finished_result
from lnrnn.runs.lock import LOCK, locked
from lnrnn.training import Interrupted, RunFolder, evaluate, train
from lnrnn.training import run as fit

SMALL = ("model.hidden_size=8", "trainer.max_steps=2", "trainer.limit_test_batches=1")


def test_a_run_that_cannot_draw_its_curves_is_not_finished(tmp_path, monkeypatch):
    def fail(metrics, picture):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(fit, "plot_curves", fail)
        with pytest.raises(OSError, match="no space left"):
            train(compose(*SMALL), tmp_path)
    folder = RunFolder(only(tmp_path.glob("*/*/seed0")))
    assert folder.read_record().status != "finished"
    assert not (folder.path / LOCK).exists()
    _, record = train(compose(*SMALL), tmp_path)
    assert record.status == "finished"
    assert folder.curves.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_last_moments_leaves_a_finished_run(number, tmp_path, monkeypatch):
    original = fit.plot_curves

    def met(metrics, picture):
        os.kill(os.getpid(), number)
        original(metrics, picture)

    monkeypatch.setattr(fit, "plot_curves", met)
    with pytest.raises(Interrupted) as caught:
        train(compose(*SMALL), tmp_path)
    assert caught.value.code == 128 + number
    assert caught.value.finished
    folder = RunFolder(only(tmp_path.glob("*/*/seed0")))
    assert folder.read_record().status == "finished"
    assert folder.curves.exists()
    assert not (folder.path / LOCK).exists()


@pytest.mark.parametrize("start", [train, finished_result])
def test_what_a_kill_at_the_end_left_out_is_made_by_the_next_start(start, tmp_path, monkeypatch):
    monkeypatch.setattr("lnrnn.runs.finished.has_the_same_data", lambda record, config: True)
    experiment = compose(*SMALL)
    folder, record = train(experiment, tmp_path)
    folder.curves.unlink()
    dead = {"host": socket.gethostname(), "pid": 2**22 + 1}
    (folder.path / LOCK).write_text(json.dumps(dead))
    assert start(experiment, tmp_path) == (folder, record)
    assert folder.curves.read_bytes().startswith(b"\x89PNG")
    assert not (folder.path / LOCK).exists()
    with locked(folder.path):  # one that lives keeps its lock
        start(experiment, tmp_path)
        assert (folder.path / LOCK).exists()


def test_half_a_picture_is_never_left(tmp_path, monkeypatch):
    folder, _ = train(compose(*SMALL), tmp_path)
    before = folder.curves.read_bytes()

    def torn(figure, file, **settings):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", torn)
    with pytest.raises(OSError, match="no space left"):
        fit.plot_curves(folder.metrics, folder.curves)
    assert folder.curves.read_bytes() == before
    assert not list(folder.path.glob(".*.tmp"))


def test_records_that_were_garbled_are_an_error_and_not_a_traceback(tmp_path):
    folder, _ = train(compose(*SMALL), tmp_path)
    folder.curves.unlink()
    folder.metrics.write_bytes(b"\x00garbled" + folder.metrics.read_bytes()[8:])
    with pytest.raises(
        ConfigurationError, match=r"its curves cannot be drawn again: .*metrics\.jsonl"
    ):
        complete(folder)


@pytest.mark.parametrize(
    "text", ["a: 1", "trainer: x", "trainer: null", "trainer: [1]", "data: {}"]
)
def test_a_configuration_of_the_wrong_shape_is_an_error_of_evaluate(text, tmp_path):
    folder, _ = train(compose(*SMALL), tmp_path)
    folder.config.write_text(text)
    with pytest.raises(ConfigurationError):
        evaluate(folder.path)
