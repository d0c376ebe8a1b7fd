"""What fails while a failure is dealt with: the first one is what a person is told of."""

import errno
import os
import signal
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
from experiments import Interruption, compose, interrupt_call, only

from lnrnn.cli import train as train_command
from lnrnn.runs.files import replacing
from lnrnn.runs.reporting import best_effort
from lnrnn.training import CheckpointError, ConfigurationError, Interrupted, RunFolder, train
from lnrnn.training.callbacks import Records
from lnrnn.training.checkpoint_io import CheckpointFiles
from lnrnn.training.loader_failures import explained_loaders

SMALL = (
    *("model=rnn", "model.hidden_size=8", "trainer.max_epochs=2", "checkpoint_every_n_steps=3"),
    *("trainer.limit_val_batches=1", "trainer.limit_test_batches=1"),
)


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    monkeypatch.setattr("lnrnn.training.run.plot_curves", lambda metrics, picture: None)


def folder_in(root: Path) -> RunFolder:
    return RunFolder(only(root.glob("*/*/seed0")))


def record_fails_once_it_is_open(monkeypatch) -> None:
    """Let run.json be written as the run begins, and never again."""
    original, calls = RunFolder.write_record, iter(range(10**6))

    def write(self, record):
        return full() if next(calls) else original(self, record)

    monkeypatch.setattr(RunFolder, "write_record", write)


def test_a_record_that_cannot_be_written_hides_no_failed_save(monkeypatch, tmp_path, capsys):
    def save(self, checkpoint, path, storage_options=None):
        raise CheckpointError("could not save it")

    monkeypatch.setattr(CheckpointFiles, "save_checkpoint", save)
    record_fails_once_it_is_open(monkeypatch)
    with pytest.raises(CheckpointError, match="could not save it"):
        train(compose(*SMALL), tmp_path)
    told = capsys.readouterr().err
    assert "warning: run.json still says that the run goes on: [Errno 28] No space left" in told
    assert not (folder_in(tmp_path).path / "run.lock").exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_record_that_cannot_be_written_changes_no_exit_code(name, monkeypatch, tmp_path, capsys):
    asked = []
    monkeypatch.setattr("lnrnn.training.run.ask_for_requeue", lambda: asked.append(1) or "requeued")
    original = Records.on_train_batch_end

    def end(self, trainer, *arguments):
        original(self, trainer, *arguments)
        if trainer.global_step == 2:
            os.kill(os.getpid(), getattr(signal, name))

    monkeypatch.setattr(Records, "on_train_batch_end", end)
    record_fails_once_it_is_open(monkeypatch)
    with pytest.raises(Interrupted) as caught:
        train(compose(*SMALL), tmp_path)
    assert caught.value.code == 128 + getattr(signal, name)
    assert bool(asked) is (name == "SIGUSR1")
    assert "run.json still says" in capsys.readouterr().err
    assert folder_in(tmp_path).newest_checkpoint() is not None


def test_a_diagnosis_that_fails_leaves_the_rest_of_the_record(monkeypatch, tmp_path, capsys):
    interrupt_call(monkeypatch, "training_step", 2)
    monkeypatch.setattr("lnrnn.training.run.diagnose", full)
    with pytest.raises(Interruption):
        train(compose(*SMALL, "monitor=true"), tmp_path)
    record = folder_in(tmp_path).read_record()
    assert (record.status, record.diagnosis) == ("failed", None)
    assert record.error == "Interruption: training_step 2"
    assert "run.json lacks the diagnosis" in capsys.readouterr().err


def test_what_lightning_tidies_up_hides_no_failure(monkeypatch, tmp_path):
    """Its loop's teardown asks a loader that never began, for want of /dev/shm, for its length."""
    monkeypatch.setattr("lnrnn.data.loader.Loader.__iter__", full)
    with pytest.raises(OSError, match="No space left"):
        train(compose(*SMALL), tmp_path)
    assert folder_in(tmp_path).read_record().error == "OSError: [Errno 28] No space left on device"


