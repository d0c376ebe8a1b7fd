"""Tables in which a row is a step: series put together, in order, cut into windows, held out."""

import json
import random
from typing import Any

import numpy as np
import pytest
import torch

from lnrnn.data import sunspots, table_files
from lnrnn.data.batch import IGNORED

HEADER = "id,time,x,y,state,kind\n"


def rows_of(series=12, steps=10):
    """x counts steps over all series, y is -x; a state a step and a kind a series."""
    return [
        (f"s{k}", t, 100 * k + t, -(100 * k + t), "ab"[t % 2], "uv"[k % 2])
        for k in range(series)
        for t in range(steps)
    ]


def write(path, rows, header=HEADER):
    path.write_text(header + "\n".join(",".join(map(str, row)) for row in rows) + "\n")


def table(**settings) -> Any:
    common = {
        "files": "a.csv",
        "num_classes": None,
        "input_columns": ["x", "y"],
        "num_features": 2,
        "num_tokens": None,
        "group_by": "id",
        "order_by": "time",
        "standardize": False,
    }
    return table_files(**{**common, **settings})


TASKS = {
    "classification": {"num_classes": 2, "target_column": "kind"},
    "tagging": {"num_classes": 2, "target_column": "state"},
    "regression": {"target_column": "y", "per_step": True},
    "forecasting": {"target_column": "y", "window": 4, "horizon": 2},
}


def inputs_of(splits):
    """The first features of every split, in whichever kind of batch."""
    return {
        name: [row[:, 0].tolist() for row in split[list(range(len(split)))].inputs]
        for name, split in splits.items()
    }


@pytest.mark.parametrize("task", TASKS)
def test_rows_in_any_order_are_the_same_series(folder, task):
    rows = rows_of()
    write(folder / "a.csv", rows)
    first = table(task=task, **TASKS[task]).splits
    random.Random(0).shuffle(rows)
    write(folder / "a.csv", sorted(rows, key=lambda row: int(row[0][1:])))
    again = table(task=task, **TASKS[task]).splits
    for name, split in first.items():
        for one, other in zip(split.content(), again[name].content(), strict=True):
            assert torch.equal(one, other)


