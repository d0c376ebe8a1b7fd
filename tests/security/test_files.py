"""A run's folder, a checkpoint and an archive that came from somebody else."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from experiments import compose as compose_ours
from hostile_objects import TARGETS, Bait

from lnrnn.comparison.configuration import read_configuration
from lnrnn.config.compose import compose_config
from lnrnn.data import embedded
from lnrnn.runs.checkpoint_files import manifest_of, newest_good, read_checkpoint
from lnrnn.runs.finished import finished_result
from lnrnn.runs.folder import check_configuration
from lnrnn.training import ConfigurationError, RunFolder, evaluate, folder_of, train
from lnrnn.training.build import build_data
from lnrnn.training.resume import choose_start

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("model.hidden_size=8", "trainer.max_steps=3", "trainer.limit_val_batches=1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run that ended well."""
    folder, _ = train(compose_ours(*SMALL), tmp_path_factory.mktemp("runs"))
    return folder.path


@pytest.fixture
def folder(finished, tmp_path) -> RunFolder:
    """A copy of that run, to be tampered with."""
    shutil.copytree(finished, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def rewrite(folder: RunFolder, **changes: Any) -> None:
    """Change the run's configuration; a dictionary changes the keys in it."""
    config = yaml.safe_load(folder.config.read_text())
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    folder.config.write_text(yaml.safe_dump(config))


def test_the_untouched_run_is_evaluated(folder):
    found = evaluate(folder.path)
    assert found.metrics == found.recorded


@pytest.mark.parametrize("target", TARGETS)
def test_a_bait_in_a_runs_configuration_is_refused(folder, baits, target, canary):
    rewrite(folder, model={"norm": baits[target]})
    with pytest.raises(ConfigurationError, match=re.escape(target) + ".*may only name"):
        evaluate(folder.path)


@pytest.mark.parametrize("key", ["model", "head", "data", "trainer", "optimizer"])
def test_a_bait_in_the_place_of_any_part_is_refused(folder, baits, key, canary):
    config = yaml.safe_load(folder.config.read_text())
    folder.config.write_text(yaml.safe_dump({**config, key: baits["torch.hub.load"]}))
    with pytest.raises(ConfigurationError, match=rf"{key}\._target_.*may only name"):
        evaluate(folder.path)


def test_a_runs_configuration_may_name_what_any_may(folder):
    rewrite(folder, model={"norm": {"_target_": "lnrnn.nn.CellNorm"}})
    with pytest.raises(ConfigurationError, match="belongs to another model"):
        evaluate(folder.path)  # it was built, and compared with the checkpoint


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"norm": {"_target_": "torchmetrics.multimodal.CLIPScore"}}},
        {"trainer": {"callbacks": [{"_target_": "lightning.pytorch.callbacks.ModelCheckpoint"}]}},
        {"trainer": {"profiler": {"_target_": "lightning.pytorch.profilers.SimpleProfiler"}}},
        {"trainer": {"plugins": ["x"]}},
        {"trainer": {"default_root_dir": "/tmp/x"}},
    ],
)
def test_a_runs_configuration_brings_nothing_that_writes_or_loads(folder, changes):
    rewrite(folder, **changes)
    with pytest.raises(ConfigurationError, match=r"may only name lnrnn's|cannot be set"):
        evaluate(folder.path)


