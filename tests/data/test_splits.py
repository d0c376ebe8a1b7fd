"""Which data say what chooses their test, and that it does."""

import re
from typing import Any

import pytest
import torch

from lnrnn.data import (
    SplitSeed,
    adding,
    copying,
    digits,
    hub_table,
    hub_text,
    japanese_vowels,
    mnist1d,
    shakespeare,
    sunspots,
    table_files,
    text_files,
)

HUB = {"repository": "a/b", "subset": None, "revision": "main"}
STEPS: dict[str, Any] = {
    "files": "x.csv",
    "num_classes": 2,
    "input_columns": ["x"],
    "num_features": 1,
    "num_tokens": None,
}


@pytest.mark.parametrize(
    ("make", "key", "fresh"),
    [
        (digits, "split_seed", False),
        (lambda **seed: japanese_vowels(test=0.5, **seed), "split_seed", False),
        (lambda **seed: mnist1d(**seed), "data_seed", True),
        (lambda **seed: adding(num_train=20, num_test=20, **seed), "data_seed", True),
        (lambda **seed: copying(num_train=20, num_test=20, **seed), "data_seed", True),
    ],
)
def test_the_seed_that_is_named_chooses_the_test(make, key, fresh):
    one, other = make(), make(**{key: 7})
    assert one.split == SplitSeed(key, one.split.seed, fresh)
    assert other.split == SplitSeed(key, 7, fresh)
    first, second = (data.splits["test"].content()[0] for data in (one, other))
    assert first.shape != second.shape or not torch.equal(first, second)
    if not fresh:  # the same examples, shared out in another way
        sums = [sum(part.content()[2].sum() for part in d.splits.values()) for d in (one, other)]
        assert sums[0] == sums[1]


def test_rows_of_a_table_are_held_out_by_its_seed(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"row {i},{i % 2}\n" for i in range(60)))
    one, other = (
        table_files(files=str(path), num_classes=2, test=0.3, split_seed=seed) for seed in (0, 1)
    )
    assert one.split == SplitSeed("split_seed", 0)
    first, second = (data.splits["test"].content()[0] for data in (one, other))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (japanese_vowels(), "published.*data.test=0.5 pools all 640"),
        (shakespeare(), "data.test_plays"),
        (sunspots(), "its last years"),
        (text_files(files="x.txt"), "the end of the text"),
        (hub_text(**HUB), "the hub's split test"),
        (hub_table(**HUB, num_classes=2), "the hub's split test"),
        (table_files(files="x.csv", num_classes=2, test_files="y.csv"), "data.test_files"),
        (table_files(**STEPS), "the end of each series.*split_by=group"),
        (table_files(**STEPS, group_by="id", split_by="time"), "the end of each series"),
    ],
)
def test_data_with_a_fixed_test_say_why(data, why):
    assert isinstance(data.split, str)
    assert re.search(why, data.split)


@pytest.mark.parametrize("by", [{"split_by": "group"}, {"group_by": "id"}])
def test_whole_series_are_held_out_by_a_seed(by):
    assert table_files(**STEPS, **by).split == SplitSeed("split_seed", 0)
