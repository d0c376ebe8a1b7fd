import hashlib
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lnrnn.data import adding, copying, mnist1d
from lnrnn.data.generated import mnist1d_arrays


@pytest.fixture(scope="module")
def arrays():
    return mnist1d_arrays()


def test_another_seed_generates_another_mnist1d():
    one, other = mnist1d(), mnist1d(data_seed=43)
    assert one.fingerprint == mnist1d(data_seed=42).fingerprint != other.fingerprint
    first, second = one.splits["test"], other.splits["test"]
    assert len(first) == len(second) == 1000
    assert not torch.equal(first.content()[0], second.content()[0])
    for seed in (-1, 2**32, 1.5):
        with pytest.raises((TypeError, ValueError), match="data_seed must be"):
            mnist1d(data_seed=seed)  # pyright: ignore[reportArgumentType]


def test_mnist1d_equals_the_published_set(arrays):
    types = (np.float32, np.int64, np.float32, np.int64)  # x, y, x_test, y_test
    digests = [
        hashlib.sha256(np.ascontiguousarray(array.astype(dtype)).tobytes()).hexdigest()
        for array, dtype in zip(arrays, types, strict=True)
    ]
    assert digests == [
        "d53506bddd12d3b72c7153b1ae7f34807724b1dd078a7273809bf9d0792319f6",
        "d97dc7aecec8ad6b5d8f143ba3e9c4bd7e25c420d7dfc2eb990591cfc0ed3e15",
        "30addc43827c82aafa5db8bc97cea63349ca687e87db2f201cc4f5415d9a4ebd",
        "8de99be3ff9dab15ae0dc072c3d6ced7cf6b33d365888ce4a386fc944489452c",
    ]


def test_mnist1d_splits(arrays):
    datamodule = mnist1d()
    splits: Any = datamodule.splits
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 3600,
        "validation": 400,
        "test": 1000,
    }
    rows = [row.tobytes() for row in arrays[0].astype(np.float32)]
    parts = [
        row.numpy().tobytes()
        for name in ("train", "validation")
        for row in splits[name].values.view(-1, 40)
    ]
    assert sorted(parts) == sorted(rows)
    assert np.array_equal(splits["test"].values.numpy().reshape(1000, 40), arrays[2].astype("f4"))
    per_digit = splits["validation"].targets.bincount() / torch.from_numpy(arrays[1]).bincount()
    assert (per_digit - 0.1).abs().max() < 0.01
    batch = next(iter(datamodule.train_dataloader()))
    assert batch.inputs.shape == (100, 40, 1)
    assert batch.lengths is None


def test_adding_is_the_sum_of_the_two_marked_numbers():
    datamodule = adding(length=11, num_train=500)
    batch = datamodule.splits["train"][list(range(500))]
    numbers, markers = batch.inputs.unbind(dim=-1)  # (500, 11)
    assert (markers[:, :5].sum(1) == 1).all()
    assert (markers[:, 5:].sum(1) == 1).all()
    assert set(markers.unique().tolist()) == {0, 1}
    torch.testing.assert_close(batch.targets, (numbers * markers).sum(1))
    assert batch.targets.shape == (500,)
    assert batch.targets.dtype == torch.float32
    assert batch.lengths is None


def test_answering_1_to_adding_costs_a_sixth():
    train: Any = adding(num_train=5000).splits["train"]
    targets = train.targets
    assert (targets - 1).square().mean().item() == pytest.approx(1 / 6, rel=0.05)


def test_copying_repeats_the_first_ten_symbols():
    datamodule = copying(length=33)
    batch = datamodule.splits["test"][[3, 5]]
    assert batch.inputs.shape == batch.targets.shape == (2, 33)
    assert ((batch.inputs[:, :10] >= 1) & (batch.inputs[:, :10] <= 8)).all()
    assert (batch.inputs[:, 10:22] == 0).all()
    assert (batch.inputs[:, 22:] == 9).all()
    assert torch.equal(batch.targets[:, -10:], batch.inputs[:, :10])
    assert (batch.targets[:, :-10] == 0).all()


def test_remembering_nothing_costs_what_the_docstring_says():
    train: Any = copying(length=50).splits["train"]
    targets = train.targets.view(-1, 50)
    scores = torch.full((50, 10), -math.inf)  # sure of the blanks, even over 1..8 at the end
    scores[:40, 0], scores[40:, 1:9] = 0.0, 0.0
    loss = F.cross_entropy(scores.expand(len(targets), -1, -1).flatten(0, 1), targets.flatten())
    assert loss.item() == pytest.approx(10 * math.log(8) / 50, rel=1e-4)


@pytest.mark.parametrize("problem", [adding, copying])
def test_generated_splits_differ_and_follow_data_seed_only(problem):
    one, other = problem(seed=0), problem(seed=5)
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != problem(data_seed=1).fingerprint
    train: Any = one.splits["train"]
    test: Any = one.splits["test"]
    assert not torch.equal(train.values[: len(test.values)], test.values)


@pytest.mark.parametrize(
    ("problem", "settings", "message"),
    [
        (adding, {"length": 1}, "at least 2 steps, got 1"),
        (adding, {"length": None}, "at least 2 steps, got None"),
        (adding, {"num_train": 0}, "data.num_train must be at least 1"),
        (adding, {"num_features": 1}, "num_features=1 does not fit"),
        (copying, {"length": 20}, "at least 21"),
        (copying, {"num_tokens": 9}, "num_tokens=9 allows symbols 0 to 8"),
        (copying, {"num_classes": 8}, "num_classes=8 allows labels 0 to 7"),
        (mnist1d, {"length": 41}, "data.length=41 says"),
        (mnist1d, {"validation": 0.0}, "share must be between 0 and 1"),
    ],
)
def test_bad_settings(problem, settings, message):
    with pytest.raises(ValueError, match=message):
        problem(**settings).setup("fit")