def test_an_evaluation_writes_nothing(folder, tmp_path, monkeypatch):
    """A profiler of Lightning's would, which a text chooses."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    rewrite(folder, trainer={"profiler": "pytorch"})
    before = sorted(tmp_path.rglob("*"))
    evaluate(folder.path)
    assert sorted(tmp_path.rglob("*")) == before


SECRET = "of the environment"  # what must be nowhere


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:LNRNN_SECRET}",
        "a ${oc.env:LNRNN_SECRET,x} b",
        "${oc.decode:'${oc.env:LNRNN_SECRET}'}",
        "${oc.${data.word}:LNRNN_SECRET}",
        "\\${oc.env:LNRNN_SECRET}",
    ],
)
def test_a_runs_configuration_reads_no_environment(folder, value, monkeypatch):
    """Whoever reads it: not in what is said, and not in what is written."""
    monkeypatch.setenv("LNRNN_SECRET", SECRET)
    rewrite(folder, data={"word": "env"}, trainer={"limit_val_batches": value})
    experiment = compose_ours(*SMALL)
    for act in (
        lambda: evaluate(folder.path),
        lambda: check_configuration(folder, experiment.config),
        lambda: folder.read_config(),
    ):
        with pytest.raises(ConfigurationError, match="reference") as refusal:
            act()
        assert SECRET not in str(refusal.value)
    table = read_configuration(folder.path)
    assert table["trainer.limit_val_batches"] == value
    assert SECRET not in str(table)


def test_training_tells_nothing_of_the_environment(finished, tmp_path, monkeypatch):
    experiment = compose_ours(*SMALL)
    folder = folder_of(experiment, tmp_path)
    shutil.copytree(finished, folder.path)
    monkeypatch.setenv("LNRNN_SECRET", SECRET)
    rewrite(folder, optimizer={"lr": "${oc.env:LNRNN_SECRET}"})
    for act in (train, finished_result):
        with pytest.raises(ConfigurationError, match="only references to other keys") as refusal:
            act(experiment, tmp_path)
        assert SECRET not in str(refusal.value)


def test_a_runs_configuration_may_refer_to_its_own_keys(folder):
    rewrite(folder, name="seed${seed}")
    assert folder.read_config().name == "seed0"
    evaluate(folder.path)


def test_references_that_go_in_circles_are_an_error(folder):
    rewrite(folder, name="${schedule}", schedule="${name}")
    with pytest.raises(ConfigurationError, match=r"config\.yaml: cannot resolve"):
        evaluate(folder.path)


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_no_file_of_a_command_reads_the_environment(command, conf):
    key = {"evaluate": "run", "compare": "data"}[command]
    text = (conf / f"{command}.yaml").read_text()
    (conf / f"{command}.yaml").write_text(
        text.replace(f"\n{key}: ", f"\n{key}: ${{oc.env:HOME}} # ")
    )
    with pytest.raises(ConfigurationError, match=f"{key} is .*only references to other keys"):
        compose_config([], command, conf)


def test_a_runs_configuration_makes_no_objects(folder, canary):
    text = folder.config.read_text()
    folder.config.write_text(f'{text}\nx: !!python/object/apply:os.system ["touch {canary}"]\n')
    with pytest.raises(ConfigurationError, match=r"config\.yaml is damaged"):
        evaluate(folder.path)


def test_a_runs_configuration_grants_no_trust(folder, package, canary):
    rewrite(folder, trust=["loud"], model={"norm": {"_target_": "loud.touch"}})
    for trust in ([], [package]):
        with pytest.raises(ConfigurationError, match=r"names classes or functions of loud"):
            evaluate(folder.path, trust)
    rewrite(folder, trust="loud")
    with pytest.raises(ConfigurationError, match="trust must be a list"):
        evaluate(folder.path)


def test_a_run_of_a_trusted_package_is_evaluated_if_it_is_trusted_again(package, tmp_path):
    target = f"model._target_={package}.Encoder"
    folder, record = train(compose_ours(*SMALL, f"trust=[{package}]", target), tmp_path)
    assert record.status == "finished"
    with pytest.raises(ConfigurationError, match=rf"'trust=\[{package}\]'"):
        evaluate(folder.path)
    assert evaluate(folder.path, [package]).metrics


def newest_checkpoint(folder: RunFolder) -> Path:
    newest, _ = newest_good(folder.checkpoints)
    assert newest is not None
    return newest


def tampered(folder: RunFolder, **changes: Any) -> Path:
    """Return a checkpoint beside the run's own, with other entries."""
    newest = newest_checkpoint(folder)
    saved = torch.load(newest, weights_only=True)
    path = folder.path.parent / "tampered.ckpt"
    torch.save({**saved, **changes}, path)
    return path


@pytest.mark.parametrize("place", ["state_dict", "hyper_parameters", "contract"])
def test_a_pickle_that_acts_is_refused(folder, place, canary):
    bait = tampered(folder, **{place: {"bait": Bait(canary)}})
    with pytest.raises(ConfigurationError, match=r"tampered\.ckpt is damaged or not a checkpoint"):
        read_checkpoint(bait)
    torch.load(bait, weights_only=False)  # it would have worked
    assert canary.exists()
    canary.unlink()
    harmless = torch.zeros(1) if place == "state_dict" else "text"
    read_checkpoint(tampered(folder, **{place: {"bait": harmless}}))


@pytest.mark.parametrize(
    "hyperparameters",
    [
        {"_instantiator": "loud.touch"},
        {"model": {"_class_path": "loud.touch"}},
        {"model": [{"_target_": "loud.touch"}]},
    ],
)
def test_a_hyperparameter_that_names_code_is_refused(folder, hyperparameters, package, canary):
    with pytest.raises(ConfigurationError, match=r"the name of code to run"):
        read_checkpoint(tampered(folder, hyper_parameters=hyperparameters))
    read_checkpoint(tampered(folder, hyper_parameters={"instantiator": "loud.touch", "lr": 0.1}))


