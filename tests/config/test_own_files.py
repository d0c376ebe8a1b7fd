"""Files of the user's own in the folder conf of the current one: found by name, and said."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lnrnn.cli import train as command
from lnrnn.config import CONF
from lnrnn.config.compose import check_overrides, compose_experiment
from lnrnn.config.errors import ConfigurationError
from lnrnn.training import fit, folder_of

SHORT = (
    *("model.hidden_size=8", "trainer.max_steps=2", "trainer.limit_val_batches=1"),
    *("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"),
)


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch) -> Path:
    """An empty folder conf beside the script."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "conf"


def write(own: Path, name: str, text: str) -> None:
    (own / name).parent.mkdir(parents=True, exist_ok=True)
    (own / name).write_text(text)


SMALL = "defaults: [lstm_lncell]\nhidden_size: 8\n"


def test_files_are_found_by_their_names(own):
    write(own, "model/small.yaml", SMALL)
    write(
        own,
        "data/short.yaml",
        "# @package _global_\ndefaults: [mnist1d]\ndata:\n  validation: 0.2\n",
    )
    write(own, "experiment/both.yaml", "# @package _global_\ndefaults:\n- override /model: small\n")
    experiment = compose_experiment(["model=small", "data=short"])
    assert experiment.config.model.hidden_size == 8
    assert experiment.config.data.validation == 0.2
    files = {Path("conf/data/short.yaml"), Path("conf/model/small.yaml")}
    assert set(experiment.own_files) == files
    assert folder_of(experiment).path == Path("runs/short/small/seed0")
    both = compose_experiment(["experiment=both"])
    assert set(both.own_files) == {Path("conf/model/small.yaml"), Path("conf/experiment/both.yaml")}
    assert compose_experiment(["model=rnn"]).own_files == ()
    runs = check_overrides(["model=small,rnn"], multirun=True)
    assert [len(run.own_files) for run in runs] == [1, 0]


def test_a_file_that_is_nowhere_is_named_with_those_that_are(own):
    write(own, "model/small.yaml", SMALL)
    with pytest.raises(
        ConfigurationError, match=r"there is no model=smaller\. Did you mean small\?"
    ):
        compose_experiment(["model=smaller"])


def test_none_takes_the_place_of_ours(own):
    write(own, "model/rnn.yaml", "defaults: [lstm]\n")
    with pytest.raises(ConfigurationError, match=r"conf/model/rnn\.yaml has the name of a file of"):
        compose_experiment(["model=rnn"])
    assert compose_experiment(["model=rnn", "hydra.searchpath=[]"]).config.model.cell == "rnn"
    with pytest.raises(ConfigurationError, match=r"conf/model/rnn\.yaml"):  # it builds on that
        compose_experiment(["model=lstm"])
    assert compose_experiment(["model=transformer"]).own_files == ()


def test_a_copy_of_our_folder_is_no_trouble(own):
    shutil.copytree(CONF, own)
    assert compose_experiment(["model=lstm_ln"]).own_files == ()


def test_ours_by_another_way_is_not_taken_for_the_users(own):
    own.symlink_to(CONF)
    assert compose_experiment(["model=lstm_ln"]).own_files == ()


def test_folders_that_are_named_are_the_only_ones(own):
    write(own, "model/small.yaml", SMALL)
    write(own.parent / "mine", "model/other.yaml", SMALL)
    with pytest.raises(ConfigurationError, match="there is no model=small"):
        compose_experiment(["model=small", "hydra.searchpath=[file://mine]"])
    compose_experiment(["model=other", "hydra.searchpath=[file://mine]"])


def test_another_projects_folder_is_left_alone(own):
    write(own, "server/http.yaml", "port: 80\n")
    write(own, "train.yaml", "lr: 1\n")
    assert compose_experiment(["model=rnn"]).own_files == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("_target_: os.system\ncommand: touch hacked\n", r"os\.system"),
        ("_target_: my_models.Mine\n", r"my_models\.Mine.*trust"),
        ("# @package _global_\ntrust: [os]\n", "trust is .* in a file"),
        ("# @package _global_\nhydra:\n  searchpath: [pkg://loud]\n", "searchpath"),
        ("# @package _global_\nhydra:\n  launcher:\n    _target_: os.system\n", "launcher"),
        ("defaults: [../../x]\n", "."),
    ],
)
def test_what_a_file_may_say_is_what_any_file_may_say(own, text, words):
    write(own, "model/mine.yaml", text)
    with pytest.raises(ConfigurationError, match=words):
        compose_experiment(["model=mine"])
    assert not (own.parent / "hacked").exists()


@pytest.mark.parametrize(
    "words",
    [("model=small",), ("-m", "model=small", "seed=0,1"), ("model=small", "seed=0,1", "-m")],
)
def test_the_command_says_which_files_it_takes(own, words):
    write(own, "model/small.yaml", SMALL)
    command = [sys.executable, "-m", "lnrnn", "train", words[0], *SHORT[1:], *words[1:]]
    if words[0] == "-m":
        command = [sys.executable, "-m", "lnrnn", "train", *words, *SHORT[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "files of your own: conf/model/small.yaml" in done.stdout
    records = sorted(Path().glob("runs/japanese_vowels/small*/seed*/run.json"))
    assert len(records) == (2 if "-m" in words else 1)
    assert not any("searchpath" in text for text in json.loads(records[0].read_text())["overrides"])


def test_nothing_is_said_where_none_is_taken(own, monkeypatch, capsys):
    write(own, "model/small.yaml", SMALL)
    monkeypatch.setattr(sys, "argv", ["lnrnn train", "model=rnn"])
    command.check_command_line()
    assert capsys.readouterr().out == ""
    assert sys.argv == ["lnrnn train", "model=rnn"]


def test_fit_finds_them_beside_what_it_is_given(own):
    from torch.optim import AdamW

    write(own, "model/small.yaml", SMALL)
    run = fit("model=small", *SHORT, optimizer=AdamW, seed=3)
    assert run.record.status == "finished"
    assert run.record.model == "small"
