"""Hub sets, offline: a folder whose path is the hub's id is taken instead of the hub."""

import ast
import shlex
import socket
import time
from typing import Any

import datasets
import pytest

from lnrnn.data import hub_table, hub_text
from lnrnn.data.hub import _fetching_command, check_revision

COMMIT = "b08601e04326c79dfdd32d625aee71d232d685c3"
WIKITEXT: dict[str, Any] = {
    "repository": "Salesforce/wikitext",
    "subset": "raw",
    "revision": COMMIT,
}
SST2: dict[str, Any] = {
    "repository": "stanfordnlp/sst2",
    "subset": None,
    "revision": COMMIT,
    "num_classes": 2,
}


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def sst2(folder):
    write(
        folder / "stanfordnlp/sst2/train.csv",
        ["idx,sentence,label", *(f"{i},phrase {i},{i % 2}" for i in range(20))],
    )
    write(
        folder / "stanfordnlp/sst2/validation.csv",
        ["idx,sentence,label", *(f"{i},sentence {i},{i % 2}" for i in range(6))],
    )
    write(folder / "stanfordnlp/sst2/test.csv", ["idx,sentence,label", "0,secret,-1"])
    return folder


def test_a_table_of_the_hub(sst2):
    datamodule = hub_table(
        **SST2, input_column="sentence", test_split="validation", validation=0.2, max_length=9
    )
    sizes = {name: len(split) for name, split in datamodule.splits.items()}
    assert sizes == {"train": 16, "validation": 4, "test": 6}
    validation: Any = datamodule.splits["validation"]
    assert validation.targets.sum() == 2
    batch = next(iter(datamodule.test_dataloader()))
    assert bytes(batch.inputs[3].tolist()) == b"sentence "
    assert batch.targets.tolist() == [0, 1, 0, 1, 0, 1]


def test_validation_split_of_the_hub(sst2):
    datamodule = hub_table(
        **SST2, input_column="sentence", test_split="train", validation_split="validation"
    )
    assert len(datamodule.splits["validation"]) == 6
    assert len(datamodule.splits["train"]) == 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "data.input_column=text is not a column of split 'train'; .*idx, sentence, label"),
        ({"input_column": "sentence"}, "split 'test', row 0, column 'label' has -1"),
        ({"test_split": "exam"}, "has no split exam; there are train, validation, test"),
    ],
)
def test_bad_tables_of_the_hub(sst2, settings, message):
    with pytest.raises(ValueError, match=message):
        hub_table(**{**SST2, **settings}).setup("fit")


def test_a_text_of_the_hub(folder):
    root = folder / "Salesforce/wikitext"
    for split in ("train", "validation", "test"):
        write(root / f"{split}.jsonl", [f'{{"page": "{split} {i}\\n"}}' for i in range(9)])
    settings: dict[str, Any] = {**WIKITEXT, "subset": None, "batch_size": 2, "window": 5}
    splits: Any = hub_text(**settings, text_column="page").splits
    for name, split in splits.items():
        expected = "".join(f"{name} {i}\n" for i in range(9))
        assert bytes(split.text.numpy()).decode() == expected
    with pytest.raises(ValueError, match=r"data.text_column=text is not a column.*there are page"):
        hub_text(**settings).setup("fit")


@pytest.mark.parametrize("data", [lambda: hub_text(**WIKITEXT), lambda: hub_table(**SST2)])
def test_offline_and_not_cached_names_the_command_at_once(folder, data):
    datamodule = data()
    start = time.perf_counter()
    with pytest.raises(ConnectionError, match=r"HF_HUB_OFFLINE=1.*HF_HUB_OFFLINE=0 python -c") as e:
        datamodule.prepare_data()
    assert time.perf_counter() - start < 2
    command = str(e.value).split("run: ")[1]
    *_, code = shlex.split(command)
    compile(code, "command", "exec")
    assert COMMIT in code


def test_the_command_to_paste_runs_nothing_that_a_configuration_wrote():
    """Names from a configuration are printed as part of a line that people paste into a shell."""
    name = """a'"; touch canary; $(touch canary) `touch canary` ")__import__('os')"""
    command = _fetching_command(name, "$(touch canary)", COMMIT)
    environment, python, option, code = shlex.split(command)
    assert (environment, python, option) == ("HF_HUB_OFFLINE=0", "python", "-c")
    (call,) = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert ast.literal_eval(call.args[0]) == name


def test_a_silent_hub_is_noticed_before_datasets_retries(folder, monkeypatch):
    """With no HF_HUB_OFFLINE, `datasets` alone would try an unreachable hub for 23 s."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: False)
    start = time.perf_counter()
    with pytest.raises(ConnectionError, match=r"the hub does not answer.*HF_HUB_OFFLINE=0 python"):
        hub_text(**WIKITEXT).setup("fit")
    assert time.perf_counter() - start < 2


def test_another_revision_in_the_cache_is_refused():
    def rows(commit):
        address = f"hf://datasets/Salesforce/wikitext@{commit}/raw/train.parquet"
        info = datasets.DatasetInfo(download_checksums={address: {"num_bytes": 1}})
        return datasets.Dataset.from_dict({"text": ["a"]}, info=info)

    check_revision(rows(COMMIT), "Salesforce/wikitext", COMMIT, "fetch it")
    check_revision(rows(COMMIT), "Salesforce/wikitext", "main", "a branch may be at any commit")
    with pytest.raises(ValueError, match=f"another revision.*revision={COMMIT}.*fetch it"):
        check_revision(rows("0" * 40), "Salesforce/wikitext", COMMIT, "fetch it")