def test_a_class_a_series(folder):
    write(folder / "a.csv", rows_of())
    splits = table(**TASKS["classification"]).splits
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 10,
        "validation": 1,
        "test": 1,
    }
    for split in splits.values():
        batch = split[list(range(len(split)))]
        assert batch.inputs.shape[1:] == (10, 2)
        assert batch.targets.tolist() == [int(x) // 100 % 2 for x in batch.inputs[:, 0, 0]]


def test_a_class_a_step_and_series_of_any_length(folder):
    rows = [row for row in rows_of() if row[1] < 5 + int(row[0][1:]) % 3]
    write(folder / "a.csv", rows)
    split = table(task="tagging", **TASKS["tagging"]).splits["train"]
    batch = split[list(range(len(split)))]
    assert set(batch.lengths.tolist()) == {5, 6, 7}
    for x, targets, length in zip(batch.inputs[:, :, 0], batch.targets, batch.lengths, strict=True):
        assert targets[:length].tolist() == [int(v) % 100 % 2 for v in x[:length]]
        assert (targets[length:] == -100).all()


def test_a_number_a_step_and_nothing_beyond_the_end(folder):
    rows = [row for row in rows_of() if row[1] < 5 + int(row[0][1:]) % 3]
    write(folder / "a.csv", rows)
    split = table(task="regression", **TASKS["regression"]).splits["train"]
    batch = split[list(range(len(split)))]
    known = ~batch.targets.isnan()
    assert torch.equal(known.sum(1), batch.lengths)
    assert torch.equal(batch.targets[known], batch.inputs[:, :, 1][known])


def test_windows_and_the_numbers_that_follow(folder):
    write(folder / "a.csv", rows_of())
    split = table(task="forecasting", **TASKS["forecasting"]).splits["train"]
    batch = split[list(range(len(split)))]
    assert batch.inputs.shape == (10 * 5, 4, 2)  # 10 series, windows at 0 to 4
    for window, following in zip(batch.inputs[:, :, 0], batch.targets, strict=True):
        first = int(window[0])
        assert window.tolist() == list(range(first, first + 4))
        assert following.tolist() == [-(first + 4.0), -(first + 5.0)]
        assert first // 100 == (first + 5) // 100
    fewer = table(task="forecasting", stride=4, **TASKS["forecasting"]).splits["train"]
    assert len(fewer) == 10 * 2


@pytest.mark.parametrize("split_by", ["group", "time"])
@pytest.mark.parametrize("seed", range(3))
def test_no_step_is_in_two_splits(folder, split_by, seed):
    """Neither among what is seen nor among what is predicted."""
    write(folder / "a.csv", rows_of(series=9, steps=40))
    settings = {**TASKS["forecasting"], "split_by": split_by, "split_seed": seed}
    splits = table(task="forecasting", validation=0.25, test=0.25, **settings).splits
    seen = {}
    for name, split in splits.items():
        batch = split[list(range(len(split)))]
        steps = {*batch.inputs[:, :, 0].flatten().tolist(), *(-batch.targets).flatten().tolist()}
        seen[name] = steps
        if split_by == "group":
            assert len({int(step) // 100 for step in steps}) == {"train": 5, "test": 2}.get(name, 2)
        else:
            assert {int(step) // 100 for step in steps} == set(range(9))
    assert not seen["train"] & seen["validation"]
    assert not (seen["train"] | seen["validation"]) & seen["test"]
    assert len(set.union(*seen.values())) == 9 * 40
    if split_by == "time":
        for k in range(9):
            ends = [max(s for s in seen[n] if s // 100 == k) for n in ("train", "validation")]
            begin = min(s for s in seen["test"] if s // 100 == k)
            assert ends[0] < ends[1] < begin


def test_without_a_group_every_file_is_a_series(folder):
    for k in range(6):
        write(folder / f"a{k}.csv", [row for row in rows_of(6) if row[0] == f"s{k}"])
    whole = table(files="a*.csv", group_by=None, **TASKS["classification"]).splits
    begins = [series[0] for split in inputs_of(whole).values() for series in split]
    assert sorted(begins) == [0, 100, 200, 300, 400, 500]
    assert sum(len(split) for split in whole.values()) == 6
    one = table(
        files="a0.csv",
        task="forecasting",
        group_by=None,
        validation=0.3,
        test=0.3,
        target_column="y",
        window=1,
        horizon=1,
    ).splits
    assert {name: split.values[:, 0].tolist() for name, split in one.items()} == {
        "train": [0, 1, 2, 3, 4],
        "validation": [5, 6],
        "test": [7, 8, 9],
    }


@pytest.mark.parametrize("form", ["2026-01-{:02d}", "2026-01-{:02d} 12:30:00", "{}.5"])
def test_dates_put_steps_in_order(folder, form):
    rows = [(i, form.format(t), *rest) for i, t, *rest in rows_of(steps=12) if t > 0]
    random.Random(1).shuffle(rows)
    write(folder / "a.csv", sorted(rows, key=lambda row: int(row[0][1:])))
    for series in inputs_of(table(**TASKS["classification"]).splits)["train"]:
        assert series == sorted(series)
        assert len(series) == 11


def test_missing_numbers_are_masked_and_not_predicted(folder):
    rows = [
        (i, t, "" if t == 2 else x, y if t != 5 else "NA", *rest) for i, t, x, y, *rest in rows_of()
    ]
    write(folder / "a.csv", rows)
    settings = {**TASKS["forecasting"], "input_columns": ["x"], "num_features": 2}
    split = table(task="forecasting", missing="mask", **settings).splits["train"]
    batch = split[list(range(len(split)))]
    gap = batch.inputs[:, :, 1] == 1
    assert gap.sum() == 10 * 3  # windows at 0, 1 and 2 see step 2
    assert (batch.inputs[:, :, 0][gap] == 0).all()
    assert batch.targets.isnan().sum() == 10 * 2  # windows at 0 and 1 predict step 5


def test_numbers_to_predict_are_scaled_by_what_is_trained_on(folder):
    write(folder / "a.csv", rows_of())
    data = table(task="forecasting", **{**TASKS["forecasting"], "standardize": True})
    raw = table(task="forecasting", **TASKS["forecasting"])
    mean, std = data.target_scale
    known = raw.splits["train"].targets.double()
    assert mean == pytest.approx(float(known.mean()))
    assert std == pytest.approx(float(known.std(correction=0)))
    for name, split in data.splits.items():
        back = split.targets.double() * std + mean
        torch.testing.assert_close(back, raw.splits[name].targets.double(), atol=1e-3, rtol=0)
    assert raw.target_scale == (0.0, 1.0)


BAD_STEPS = {
    "one time twice": (
        {},
        "s1,3,7,7,a,u\n",
        "a.csv, data row 13 .* and a.csv, data row 120 .*'time'",
    ),
    "no number": ({}, "s1,30,seven,7,a,v\n", "data row 120 .*column 'x', which has 'seven'"),
    "missing": ({}, "s1,30,,7,a,v\n", "a number is missing in a.csv, data row 120 .*column 'x'"),
    "beyond float32": (
        {},
        "s1,30,1,-1e300,a,v\n",
        "ends at 3.4e38: a.csv, data row 120 .*column 'y' has -1e[+]300",
    ),
    "infinite": ({}, "s1,30,1,inf,a,v\n", "finite: a.csv, data row 120 .*column 'y'"),
    "no group": ({}, ",30,1,1,a,v\n", "data row 120 .*column 'id' is empty"),
    "no date": ({}, "s1,soon,1,1,a,v\n", "data row 120 .*column 'time' has 'soon'"),
    "two kinds": ({}, "s1,30,1,1,a,u\n", "'kind' changes within one: a.csv, data row 120"),
    "columns": ({"input_columns": ["x"]}, "", "1 columns, but data.num_features=2: set .*=1"),
    "no column": ({"input_columns": ["x", "z"]}, "", "data.input_columns=z is not a column"),
    "a text": ({"input_columns": "x"}, "", "must be a list of names"),
    "twice": ({"input_columns": ["x", "x"]}, "", "different names"),
    "masked": ({"missing": "mask"}, "", "data.num_features=4"),
    "a choice": ({"missing": "drop"}, "", "data.missing must be one of error, mask"),
    "a horizon": ({"horizon": 3}, "", "is for forecasting"),
    "no horizon": ({"task": "forecasting", "num_classes": None}, "", "forecasting needs"),
    "a stride": ({"stride": 3}, "", "needs data.window"),
    "too long": ({"window": 50}, "", "split 'train' has no window: its longest series has 10"),
    "cut": ({"max_length": 3}, "", "data.window cuts these"),
    "a row": (
        {"input_columns": None},
        "",
        "data.group_by=id is for tables in which a row is a step",
    ),
    "a task": ({"task": "clustering"}, "", "data.task must be one of classification"),
    "a length": ({"window": 5, "length": 6}, "", "contradicts data.window=5"),
    "few series": ({"files": "b.csv"}, "", "only 2: hold out the end of each"),
}


@pytest.mark.parametrize("case", BAD_STEPS)
def test_bad_steps(folder, case):
    settings, line, message = BAD_STEPS[case]
    write(folder / "a.csv", rows_of())
    write(folder / "b.csv", rows_of(2))
    with (folder / "a.csv").open("a") as file:
        file.write(line)
    with pytest.raises((ValueError, TypeError), match=message):
        table(**{**TASKS["classification"], **settings}).setup("fit")


def test_a_series_is_one_whether_its_name_is_text_or_a_number(folder):
    rows = [(k, *rest) for k, (_, *rest) in enumerate(rows_of(1, 40))]
    write(folder / "a.csv", [(k // 10, *rest) for k, *rest in rows])
    names = HEADER.strip().split(",")
    objects = [dict(zip(names, (0, 99, *rest[1:]), strict=True)) for _, *rest in rows[:1]]
    (folder / "b.jsonl").write_text("\n".join(map(json.dumps, objects)))
    with pytest.raises(ValueError, match="series 0 is in the files of train and of test"):
        table(task="regression", **TASKS["regression"], test_files="b.jsonl").setup("fit")


def test_a_series_in_two_splits_is_refused_unless_it_is_split_by_time(folder):
    write(folder / "a.csv", rows_of())
    write(folder / "b.csv", [(i, t + 50, *rest) for i, t, *rest in rows_of(1)])
    settings = {**TASKS["forecasting"], "test_files": "b.csv"}
    with pytest.raises(
        ValueError, match=r"'s0' is in the files of train and of test.*split_by=time"
    ):
        table(task="forecasting", **settings).setup("fit")
    split = table(
        task="forecasting",
        split_by="time",
        validation=0.4,
        **{**settings, "horizon": 1, "window": 2},
    )
    assert len(split.splits["test"]) == 8


def test_short_series_give_no_window_and_it_is_said(folder):
    write(folder / "a.csv", [row for row in rows_of() if row[0] != "s3" or row[1] < 4])
    data = table(task="forecasting", **TASKS["forecasting"])
    with pytest.warns(UserWarning, match="1 of 10 series of split 'train' have fewer than 6 steps"):
        data.setup("fit")


def test_the_sun_is_split_by_time_and_known(folder):
    data: Any = sunspots(standardize=False)
    lengths = {name: len(split.values) for name, split in data.splits.items()}
    assert lengths == {"train": 2254, "validation": 398, "test": 468}
    months = np.concatenate([data.splits[n].values[:, 0] for n in ("train", "validation", "test")])
    assert months[:3].tolist() == pytest.approx([58.0, 62.6, 70.0])
    assert months[-1] == pytest.approx(0.8)
    batch = data.splits["train"][[0, 5]]
    assert batch.inputs.shape == (2, 132, 1)
    assert torch.equal(batch.targets[0], torch.from_numpy(months[132:144]))
    assert sunspots().fingerprint == "31e712ce2704caff"


def test_a_step_in_the_files_of_two_splits_is_refused_where_it_is_split_by_time(folder):
    write(folder / "a.csv", rows_of())
    write(folder / "b.csv", [(i, t + 9, *rest) for i, t, *rest in rows_of(2)])
    settings = {**TASKS["forecasting"], "test_files": "b.csv", "split_by": "time"}
    with pytest.raises(ValueError, match=r"b.csv, data row 0 .*'s0' at a time that .*train"):
        table(task="forecasting", **settings).setup("fit")


def test_a_step_without_a_class_is_not_predicted_where_it_may_miss(folder):
    rows = [(*row[:4], "NA" if row[1] == 3 else row[4], row[5]) for row in rows_of()]
    write(folder / "a.csv", rows)
    settings = {**TASKS["tagging"], "num_features": 4, "missing": "mask"}
    split = table(task="tagging", **settings).splits["train"]
    assert split.labels == ("a", "b")
    assert (split[[0]].targets[0] == IGNORED).tolist() == [t == 3 for t in range(10)]


def test_a_long_series_is_told_what_cuts_it(folder):
    rows = [("s0", t, t, -t, "a", "u") for t in range(12_000)]
    rows += [(f"s{k}", t, t, -t, "a", "u") for k in range(1, 9) for t in range(3)]
    write(folder / "a.csv", rows)
    with pytest.warns(UserWarning, match="12,000 steps.*data.window=N"):
        table(task="regression", **TASKS["regression"], split_seed=3, test=0.1).setup("fit")
