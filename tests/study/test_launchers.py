"""Launchers: what may be asked of them, what SLURM is told, and who can be a worker."""

import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import submitit

from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.interruption import Interrupted
from lnrnn.study import submitit_array
from lnrnn.study.launched import MARK, Ending, LaunchedWorker
from lnrnn.study.launcher_options import RayOptions, SubmititOptions
from lnrnn.study.ray_tasks import RayTasks
from lnrnn.study.settings import read_settings, without_launcher
from lnrnn.study.submitit_array import SubmititArray

SLURM = ("launcher=submitit", "launcher.workers=8")
# Stands in for sbatch: keeps the script, and answers as SLURM does.
SBATCH = """#!/bin/sh
cat "$1" > "{place}/script"
echo "Submitted batch job 4711"
"""


def test_options_are_the_launchers_and_jobs_is_one():
    settings = read_settings(
        [*SLURM, "launcher.timeout_min=90", "launcher.partition=17", "seeds=3"]
    )
    options = settings.launcher
    assert isinstance(options, SubmititOptions)
    assert (options.workers, options.timeout_min, options.partition) == (8, 90, "17")
    assert (settings.jobs, settings.seeds, settings.passed) == (1, 3, ())
    assert without_launcher(settings) == ["seeds=3"]
    assert read_settings([*SLURM, "jobs=2"]).jobs == 2
    assert read_settings([]).launcher is None
    assert read_settings(["launcher=ray", "launcher.address=head:6379"]).launcher == RayOptions(
        4, "head:6379", 1, 0
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["launcher.workers=3"], "no effect without a launcher"),
        (["launcher='ray'"], "launcher must be submitit or ray, without quotes"),
        (["launcher={workers:3}"], "launcher must be submitit or ray"),
        (["launcher=slurm"], "choices for launcher are: ray, submitit"),
        ([*SLURM, "launcher.tiemout_min=3"], "no key launcher.tiemout_min.*timeout_min"),
        ([*SLURM, "+launcher.nodes=3"], "no key launcher.nodes"),
        (["launcher=ray", "launcher.wait=false"], "no key launcher.wait"),
        ([*SLURM, "launcher.workers=0"], "workers must be a whole number of at least 1, got 0"),
        ([*SLURM, "launcher.timeout_min=1"], "timeout_min must be a whole number of at least 5"),
        ([*SLURM, "launcher.cluster=lsf"], "cluster must be slurm or local"),
        ([*SLURM, "launcher.mem_gb=-1"], "mem_gb must be null or a positive number"),
        ([*SLURM, "launcher.setup=module"], "setup must be a list of shell commands"),
        ([*SLURM, "launcher.sbatch={a:[1]}"], "sbatch must be null or options of sbatch"),
        ([*SLURM, "launcher.wait=1"], "wait must be true or false"),
        (["launcher=ray", "launcher.address=null"], "address must be auto or"),
        ([*SLURM, "worker=true"], "makes this process one"),
        ([*SLURM, "train=false"], "a launcher's workers train"),
    ],
)
def test_what_does_not_fit_is_refused(words, reason):
    with pytest.raises(ConfigurationError, match=reason):
        read_settings(words)


