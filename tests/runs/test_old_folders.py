"""Folders written before the package had its present rooms: they are read, tested and resumed."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from experiments import QUIET
from omegaconf import OmegaConf

from lnrnn.comparison import read_run
from lnrnn.runs.added_keys import added_keys
from lnrnn.runs.folder import check_configuration
from lnrnn.training import (
    ConfigurationError,
    RunFolder,
    compose_experiment,
    evaluate,
    folder_of,
    train,
)
from lnrnn.training.build import contract_of
from lnrnn.training.resume import check_contract

WRITTEN = Path(__file__).parent / "written_by_0_1_0"  # at commit 48f9594
FINISHED = "gru_lncell-hidden_size-4-max_epochs-2/seed0"
NUM_CLASSES = {"table_files": ["data.num_classes=2"], "text_files": []}
INTERRUPTED = "rnn_ln-hidden_size-4-max_epochs-40/seed0"


@pytest.fixture
def root(tmp_path) -> Path:
    shutil.copytree(WRITTEN, tmp_path / "runs" / "japanese_vowels")
    return tmp_path / "runs"


def experiment_of(folder: Path):
    """Compose what the folder's record says was typed."""
    typed = json.loads((folder / "run.json").read_text())["overrides"]
    return compose_experiment([*typed, *QUIET])


@pytest.mark.parametrize("name", [FINISHED, INTERRUPTED])
def test_the_same_command_finds_the_folder(root, name):
    folder = root / "japanese_vowels" / name
    assert folder_of(experiment_of(folder), root).path == folder


def test_a_finished_run_is_tested_again_with_the_same_result(root):
    evaluation = evaluate(root / "japanese_vowels" / FINISHED)
    assert evaluation.same_data
    assert evaluation.recorded.keys() == {"test/loss", "test/accuracy"} < evaluation.metrics.keys()
    # Other CPUs round differently: one of 370 sequences may fall to another class.
    assert evaluation.metrics["test/loss"] == pytest.approx(evaluation.recorded["test/loss"], 1e-4)
    accuracy = pytest.approx(evaluation.recorded["test/accuracy"], abs=0.003)
    assert evaluation.metrics["test/accuracy"] == accuracy


def test_a_finished_run_is_not_repeated(root):
    folder = root / "japanese_vowels" / FINISHED
    before = (folder / "run.json").read_bytes()
    _, record = train(experiment_of(folder), root)
    assert record.status == "finished"
    assert (folder / "run.json").read_bytes() == before


@pytest.mark.filterwarnings("ignore:the run resumes with something else")
def test_an_interrupted_run_is_resumed_to_its_end(root, tmp_path):
    folder = root / "japanese_vowels" / INTERRUPTED
    experiment = experiment_of(folder)
    _, record = train(experiment, root)
    assert [entry["checkpoint"] for entry in record.resumed] == ["step-00000021.ckpt"]
    assert (record.status, record.steps) == ("finished", 280)
    whole, anew = train(experiment, tmp_path / "anew")
    assert record.metrics["test/accuracy"] == pytest.approx(anew.metrics["test/accuracy"], abs=0.1)
    before = (WRITTEN / INTERRUPTED / "metrics.jsonl").read_bytes()
    assert (folder / "metrics.jsonl").read_bytes().startswith(before)
    assert whole.newest_checkpoint() is not None


def test_a_comparison_reads_them():
    finished, interrupted = (read_run(WRITTEN / name) for name in (FINISHED, INTERRUPTED))
    assert finished.test_value == finished.metrics["test/accuracy"]
    assert finished.diagnosis
    assert interrupted.test_value is None
    assert not interrupted.diverged
    assert RunFolder(WRITTEN / INTERRUPTED).read_record().signal == "SIGTERM"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("table_files", ["data.files=a.csv", "data.num_classes=2"]),
        ("text_files", ["data.files=a.txt"]),
    ],
)
def test_a_folder_of_other_data_lacks_what_was_added_since(name, words, tmp_path):
    """Its configuration and its checkpoints have the keys that there were, and no others."""
    asked = compose_experiment([f"data={name}", *words]).config
    then = compose_experiment([f"data={name}", *words]).config
    added = added_keys(f"lnrnn.data.{name}")
    OmegaConf.set_struct(then, False)
    for key in added:
        group, _, leaf = key.rpartition(".")
        del (OmegaConf.select(then, group) if group else then)[leaf]
    folder = RunFolder(tmp_path)
    folder.config.write_text(OmegaConf.to_yaml(then))
    check_configuration(folder, asked)
    source = SimpleNamespace(fingerprint="0")
    checkpoint = {"contract": contract_of(then, source)}
    check_contract(checkpoint, contract_of(asked, source), tmp_path)
    asked.data.encoding = "latin-1"
    with pytest.raises(ConfigurationError, match="another configuration"):
        check_configuration(folder, asked)
    with pytest.raises(ConfigurationError, match=r"data\.encoding: None in the checkpoint"):
        check_contract(checkpoint, contract_of(asked, source), tmp_path)


def test_what_was_added_has_the_values_of_todays_files():
    for name in ("table_files", "text_files"):
        config = compose_experiment([f"data={name}", "data.files=a", *NUM_CLASSES[name]]).config
        for key, value in added_keys(f"lnrnn.data.{name}").items():
            assert OmegaConf.select(config, key, throw_on_missing=True) == value, key