def test_no_room_for_loader_processes_is_an_error_with_a_way_out(monkeypatch, tmp_path):
    """Such as in a container that has no /dev/shm."""
    monkeypatch.setattr("torch.utils.data.DataLoader.__iter__", full)
    with pytest.raises(ConfigurationError, match=r"can be started.*data\.num_workers=0 needs none"):
        train(compose(*SMALL, "data.num_workers=1"), tmp_path)
    assert folder_in(tmp_path).read_record().status == "failed"


def test_a_loader_process_that_memory_ran_out_for_is_an_error_with_a_way_out(monkeypatch, tmp_path):
    """As the kernel ends it: with SIGKILL, once it has begun."""
    original = Records.on_train_batch_end

    def end(self, trainer, *arguments):
        original(self, trainer, *arguments)
        if trainer.global_step == 4:
            workers = trainer.fit_loop._data_fetcher.combined_loader._iterator.iterators[0]._workers
            os.kill(workers[0].pid, signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(Records, "on_train_batch_end", end)
        words = r"a loader process failed \(.*data\.num_workers=0"
        with pytest.raises(ConfigurationError, match=words):
            train(compose(*SMALL, "data.num_workers=1"), tmp_path)
    assert folder_in(tmp_path).read_record().status == "failed"
    _, record = train(compose(*SMALL, "data.num_workers=0"), tmp_path)
    assert [entry["checkpoint"] for entry in record.resumed] == ["step-00000003.ckpt"]


def test_an_error_of_a_data_set_in_a_loader_process_is_its_own():
    text = "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback: sizes differ"
    for error in (RuntimeError(text), EOFError("tracking server"), ConnectionError("refused")):
        with pytest.raises(type(error), match=str(error)), explained_loaders(2):
            raise error


def test_a_batch_that_no_shared_memory_is_left_for_ends_the_run(monkeypatch, tmp_path):
    """A full /dev/shm, met by the thread of a loader process that hands batches over."""
    main, dumps = os.getpid(), ForkingPickler.dumps

    def dump(value, protocol=None):
        return dumps(value, protocol) if os.getpid() == main else full()

    monkeypatch.setattr(ForkingPickler, "dumps", dump)
    with pytest.raises(ConfigurationError, match=r"a loader process failed .*exited"):
        train(compose(*SMALL, "data.num_workers=1"), tmp_path)


@pytest.mark.parametrize("what", ["metrics.jsonl", "config.yaml", "run.json"])
def test_a_full_disk_is_an_error_that_names_the_file(what, monkeypatch, tmp_path):
    """Whichever of the run's files meets it."""
    path_open, builtin_open = Path.open, open

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            full()

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

    def filling(opened):
        def open_full(path, mode="r", *args, **kwargs):
            file = opened(path, mode, *args, **kwargs)
            return Full(file) if what in str(path) and set("wax") & set(mode) else file

        return open_full

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "open", filling(path_open))
    monkeypatch.setattr("builtins.open", filling(builtin_open))
    monkeypatch.setattr(train_command, "check_command_line", lambda: None)
    with pytest.raises(OSError, match=rf"No space left on device: '.*{what}'"):
        train(compose(*SMALL), tmp_path)


def test_what_cleans_up_a_write_that_failed_hides_it_not(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise PermissionError("refused")

    def fail():
        monkeypatch.setattr(Path, "unlink", refuse)
        full()

    with pytest.raises(OSError, match="No space left"), replacing(tmp_path / "file"):
        fail()


def test_a_failure_that_follows_is_a_line(capsys):
    with best_effort("the lock stays"):
        full()
    assert capsys.readouterr().err.startswith("warning: the lock stays: [Errno 28]")
    with pytest.raises(KeyboardInterrupt), best_effort("it is not for the person to wait"):
        raise KeyboardInterrupt