@pytest.mark.parametrize("changes", ["pickle", "hyperparameter", None])
def test_training_and_evaluation_read_checkpoints_that_way(folder, changes, canary):
    """A checkpoint that somebody else made, given by its path."""
    entries = {
        "pickle": {"loops": Bait(canary)},
        "hyperparameter": {"hyper_parameters": {"_instantiator": "os.system"}},
        None: {"hyper_parameters": {"lr": 0.1}},
    }[changes]
    newest = newest_checkpoint(folder)
    path = tampered(folder, **entries)
    shutil.copy(path, newest)
    digest = hashlib.sha256(newest.read_bytes()).hexdigest()  # who can swap it can do that too
    manifest = json.loads(manifest_of(newest).read_text())
    manifest_of(newest).write_text(json.dumps({**manifest, "sha256": digest}))
    experiment = compose_ours(*SMALL, "name=other", f"resume={path}")
    if changes is None:
        assert evaluate(newest).metrics
        assert train(experiment, folder.path.parent / "runs")[1].status == "finished"
        return
    with pytest.raises(ConfigurationError, match=r"damaged or not a checkpoint|code to run"):
        evaluate(newest)
    with pytest.raises(ConfigurationError, match=r"damaged or not a checkpoint|code to run"):
        train(experiment, folder.path.parent / "runs")


@pytest.mark.parametrize("place", ["../../other.ckpt", "absolute", None])
def test_a_manifest_that_points_out_of_its_folder_is_refused(folder, place, tmp_path):
    newest = newest_checkpoint(folder)
    other = tmp_path / "other.ckpt"
    shutil.copy(newest, other)  # the very content that the manifest promises
    manifest = json.loads(manifest_of(newest).read_text())
    name = {"absolute": str(other), None: newest.name}.get(place, place)
    manifest_of(newest).write_text(json.dumps({**manifest, "file": name}))
    if place is None:
        assert evaluate(newest).metrics
        return
    with pytest.raises(ConfigurationError, match="is not its manifest"):
        evaluate(newest)
    assert newest_good(folder.checkpoints)[0] != newest


def test_a_pointer_that_points_out_of_its_folder_is_not_followed(folder, tmp_path):
    newest = newest_checkpoint(folder)
    shutil.copy(newest, tmp_path / "other.ckpt")
    (folder.checkpoints / "last").write_text("../../other.ckpt\n")
    assert newest_checkpoint(folder) == newest


def test_nothing_is_loaded_from_an_address(folder):
    address = "https://localhost/runs/seed0/checkpoints/step-00000003.ckpt"
    with pytest.raises(ConfigurationError, match="there is no run"):
        evaluate(Path(address))
    with pytest.raises(ConfigurationError, match="no such file"):
        choose_start(folder, address)
    with pytest.raises(ConfigurationError, match="no such checkpoint"):
        read_checkpoint(Path(address))


def test_an_archive_with_objects_is_refused(tmp_path, monkeypatch, canary):
    original = Path(str(embedded.ASSETS / "japanese_vowels.npz"))
    config = compose_ours().config
    monkeypatch.setattr(embedded, "ASSETS", tmp_path)
    shutil.copy(original, tmp_path / original.name)
    build_data(config)
    with np.load(original) as archive:
        arrays = dict(archive)
    objects = np.array([Bait(canary)], dtype=object)
    np.savez(tmp_path / original.name, **{**arrays, "train_labels": objects})
    with pytest.raises(ConfigurationError, match="Object arrays cannot be loaded"):
        build_data(config)
    with np.load(tmp_path / original.name, allow_pickle=True) as archive:
        assert len(archive["train_labels"]) == 1  # it would have worked
    assert canary.exists()
    canary.unlink()


def test_no_source_asks_for_less():
    """What the tests above cannot reach: another place where something is loaded."""
    sources = [*(ROOT / "lnrnn").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
    unsafe = r"weights_only=(False|None)|allow_pickle=True|load_from_checkpoint|torch\.hub"
    unsafe += r"|import (cloud)?pickle|yaml\.(unsafe_|full_)?load\(|\beval\(|\bexec\("
    for path in sources:
        text = path.read_text().replace(".eval()", "")
        assert not re.search(unsafe, text), path
        for call in re.findall(r"torch\.load\([^)]*\)|np\.load\([^)]*\)|\.fit\([^)]*\)", text):
            assert re.search(r"weights_only=True|allow_pickle=False", call), (path, call)
    assert len(sources) > 30
