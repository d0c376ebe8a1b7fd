"""The scripts themselves, with files of somebody else's in their folder of configurations."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from experiments import compose as compose_ours

from lnrnn.cli import train as train_command
from lnrnn.study.plan import compared_runs, result_folder
from lnrnn.study.settings import read_settings
from lnrnn.training import ConfigurationError, train

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("model.hidden_size=8", "trainer.max_steps=2", "trainer.enable_progress_bar=false")


@pytest.fixture
def call(conf, package):
    """Run one of the scripts of a copy of the repository, which has the copied configurations."""
    for folder in ("scripts", "lnrnn"):
        shutil.copytree(ROOT / folder, conf.parent / folder)

    def call(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, f"scripts/{script}", *arguments],
            cwd=conf.parent,
            env={**os.environ, "PYTHONPATH": f"{conf.parent}:{conf.parent / 'packages'}"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return call


def test_train_refuses_files_that_act_and_takes_their_twins(call, conf, package, canary):
    """``loud`` touches the canary when it is imported, which Hydra would do first of all."""
    callbacks = {"callbacks": {"bait": {"_target_": "loud.touch"}}}
    hostile = conf / "experiment" / "hostile.yaml"
    hostile.write_text("# @package _global_\n" + yaml.safe_dump({"hydra": callbacks}))
    answer = call("train.py", "experiment=hostile", *SMALL)
    assert answer.returncode != 0
    assert "error: hydra.callbacks is refused" in answer.stderr
    assert "Traceback" not in answer.stderr
    twin = conf / "experiment" / "twin.yaml"
    model = {"_target_": f"{package}.Encoder"}
    twin.write_text(
        "# @package _global_\n" + yaml.safe_dump({"hydra": {"verbose": False}, "model": model})
    )
    answer = call("train.py", "experiment=twin", f"trust=[{package}]", *SMALL)
    assert answer.returncode == 0, answer.stderr
    (run,) = (path.parent for path in conf.parent.glob("runs/*/*/seed0/run.json"))
    refused = call("evaluate.py", f"run={run}")
    assert f"'trust=[{package}]'" in refused.stderr
    assert "Traceback" not in refused.stderr
    answer = call("evaluate.py", f"run={run}", f"trust=[{package}]")
    assert answer.returncode == 0, answer.stderr


def test_evaluate_refuses_a_folder_that_acts(call, baits, conf, canary):
    folder, _ = train(compose_ours(*SMALL), conf.parent / "runs")
    config = yaml.safe_load(folder.config.read_text())
    config["model"]["norm"] = baits["pathlib.Path.write_text"]
    folder.config.write_text(yaml.safe_dump(config))
    answer = call("evaluate.py", f"run={folder.path}")
    assert answer.returncode != 0
    assert "may only name lnrnn's" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ["--config-dir", "own"],
        ["-cd", "own"],
        ["--config-path", "own"],
        ["--config-name", "own"],
        ["--experimental-rerun", "own.pickle"],  # which unpickles
        ["--experimental-r=own.pickle"],
    ],
)
def test_train_refuses_flags_by_which_hydra_reads_what_was_not_checked(flags, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", *flags])
    with pytest.raises(SystemExit, match=f"error: --{flags[0][2:8]}|error: --config-dir"):
        train_command.check_command_line()


def test_train_checks_what_is_typed_for_hydra(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "+hydra.callbacks.a._target_=os.system"])
    with pytest.raises(SystemExit, match=r"error: hydra\.callbacks is refused"):
        train_command.check_command_line()
    monkeypatch.setattr(sys, "argv", ["train.py", "hydra.verbose=true", "trust=[own_models]"])
    train_command.check_command_line()
    assert sys.argv == ["train.py", "hydra.verbose=true", "++trust=[own_models]"]


@pytest.mark.parametrize(
    "text", ["trust=[os]", "++trust=[os]", "hydra.searchpath=[pkg://loud]", "hydra/launcher=a"]
)
def test_an_arm_of_a_comparison_decides_about_models_only(text):
    with pytest.raises(ConfigurationError, match="only the command line decides what is trusted"):
        read_settings([f"arms=[rnn,'rnn {text}']", "seeds=1"])


def test_a_comparison_hands_on_what_it_is_told_to_trust(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = read_settings(["arms=[rnn,rnn_ln]", "seeds=1", "trust=[own_models]"])
    runs = compared_runs(settings, {})
    assert all(list(run.config.trust) == ["own_models"] for (run,) in runs.values())
    folder = result_folder(settings, runs["rnn"][0])
    assert folder == Path("runs/japanese_vowels/compare/rnn-vs-rnn_ln")
