import re

import pytest
from experiments import compose
from omegaconf import OmegaConf

from lnrnn.runs.folder import check_configuration, derive_name
from lnrnn.runs.names import cut
from lnrnn.runs.record import RunRecord
from lnrnn.training import ConfigurationError, RunFolder, folder_of
from lnrnn.training.resume import Start, choose_start


@pytest.mark.parametrize(
    ("overrides", "path"),
    [
        ([], "runs/japanese_vowels/rnn_ln/seed0"),
        (["seed=3", "model=gru"], "runs/japanese_vowels/gru/seed3"),
        (["name=mine"], "runs/japanese_vowels/rnn_ln-mine/seed0"),
        (
            ["trainer.max_epochs=5", "model.eps=1e-3"],
            "runs/japanese_vowels/rnn_ln-eps-1e-3-max_epochs-5/seed0",
        ),
        (["trainer.devices=2", "data.num_workers=1"], "runs/japanese_vowels/rnn_ln/seed0"),
        (["trainer=ddp"], "runs/japanese_vowels/rnn_ln/seed0"),
        (["hydra.searchpath=[file://tests]"], "runs/japanese_vowels/rnn_ln/seed0"),
        (["trainer=gpu"], "runs/japanese_vowels/rnn_ln-trainer-gpu/seed0"),
        (["experiment=mnist1d_gru"], "runs/mnist1d/gru-mnist1d_gru/seed0"),
    ],
)
def test_the_folder_follows_from_the_configuration(overrides, path):
    assert str(folder_of(compose(*overrides)).path) == path


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["optimizer.lr=1e-3"], ["optimizer.lr=1e-2"]),
        (["model.norm=null"], ["model.norm=cell"]),
        (["data.batch_size=16"], ["trainer.accumulate_grad_batches=16"]),
        (["~optimizer.weight_decay"], ["optimizer.weight_decay=0"]),
        (["+model.norm={_target_:lnrnn.nn.CellNorm,cell:state}"], ["model.norm=cell"]),
        (["schedule=cosine"], ["schedule=linear"]),
    ],
)
def test_two_settings_never_share_a_name(one, other):
    names = {derive_name(compose(*one)), derive_name(compose(*other)), derive_name(compose())}
    assert len(names) == 3
    assert all(re.fullmatch(r"[A-Za-z0-9._-]*", name) for name in names)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1e-3", "0.001"),
        ("1e-5", "0.00001"),
        ("0.25", "2.5e-1"),
        ("true", "True"),
        ("2e-5", "2e-05"),
    ],
)
def test_one_value_has_one_name(one, other):
    key = "model.bidirectional" if one == "true" else "model.eps"
    assert derive_name(compose(f"{key}={one}")) == derive_name(compose(f"{key}={other}"))


def test_the_order_of_overrides_does_not_matter():
    one = compose("model.eps=1e-3", "trainer.max_epochs=5")
    other = compose("trainer.max_epochs=5", "model.eps=1e-3")
    assert folder_of(one) == folder_of(other)


MANY = tuple(f"trainer.limit_{part}_batches=0.123456789" for part in ("train", "val", "test"))


def test_a_long_name_keeps_what_a_person_recognizes_and_ends_in_a_hash():
    name = derive_name(compose(*MANY, "optimizer.lr=1e-3"))
    shortened = "-".join(rf"limit_{key}\.\..{{15}}" for key in ("tes", "tra", "val"))
    assert re.fullmatch(rf"{shortened}-lr-1e-3-[0-9a-f]{{8}}", name), name
    assert name != derive_name(compose(*MANY, "optimizer.lr=1e-4"))
    files = "data.files=somewhere/rather/deep/down/in/a/folder/of/mine/march.csv"
    table = ("data=table_files", "data.num_classes=2", files, "model.eps=1e-3")
    name = derive_name(compose(*table, "model.hidden_size=8"))
    for part in ("data.num_classes-2", "eps-1e-3", "-files-", "march.csv-", "hidden_size-8"):
        assert part in name, name
    more = [f"model.{key}=false" for key in ("bidirectional", "fused")]
    name = derive_name(compose(*table, *more, "trainer.max_steps=7", "model.num_layers=2"))
    assert len(name) <= 100
    assert re.search(r"-and-\d-more-[0-9a-f]{8}$", name), name
    short = derive_name(compose(*table[:2], "data.files=march.csv"))
    assert short == "data.num_classes-2-files-march.csv"


def test_a_long_name_of_an_older_version_is_found_where_it_is(tmp_path):
    experiment = compose(*MANY, "optimizer.lr=1e-3")
    new = folder_of(experiment, tmp_path).path
    old = tmp_path / "japanese_vowels" / f"rnn_ln-{derive_name(experiment, cut)}" / "seed0"
    assert new != old
    assert old.parent.name.startswith("rnn_ln-limit_test_batches-0.123456789-limit_train_batches--")
    old.mkdir(parents=True)
    assert folder_of(experiment, tmp_path).path == old
    new.mkdir(parents=True)
    assert folder_of(experiment, tmp_path).path == new


def test_another_configuration_in_the_folder_is_shown(tmp_path):
    folder = RunFolder(tmp_path)
    folder.config.write_text(OmegaConf.to_yaml(compose().config))
    check_configuration(folder, compose("trainer.devices=2", "resume=never").config)
    with pytest.raises(ConfigurationError) as caught:
        check_configuration(folder, compose("model.eps=1e-3").config)
    assert "-model.eps: 1e-05" in str(caught.value)
    assert "+model.eps: 0.001" in str(caught.value)


def test_never_wants_a_new_folder(tmp_path):
    assert choose_start(RunFolder(tmp_path), "never") == Start()
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="not empty"):
        choose_start(RunFolder(tmp_path), "never")


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere\.ckpt: there is no such file"):
        choose_start(RunFolder(tmp_path), "nowhere.ckpt")


def test_the_record_is_changed_in_one_step(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.read_record() == RunRecord()
    folder.write_record(RunRecord(status="running", seed=1))
    folder.update_record(status="finished")
    assert folder.read_record() == RunRecord(status="finished", seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
