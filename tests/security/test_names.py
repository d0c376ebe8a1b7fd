"""A record's names, of which paths are made, lead nowhere else."""

import json
import shutil
from pathlib import Path

import pytest
from experiments import compose

from lnrnn.cli import comparing
from lnrnn.comparison import RecordError, read_run
from lnrnn.study.settings import read_settings
from lnrnn.training import ConfigurationError, RunFolder, train

SMALL = ("model.hidden_size=8", "trainer.max_steps=2", "trainer.limit_val_batches=1")
ELSEWHERE = (
    "../../x",
    "/tmp/x",
    "a/../../x",
    "..",
    ".",
    "",
    "a//b",
    "a\\b",
    "a\0b",
    "a\nb",
    "\x1b[2J",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return train(compose(*SMALL), tmp_path_factory.mktemp("runs"))[0].path


@pytest.fixture
def arms(finished, tmp_path, monkeypatch) -> list[RunFolder]:
    """The runs of two arms, trained elsewhere."""
    monkeypatch.chdir(tmp_path)
    for arm in "AB":
        shutil.copytree(finished, tmp_path / arm / "seed0")
    return [RunFolder(tmp_path / arm / "seed0") for arm in "AB"]


def call_it(folder: RunFolder, **names: str) -> None:
    folder.record.write_text(json.dumps({**json.loads(folder.record.read_text()), **names}))


@pytest.mark.parametrize("key", ["data", "model"])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_name_that_leads_elsewhere_is_refused(key, name, arms):
    call_it(arms[0], **{key: name})
    with pytest.raises(RecordError, match=f"{key} must be a name"):
        read_run(arms[0].path)
    with pytest.raises(ConfigurationError, match=f"{key} must be a name"):
        arms[0].read_record()


@pytest.mark.parametrize("name", ["../../x", "ABSOLUTE"])
def test_a_comparison_writes_where_it_should(name, arms, tmp_path):
    for folder in arms:
        call_it(folder, data=name.replace("ABSOLUTE", str(tmp_path / "x")))
    before = sorted(tmp_path.parent.rglob("*"))
    settings = read_settings(["train=false", 'arms=["./A","./B"]'])
    with pytest.raises((ConfigurationError, ValueError), match="data must be a name"):
        comparing.run(settings)
    assert sorted(tmp_path.parent.rglob("*")) == before


@pytest.mark.parametrize("name", ["japanese_vowels", "my/table", "données", "a b"])
def test_names_of_a_users_own_are_names(name, arms, tmp_path):
    for folder in arms:
        call_it(folder, data=name)
    comparing.run(read_settings(["train=false", 'arms=["./A","./B"]']))
    assert list((tmp_path / "runs" / name / "compare").glob("*/compare.json"))