def test_slurm_gets_one_array_and_the_command_leaves(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("srun", "sbatch"):
        (tools / name).write_text(SBATCH.format(place=tmp_path))
        (tools / name).chmod(0o755)
    options = (
        *("launcher.timeout_min=90", "launcher.partition=gpu", "launcher.cpus=3"),
        *("launcher.wait=false", "launcher.sbatch={constraint:a100}", "launcher.mem_gb=4"),
    )
    words = ("arms=[rnn,rnn_ln]", "seeds=2", "model.hidden_size=8")
    done = subprocess.run(
        [sys.executable, "-m", "lnrnn", "compare", *words, *SLURM, *options],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    later = shlex.join(["lnrnn", "compare", *words, "train=false"])
    assert "8 jobs of slurm: 4711_0 to 4711_7" in done.stdout
    assert f"the result, once they have ended: {later}\n" in done.stdout
    script = (tmp_path / "script").read_text()
    for line in (
        *("--array=0-7%8", "--time=90", "--partition=gpu", "--cpus-per-task=3", "--nodes=1"),
        *("--signal=USR2@120", "--requeue", "--constraint=a100", "--ntasks-per-node=1"),
    ):
        assert f"#SBATCH {line}\n" in script
    assert "--mem=4" in script
    (logs,) = (tmp_path / "runs" / ".workers").glob("*/*")
    assert len(list(logs.glob("*_submitted.pkl"))) == 8
    assert logs.stat().st_mode & 0o077 == 0
    assert not list(tmp_path.glob("runs/*/*/seed0"))  # nothing was trained here


def test_what_is_false_is_no_option_of_sbatch():
    options = read_settings([*SLURM, "launcher.sbatch={requeue:false,exclusive:true}"]).launcher
    assert isinstance(options, SubmititOptions)
    assert submitit_array._parameters(options)["slurm_additional_parameters"] == {"exclusive": True}


def here(workers: int) -> SubmititOptions:
    options = read_settings([*SLURM, "launcher.cluster=local"]).launcher
    assert isinstance(options, SubmititOptions)
    return replace(options, workers=workers)


def test_jobs_import_nothing_from_the_folder_of_the_command(tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("raise SystemExit('not to be imported')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    jobs = SubmititArray(worker(tmp_path, version="9.9"), here(1), tmp_path / "logs")
    (ending,) = jobs.endings()
    assert "was launched by 9.9" in str(ending.problem)
    assert "PYTHONSAFEPATH" not in os.environ


def test_a_signal_while_jobs_are_submitted_is_told_once_all_are_known(tmp_path, monkeypatch):
    original = submitit.LocalExecutor._submit_command

    def interrupted(*given):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*given)

    def stop(number, frame):
        raise AssertionError("in the middle")

    monkeypatch.setattr(submitit.LocalExecutor, "_submit_command", interrupted)
    before = signal.signal(signal.SIGTERM, stop)
    try:
        jobs = SubmititArray(worker(tmp_path, version="9.9"), here(2), tmp_path / "logs")
        with pytest.raises(Interrupted):
            next(jobs.endings())
        assert jobs.leave() == "the workers have saved their runs and ended"
    finally:
        assert signal.signal(signal.SIGTERM, before) is stop
    assert len(jobs.jobs) == 2


def test_of_jobs_that_have_ended_no_process_is_told_to_stop(tmp_path, monkeypatch):
    jobs = SubmititArray(worker(tmp_path, version="9.9"), here(1), tmp_path / "logs")
    assert len(list(jobs.endings())) == 1
    told = []
    monkeypatch.setattr(os, "kill", lambda *given: told.append(given))
    jobs.leave()
    assert told == []


def worker(place: Path, **changes) -> LaunchedWorker:
    logs = place / "logs"
    logs.mkdir()
    (logs / MARK).write_text("a mark")
    made = LaunchedWorker(("worker=true",), place, logs, "a mark", 1)
    vars(made).update(changes)
    return made


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"logs": Path("/nowhere")}, "does not see /nowhere: all workers need the folder"),
        ({"mark": "another"}, "does not see"),  # a folder of that name on a disk of its own
        ({"version": "9.9"}, "was launched by 9.9"),
    ],
)
def test_a_machine_without_the_folder_or_the_version_is_no_worker(changes, reason, tmp_path):
    ending = worker(tmp_path, **changes)(3)
    assert ending.number == 3
    assert reason in str(ending.problem)
    assert not list(tmp_path.rglob("*.log"))


ERRORS = """error: rnn, seed 0: no room
error: 1 run failed; the same command tries again
"""
SEVERAL = """error: no learning rate is chosen:
  rnn lr=0.1, seed 0: no room
  rnn lr=0.2, seed 0: no room
"""


@pytest.mark.parametrize(
    ("code", "printed", "problem"),
    [
        (0, ERRORS, None),
        (1, ERRORS, None),
        (2, ERRORS, "exit code 2; rnn, seed 0: no room; its output is in "),
        (2, SEVERAL, "chosen: rnn lr=0.1, seed 0: no room rnn lr=0.2, seed 0: no room; its"),
    ],
)
def test_a_worker_that_fails_is_told_with_its_first_error(
    code, printed, problem, tmp_path, monkeypatch
):
    text = f"import sys; print({printed!r}); sys.exit({code})"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text(f"#!/bin/sh\nexec python3 -c {shlex.quote(text)}\n")
    (tmp_path / "python").chmod(0o755)
    found = worker(tmp_path)(0).problem
    assert found is None if problem is None else problem in str(found)


def test_a_job_that_was_killed_is_told_in_words(tmp_path):
    class Killed(LaunchedWorker):
        def __call__(self, number: int) -> Ending:
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("it lives")

    made = worker(tmp_path)
    killed = Killed(made.words, made.place, made.logs, made.mark, made.threads)
    (ending,) = SubmititArray(killed, here(1), tmp_path / "logs").endings()
    assert ending.host.startswith("job ")
    assert str(ending.problem).startswith("its job ended without an answer, as one that is killed")


def test_sigterm_goes_to_the_worker_and_submitits_warning_does_not(tmp_path, monkeypatch):
    """The job handles both; its worker is only ever told to save and leave."""
    text = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "os.kill(os.getpid(), signal.SIGUSR2)\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text(f"#!/bin/sh\nexec python3 -c {shlex.quote(text)}\n")
    (tmp_path / "python").chmod(0o755)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR2)
    assert "exit code 143" in str(worker(tmp_path)(0).problem)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR2)) == before


def test_ray_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'lnrnn\[ray\]'"):
        RayTasks(worker(tmp_path), RayOptions(1, "auto", 1, 0))


def test_submitit_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    options = read_settings(SLURM).launcher
    assert isinstance(options, SubmititOptions)
    with pytest.raises(ConfigurationError, match=r"pip install 'lnrnn\[submitit\]'"):
        SubmititArray(worker(tmp_path), options, tmp_path)
