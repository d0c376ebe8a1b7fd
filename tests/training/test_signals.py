import json
import os
import signal
import subprocess
import sys
import time

import pytest
from experiments import compose, only
from lightning.pytorch import Trainer

from lnrnn.runs.interruption import ask_for_requeue
from lnrnn.training import Interrupted, RunFolder, SequenceTask, train
from lnrnn.training.signals import Signals

SHORT = ("model.hidden_size=8", "trainer.max_epochs=2")


def send_at_step(monkeypatch, number: signal.Signals) -> None:
    original = SequenceTask.training_step

    def step(self, batch, batch_idx):
        if self.global_step == 3:
            os.kill(os.getpid(), number)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(SequenceTask, "training_step", step)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)]
)
def test_a_signal_saves_at_the_steps_end_and_leaves_a_mark(number, code, tmp_path, monkeypatch):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    send_at_step(monkeypatch, number)
    with pytest.raises(Interrupted) as caught:
        train(compose(*SHORT), tmp_path)
    assert caught.value.code == code
    folder = RunFolder(only(tmp_path.glob("*/*/seed0")))
    record = folder.read_record()
    assert record.status == "interrupted"
    assert record.signal == number.name
    assert record.exit_code == code
    assert f"stopped by {number.name} at step 4" in (record.error or "")
    assert (folder.checkpoints / "last").read_text() == "step-00000004.ckpt\n"
    after = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    assert after == before


def test_a_signal_as_the_record_is_written_leaves_a_mark(tmp_path, monkeypatch):
    """As the processes of a comparison meet it, which leave at once where no run listens."""

    def leave(number, frame):
        raise Interrupted(signal.Signals(number), 0)

    def write(folder, record):
        os.kill(os.getpid(), signal.SIGTERM)
        written(folder, record)

    written, before = RunFolder.write_record, signal.signal(signal.SIGTERM, leave)
    monkeypatch.setattr(RunFolder, "write_record", write)
    try:
        with pytest.raises(Interrupted) as caught:
            train(compose(*SHORT), tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (caught.value.code, caught.value.step) == (143, 1)
    record = RunFolder(only(tmp_path.glob("*/*/seed0"))).read_record()
    assert (record.status, record.signal, record.steps) == ("interrupted", "SIGTERM", 1)


def test_a_signal_while_a_trainer_sets_up_is_not_lightnings(tmp_path, monkeypatch):
    """Lightning would listen from before its first stage, and end two processes with 0, unsaved."""
    heard, original = [], Trainer._run_stage

    def run_stage(self):
        if not heard:
            heard.append(signal.getsignal(signal.SIGTERM))
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self)

    monkeypatch.setattr(Trainer, "_run_stage", run_stage)
    with pytest.raises(Interrupted) as caught:
        train(compose(*SHORT), tmp_path)
    assert caught.value.code == 143
    folder = RunFolder(only(tmp_path.glob("*/*/seed0")))
    assert (folder.checkpoints / "last").read_text() == "step-00000001.ckpt\n"
    assert isinstance(heard[0].__self__, Signals)


def test_a_validation_is_left_and_done_from_its_start(tmp_path, monkeypatch):
    seen, original = [], SequenceTask.validation_step

    def step(self, batch, batch_idx):
        seen.append(batch_idx)
        if len(seen) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(SequenceTask, "validation_step", step)
    one_epoch = (*SHORT, "trainer.max_epochs=1")
    with pytest.raises(Interrupted):
        train(compose(*one_epoch), tmp_path)
    folder = RunFolder(only(tmp_path.glob("*/*/seed0")))
    assert (folder.checkpoints / "last").read_text() == "step-00000007-validation.ckpt\n"
    assert seen == [0]
    train(compose(*one_epoch), tmp_path)
    assert seen == [0, 0, 1]
    assert (folder.checkpoints / "last").read_text() == "step-00000007.ckpt\n"


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """A stand-in for SLURM's command that notes its arguments and ends as it is told."""

    def install(code: int):
        script = tmp_path / "bin" / "scontrol"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\necho no >&2\nexit {code}\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(script.parent), prepend=":")
        return tmp_path / "asked"

    return install


def test_a_requeue_is_asked_for(scontrol, monkeypatch):
    asked = scontrol(0)
    assert ask_for_requeue() == "not requeued: this is not a SLURM job"
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert ask_for_requeue() == "requeued"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert ask_for_requeue() == "requeued"
    assert asked.read_text().splitlines() == ["requeue 77", "requeue 70_3"]


def test_a_requeue_that_fails_is_said_and_the_run_is_saved(scontrol, tmp_path, monkeypatch):
    scontrol(1)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    send_at_step(monkeypatch, signal.SIGUSR1)
    with pytest.raises(Interrupted):
        train(compose(*SHORT), tmp_path)
    record = json.loads(only(tmp_path.glob("*/*/seed0/run.json")).read_text())
    assert record["error"].endswith("stopped by SIGUSR1 at step 4, not requeued: no")


def test_without_scontrol(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "not requeued: [Errno 2]" in ask_for_requeue()


def test_of_two_signals_the_last_one_counts(monkeypatch):
    class Alone:
        world_size = 1

    with Signals() as signals:
        assert signals.agreed(Alone()) is None  # pyright: ignore[reportArgumentType]
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.agreed(Alone()) == signal.SIGTERM  # pyright: ignore[reportArgumentType]


def test_a_second_ctrl_c_ends_the_process_at_once():
    script = (
        "import time\n"
        "from lnrnn.training.signals import Signals\n"
        "with Signals() as signals:\n"
        "    print('ready', flush=True)\n"
        "    while not signals._received: time.sleep(0.001)\n"
        "    print('noted', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for word in ("ready", "noted"):
            assert process.stdout.readline().strip() == word
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == -signal.SIGINT  # which a shell shows as 130
        assert time.monotonic() - sent < 10
