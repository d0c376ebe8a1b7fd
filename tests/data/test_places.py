"""Data in folders whose names look like patterns, and data that are damaged or would act."""

import shutil
from pathlib import Path

import pytest
from experiments import compose

from lnrnn.data import embedded, hub_table, table_files, text_files
from lnrnn.data.streams import Streams
from lnrnn.training import ConfigurationError
from lnrnn.training.build import build_data

TABLE = "text,label\n" + "".join(f"number {i},{'good' if i % 3 else 'bad'}\n" for i in range(30))
STRANGE = ["br[y]", "a::b", "star*", "what?", "{x,y}", ".hidden", "__cache", "a b", "file:", "[!a]"]


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("given", ["t.csv", "t*.csv", "absolute"])
def test_only_what_was_typed_is_a_pattern(name, given, tmp_path, monkeypatch):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "t.csv").write_text(TABLE)
    monkeypatch.chdir(folder)
    files = str(folder / "t.csv") if given == "absolute" else given
    table = table_files(files=files, num_classes=2)
    assert sum(len(split) for split in table.splits.values()) == 30
    text = text_files(files=files, batch_size=1, window=5)
    train = text.splits["train"]
    assert isinstance(train, Streams)
    assert bytes(train.text[:4].tolist()) == b"text"


@pytest.mark.parametrize("name", STRANGE)
def test_a_home_folder_is_no_pattern(name, tmp_path, monkeypatch):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "t.txt").write_text("text" * 100)
    monkeypatch.setenv("HOME", str(folder))
    for files in ("~/t.txt", "~/t*.txt"):
        assert text_files(files=files, batch_size=1, window=5).splits["train"]


def test_a_temporary_folder_is_no_pattern(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "u[1].csv").write_text(TABLE)
    (tmp_path / "br[y]").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "br[y]"))
    assert table_files(files="u[1].csv", num_classes=2).splits
    assert not list((tmp_path / "br[y]").iterdir())


@pytest.mark.parametrize("strange", [True, False])
def test_a_folder_that_datasets_would_take_for_a_pattern_is_named(strange, tmp_path, monkeypatch):
    folder = tmp_path / ("br[y]" if strange else "plain")
    (folder / "own").mkdir(parents=True)
    for split in ("train", "test"):
        (folder / "own" / f"{split}.csv").write_text(TABLE.replace("good", "1").replace("bad", "0"))
    monkeypatch.chdir(folder)
    data = hub_table(repository="own", subset=None, revision="main", num_classes=2)
    if strange:
        with pytest.raises(ValueError, match=r"takes its path for a pattern.*Move or rename"):
            data.prepare_data()
    else:
        assert len(data.splits["test"]) == 30


def test_a_loading_script_is_not_run_and_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "own.py").write_text("open('canary', 'w').close()\n")
    (tmp_path / "own" / "train.csv").write_text(TABLE)
    config = compose("data=imdb", "data.repository=own").config
    with pytest.raises(ConfigurationError, match="own has a loading script, which is not run"):
        build_data(config)
    assert not (tmp_path / "canary").exists()


DAMAGES = {
    "gone": lambda content: None,
    "empty": lambda content: b"",
    "ten bytes": lambda content: content[:10],
    "cut": lambda content: content[:9000],
    "a flipped byte": lambda content: content[:5000] + b"\x55" + content[5001:],
    "one at its end": lambda content: content[:-3] + b"\x55" + content[-2:],
    "something else": lambda content: b"not an archive" * 100,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("data", ["digits", "japanese_vowels", "shakespeare"])
def test_data_of_the_package_that_are_damaged_are_named(damage, data, tmp_path, monkeypatch):
    shutil.copytree(Path(str(embedded.ASSETS)), tmp_path / "assets")
    monkeypatch.setattr(embedded, "ASSETS", tmp_path / "assets")
    for path in (tmp_path / "assets").iterdir():
        content = DAMAGES[damage](path.read_bytes())
        path.unlink() if content is None else path.write_bytes(content)
    config = compose(f"data={data}").config
    with pytest.raises(ConfigurationError, match=rf"{data}.*missing or damaged.*--force-reinstall"):
        build_data(config)
