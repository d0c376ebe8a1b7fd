"""Classes that are counted where the configuration does not say how many there are."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from experiments import compose

from lnrnn.data import count_classes
from lnrnn.data.counting import _count
from lnrnn.training import ConfigurationError


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _count.cache_clear()


def table(name: str, labels: list[str], column: str = "label") -> str:
    rows = [f"word {i},{label}" for i, label in enumerate(labels)]
    Path(name).write_text("\n".join([f"text,{column}", *rows]) + "\n")
    return name


def test_the_number_is_in_the_configuration_and_in_the_head() -> None:
    config = compose("data=table_files", f"data.files={table('a.csv', ['b', 'a', 'c'] * 4)}").config
    assert config.data.num_classes == config.head.num_classes == 3


def test_labels_of_every_split_count() -> None:
    names = [table("a.csv", ["a", "b"] * 9), table("b.csv", ["c"]), table("c.csv", ["d", "a"])]
    found = count_classes(files=names[0], validation_files=names[1], test_files=names[2])
    assert found == 4


@pytest.mark.parametrize(
    ("labels", "count"),
    [("1 2", 2), ("-1 1", 2), ("0 1 2", 3), ("01 1", 2), ("1 1.0 2", 2)],
)
def test_numbers_count_as_they_are_read(labels: str, count: int) -> None:
    name = table("a.csv", labels.split() * 12)
    config = compose("data=table_files", f"data.files={name}").config
    assert config.data.num_classes == count
    from lnrnn.training.build import build_data

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers that are taken for others
        data = build_data(config)
    assert {int(t) for split in data.splits.values() for t in split.targets} == set(range(count))


@pytest.mark.parametrize("missing", ["error", "mask"])
def test_a_class_at_every_step(missing: str) -> None:
    """In cells, in lists, or a step a row; what says that one is missing is no class."""
    gap = ["NA"] if missing == "mask" else []
    rows = [{"text": [1, 2, 3], "label": ["a", "b", *gap, "a"]} for _ in range(6)]
    Path("lists.jsonl").write_text("\n".join(map(json.dumps, rows)))
    cells = table("cells.csv", [" ".join(["a", "b", *gap, "c"])] * 6)
    steps = table("steps.csv", ["a", "b", *gap, "c", "d"] * 6)
    options: dict[str, Any] = {"task": "tagging", "missing": missing}
    assert count_classes(files=cells, **options) == 3
    assert count_classes(files=steps, input_columns=["text"], **options) == 4
    if missing == "error":  # a list has null there
        assert count_classes(files="lists.jsonl", **options) == 2


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (
            ["0.5", "1", "2.25"],
            "has 0.5: if numbers are what is to be predicted, take",
        ),
        (["a"], "has the label a in every row, so there is nothing to tell apart"),
        (
            [f"name{i}" for i in range(36)],
            "has 36 different labels in 36 places, hardly two",
        ),
    ],
)
def test_what_can_be_no_classes_is_refused(labels: list[str], reason: str) -> None:
    name = table("a.csv", (labels * 36)[:36])
    with pytest.raises(ConfigurationError, match=f"data: .*column 'label' {reason}"):
        compose("data=table_files", f"data.files={name}")
    assert compose("data=table_files", f"data.files={name}", "data.num_classes=36").config


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"data\.files must name files, but nothing"):
        compose("data=table_files", "data.files=nothing.csv")
    with pytest.raises(ConfigurationError, match=r"data\.target_column=kind is not a column of a"):
        compose(
            "data=table_files",
            f"data.files={table('a.csv', ['a', 'b'])}",
            "data.target_column=kind",
        )
    with pytest.raises(ConfigurationError, match="num_classes=count is for your own tables"):
        compose("data=japanese_vowels", "data.num_classes=count")


def test_a_file_that_changed_is_counted_again() -> None:
    table("a.csv", ["a", "b"] * 9)
    assert count_classes(files="a.csv") == 2
    table("a.csv", ["a", "b", "c"] * 9)
    assert count_classes(files="a.csv") == 3


@pytest.mark.parametrize("lists", [False, True], ids=["cells", "lists"])
def test_labels_behind_max_length_are_not_counted(lists):
    """Training does not read them either."""
    tags = ["N", "V", "N", "X"] if lists else "N V N X"
    rows = [json.dumps({"text": [1, 2, 3, 4] if lists else "1 2 3 4", "label": tags})] * 20
    Path("tags.jsonl").write_text("\n".join(rows) + "\n")
    for limit, found in ((None, 3), (4, 3), (3, 2)):
        assert count_classes(files="tags.jsonl", task="tagging", max_length=limit) == found
