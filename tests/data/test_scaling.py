"""What numbers are centered and scaled by, and what a fingerprint tells of it."""

from typing import Any

import pytest
import torch

from lnrnn.data import table_files
from lnrnn.data.scaling import scale_inputs, scale_targets
from lnrnn.data.sequences import Sequences

ROWS = 60


def write(path, *, scale=1, shift=0, names=("a", "b"), target=1, gap=None):
    """Series of ten steps with a label each; cells of column ``gap`` are empty."""
    lines = ["id,x,y,kind,target"]
    for row in range(ROWS):
        cells = {"x": (row * 7 % 11) * scale + shift, "y": row % 5}
        cells |= {} if gap is None else {gap: ""}
        series = row // 10
        kind = names[series % 2]
        lines.append(f"{series},{cells['x']},{cells['y']},{kind},{(row * 3 % 7) * target}")
    path.write_text("\n".join(lines) + "\n")


def table(**settings) -> Any:
    common = {
        "files": "a.csv",
        "num_classes": 2,
        "input_columns": ["x", "y"],
        "target_column": "kind",
        "num_features": 2,
        "num_tokens": None,
        "group_by": "id",
    }
    return table_files(**{**common, **settings})


NUMBERS = {"num_classes": None, "task": "regression", "target_column": "target", "per_step": True}


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        ({"scale": 1000}, {}),
        ({"shift": 64}, {}),
        ({"names": ("c", "d")}, {}),
        ({"target": 1000}, NUMBERS),
    ],
)
def test_a_fingerprint_tells_what_values_stand_for(folder, change, settings):
    """Scaled values and numbered classes are the same afterwards."""
    write(folder / "a.csv")
    before, again = table(**settings), table(**settings)
    assert before.fingerprint == again.fingerprint
    write(folder / "a.csv", **change)
    after = table(**settings)
    assert all(
        torch.allclose(one, other)
        for split in before.splits
        for one, other in zip(
            before.splits[split].content(), after.splits[split].content(), strict=True
        )
    )
    assert after.fingerprint != before.fingerprint


def test_a_fingerprint_tells_how_windows_are_cut(folder):
    write(folder / "a.csv")
    settings = {**NUMBERS, "task": "forecasting", "per_step": False}
    one = table(**settings, window=4, horizon=2)
    assert one.fingerprint != table(**settings, window=3, horizon=3).fingerprint


@pytest.mark.parametrize("missing", [False, True])
def test_statistics_do_not_depend_on_the_number_of_threads(missing):
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(200_001, 1, generator=draw) * 3 + 10
    targets = torch.randn(200_001, generator=draw) * 3 + 10
    if missing:
        values[5] = targets[7] = float("nan")
    threads = torch.get_num_threads()
    found = set()
    try:
        for count in (1, 2, 3, 4):
            torch.set_num_threads(count)
            lengths = torch.ones(200_001, dtype=torch.int64)
            splits = {"train": Sequences(values.clone(), lengths, targets.clone(), per_step=True)}
            scale_inputs(splits)
            scale_targets(splits)
            found.add((splits["train"].scaling, splits["train"].scale))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1


@pytest.mark.parametrize("standardize", [True, False])
def test_a_column_without_any_number_is_refused_by_name(folder, standardize):
    write(folder / "a.csv", gap="y")
    with pytest.raises(ValueError, match=r"column 'y' is missing in every row to learn from"):
        table(missing="mask", num_features=4, standardize=standardize).setup("fit")


def test_a_number_of_all_steps_that_is_always_missing_is_refused(folder):
    lines = [f"1 NA;{row} NA,{row % 2}" for row in range(40)]
    (folder / "a.csv").write_text("\n".join(["x,kind", *lines]) + "\n")
    one_row = {"input_columns": None, "input_column": "x", "group_by": None}
    with pytest.raises(ValueError, match=r"number 1 .counted from 0. of the steps in 'x'"):
        table(**one_row, missing="mask", num_features=4).setup("fit")
