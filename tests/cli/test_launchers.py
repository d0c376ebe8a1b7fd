"""Sweeps whose runs a launcher makes in other processes, from a pickled call."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest
from hydra.core.config_store import ConfigStore
from same_runs import assert_same_run

from lnrnn.cli import train as command
from lnrnn.config.compose import compose_experiment
from lnrnn.config.errors import ConfigurationError
from lnrnn.training import RunFolder, folder_of

LAUNCHER = ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10")
SHORT = (
    *("model.hidden_size=8", "trainer.max_steps=6", "trainer.limit_val_batches=2"),
    *("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"),
)


def sweep(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Call the command in a folder, which may reach nothing outside of this machine."""
    place.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "lnrnn", "train", "-m", *words, *SHORT],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def folders(place: Path) -> list[Path]:
    return sorted(path.parent.relative_to(place) for path in place.glob("runs/*/*/*/run.json"))


def test_jobs_of_a_launcher_make_the_runs_of_this_process(tmp_path):
    elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
    done = sweep(elsewhere, "model=rnn,gru_ln", *LAUNCHER)
    assert done.returncode == 0, done.stderr
    done = sweep(here, "model=rnn,gru_ln")
    assert done.returncode == 0, done.stderr
    assert len(folders(here)) == 2
    assert folders(elsewhere) == folders(here)
    for name in folders(here):
        assert_same_run(RunFolder(elsewhere / name), RunFolder(here / name))
    assert [*elsewhere.glob("runs/.multirun/.submitit/*/*_result.pkl")]  # and they made it


def test_errors_in_jobs_are_told_with_their_exit_code(tmp_path):
    done = sweep(tmp_path, "optimizer.lr=1e30,1e-3,1e31", *LAUNCHER)
    assert done.returncode == 1, done.stderr
    assert "Error executing job with overrides: ['optimizer.lr=1e+30'" in done.stderr
    assert "2 runs of the sweep failed; the others were made" in done.stderr
    for rate in ("1e30", "1e31"):
        name = f"rnn_ln-hidden_size-8-limit_val_batches-2-lr-{rate}-max_steps-6"
        assert f"runs/japanese_vowels/{name}/seed0: NonFiniteError: the loss" in done.stderr
    status = [RunFolder(tmp_path / name).read_record().status for name in folders(tmp_path)]
    assert (status.count("failed"), status.count("finished")) == (2, 1)


def test_a_pickled_call_finds_what_belongs_to_the_command():
    """What is copied with it would be other lists, in which nobody looks for errors."""
    task = command.train_each.__wrapped__
    copied = pickle.loads(cloudpickle.dumps(task))
    named = {name: copied.__globals__[name] for name in copied.__code__.co_names}
    assert named == {"train_job": command.train_job}
    assert named["train_job"].__globals__["failures"] is command.failures


def test_a_launcher_names_no_folder():
    experiment = compose_experiment([*SHORT, "hydra/launcher=basic", "hydra.job.num=3"])
    assert folder_of(experiment) == folder_of(compose_experiment(SHORT))


@pytest.mark.parametrize("name", ["submitit_local", "submitit_slurm"])
def test_a_launcher_that_is_not_installed_is_named_with_its_extra(name, monkeypatch):
    compose_experiment([])  # plugins are looked for once
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    monkeypatch.delitem(launchers, f"{name}.yaml")
    with pytest.raises(ConfigurationError, match=r"pip install 'lnrnn\[cluster\]'"):
        compose_experiment([f"hydra/launcher={name}"])
