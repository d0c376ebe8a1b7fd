import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from experiments import compose

from lnrnn.runs import lock
from lnrnn.runs.lock import LOCK, locked
from lnrnn.training import ConfigurationError, train

SHORT = ("model.hidden_size=8", "trainer.max_epochs=1")


def owner(tmp_path) -> dict:
    return json.loads((tmp_path / LOCK).read_text())


def leave(tmp_path, **changes) -> None:
    """Leave the lock of this very process behind, with some entries changed."""
    with locked(tmp_path):
        mine = owner(tmp_path)
    (tmp_path / LOCK).write_text(json.dumps({**mine, **changes}))


def test_a_second_owner_is_refused_while_the_first_lives(tmp_path):
    with locked(tmp_path):
        assert owner(tmp_path)["pid"] == os.getpid()
        assert owner(tmp_path)["host"] == socket.gethostname()
        with pytest.raises(ConfigurationError, match=f"process {os.getpid()} on "):
            locked(tmp_path).__enter__()
        assert owner(tmp_path)["pid"] == os.getpid()
    assert not (tmp_path / LOCK).exists()


def test_a_second_start_of_a_run_is_refused(tmp_path):
    experiment = compose(*SHORT)
    folder, _ = train(experiment, tmp_path)
    folder.update_record(status="interrupted")
    before = folder.metrics.read_bytes()
    with locked(folder.path), pytest.raises(ConfigurationError, match="is in use"):
        train(experiment, tmp_path)
    assert folder.metrics.read_bytes() == before


def test_what_a_killed_process_left_is_taken_over(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    leave(tmp_path, pid=process.pid)
    process.kill()
    with locked(tmp_path):  # it has ended and is not collected yet, or has another start
        assert owner(tmp_path)["pid"] == os.getpid()
    process.wait()
    leave(tmp_path, pid=process.pid)
    with locked(tmp_path):
        assert owner(tmp_path)["pid"] == os.getpid()


def test_a_process_id_that_another_process_has_now_is_no_owner(tmp_path):
    leave(tmp_path, started="another boot/1")
    with locked(tmp_path):
        assert owner(tmp_path)["started"] != "another boot/1"


HERE = json.dumps({"host": socket.gethostname(), "pid": "x"})


@pytest.mark.parametrize("text", ["", "{", "[]", HERE])
def test_a_lock_that_was_not_wholly_written_is_taken_over(text, tmp_path):
    (tmp_path / LOCK).write_text(text)
    with locked(tmp_path):
        assert owner(tmp_path)["pid"] == os.getpid()


def interrupted(*_, **__) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["flock", "fsync", "dumps"])
def test_ctrl_c_while_it_is_taken_leaves_no_lock(name, tmp_path, monkeypatch):
    """As soon as there is a file, once it is written, and as it is about to be."""
    module = {"flock": fcntl, "fsync": os, "dumps": json}[name]
    with monkeypatch.context() as patch:
        patch.setattr(module, name, interrupted if name != "flock" else once(interrupted))
        with pytest.raises(KeyboardInterrupt), locked(tmp_path / "new"):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["flock", "unlink", "rmdir"])
def test_ctrl_c_while_it_is_left_leaves_no_lock(name, tmp_path, monkeypatch):
    module = {"flock": fcntl, "unlink": Path, "rmdir": os}[name]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), locked(tmp_path / "new"):
        patch.setattr(module, name, first_interrupted(getattr(module, name)))
    assert list(tmp_path.iterdir()) == []


def first_interrupted(function):
    """Return ``function``, but for its first call."""
    calls = iter([interrupted])
    return lambda *arguments, **named: next(calls, function)(*arguments, **named)


def once(function):
    """Return a function that is ``function`` the first time it is called, and then nothing."""
    calls = iter([function])
    return lambda *arguments: next(calls, lambda *_: None)(*arguments)


def test_ctrl_c_leaves_another_processs_lock(tmp_path, monkeypatch):
    leave(tmp_path, pid=1)
    before = (tmp_path / LOCK).read_text()
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", once(interrupted))
        with pytest.raises(KeyboardInterrupt), locked(tmp_path):
            pass
    assert (tmp_path / LOCK).read_text() == before


def test_another_host_may_live(tmp_path):
    leave(tmp_path, host="elsewhere")
    with pytest.raises(ConfigurationError, match=f"if not, remove .*{LOCK}"):
        locked(tmp_path).__enter__()


def test_a_machine_of_the_same_name_is_another_and_older_locks_are_read(tmp_path, monkeypatch):
    """Its dead process may live, and the one of this machine with its id is no owner."""
    leave(tmp_path, pid=2**22 + 1, machine="of another")
    with pytest.raises(ConfigurationError, match="cannot be seen from here"):
        locked(tmp_path).__enter__()
    leave_older(tmp_path, pid=2**22 + 1)
    with locked(tmp_path):
        assert owner(tmp_path)["pid"] == os.getpid()
    (tmp_path / LOCK).unlink(missing_ok=True)
    leave(tmp_path, pid=2**22 + 1, machine="of another")
    monkeypatch.setattr(lock, "MACHINE", tmp_path / "none")  # who has no id goes by the name alone
    with locked(tmp_path):
        assert owner(tmp_path)["machine"] is None


def leave_older(tmp_path, **changes) -> None:
    """Leave a lock as it was before machines were noted."""
    (tmp_path / LOCK).unlink()
    with locked(tmp_path):
        mine = owner(tmp_path)
    del mine["machine"]
    (tmp_path / LOCK).write_text(json.dumps({**mine, **changes}))


def test_the_systems_id_is_not_shown(tmp_path, monkeypatch):
    (tmp_path / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    monkeypatch.setattr(lock, "MACHINE", tmp_path / "machine-id")
    with locked(tmp_path / "run"):
        text = (tmp_path / "run" / LOCK).read_text()
    assert len(json.loads(text)["machine"]) == 16
    assert "0123456789" not in text


def test_a_requeued_job_takes_its_own_lock_over_on_another_host(tmp_path, monkeypatch):
    leave(tmp_path, host="elsewhere", job="77")
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    with pytest.raises(ConfigurationError, match="is in use"):
        locked(tmp_path).__enter__()
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with locked(tmp_path):
        assert owner(tmp_path)["pid"] == os.getpid()


def test_of_many_that_start_at_once_one_has_the_folder(tmp_path):
    (tmp_path / LOCK).write_text(HERE)  # a stale one, which all find
    script = (
        "import sys, pathlib, time\n"
        "from lnrnn.runs.lock import locked\n"
        "from lnrnn.config.values import ConfigurationError\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "(folder / sys.argv[2]).touch()\n"
        "while len(list(folder.glob('ready*'))) < 3: time.sleep(0.001)\n"
        "try:\n"
        "    with locked(folder): print('mine', flush=True); time.sleep(2)\n"
        "except ConfigurationError: print('refused')\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), f"ready{index}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(3)
    ]
    said = sorted(process.communicate(timeout=120)[0].strip() for process in processes)
    assert said == ["mine", "refused", "refused"]


def test_a_refused_start_leaves_no_folder(tmp_path):
    with pytest.raises(RuntimeError), locked(tmp_path / "runs" / "a" / "seed0"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_folder_that_may_not_be_made_is_named(tmp_path):
    (tmp_path / "runs").write_text("a file, where a folder should be")
    with pytest.raises(ConfigurationError, match=r"cannot use the folder .*runs"):
        train(compose(*SHORT), tmp_path / "runs")
