"""Decoding, checking and padding of rows that the tests write themselves."""

import datasets
import numpy as np
import pytest
import torch

from lnrnn.data.batch import IGNORED
from lnrnn.data.datamodule import sequence_data
from lnrnn.data.scaling import scale_inputs
from lnrnn.data.sequences import Claims, sequences_from
from lnrnn.data.splits import hold_out

FEATURES = Claims("classification", 2, None, 3, None)
SYMBOLS = Claims("classification", None, 11, 3, None)
TEXT = Claims("classification", None, 257, 3, None)


def rows(inputs, targets):
    return datasets.Dataset.from_dict({"inputs": inputs, "targets": targets})


def decoded(inputs, targets, claims=FEATURES, **kwargs):
    return sequences_from("train", rows(inputs, targets), claims, **kwargs)


def test_ragged_features_are_padded_at_the_end():
    frames = [[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0], [7.0, 8.0]], [[9.0, 1.0], [2.0, 3.0]]]
    batch = decoded(frames, [0, 2, 1])[[2, 0]]
    assert batch.inputs.tolist() == [[[9, 1], [2, 3]], [[1, 2], [0, 0]]]
    assert batch.targets.tolist() == [1, 0]
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [2, 1]
    assert (batch.inputs.dtype, batch.targets.dtype) == (torch.float32, torch.int64)
    assert batch.lengths.dtype == torch.int64


def test_full_length_sequences_have_no_lengths():
    split = decoded([[1, 2, 3], [4, 5, 6]], [0, 1], SYMBOLS)
    batch = split[[1]]
    assert batch.inputs.tolist() == [[4, 5, 6]]
    assert batch.inputs.dtype == torch.int64
    assert batch.lengths is None


def test_text_becomes_bytes_and_padding_is_no_byte():
    batch = decoded(["né", "a", "abc"], [0, 1, 2], TEXT)[[0, 1]]
    assert batch.inputs.tolist() == [[*"né".encode()], [97, 256, 256]]
    assert batch.inputs.dtype == torch.int64


def test_one_feature_may_be_a_plain_list():
    claims = Claims("classification", 1, None, 3, None)
    assert decoded([[1.5, 2.5], [3.5]], [0, 1], claims)[[0]].inputs.tolist() == [[[1.5], [2.5]]]


def test_tagging_pads_targets_with_nothing_to_predict():
    claims = Claims("tagging", None, 11, 5, None)
    batch = decoded([[1, 2], [3]], [[4, 0], [1]], claims)[[1, 0]]
    assert batch.targets.tolist() == [[1, IGNORED], [4, 0]]


def test_regression_targets_are_float32():
    batch = decoded([[[1.0, 2.0]]], [0.5], Claims("regression", 2, None, None, None))[[0]]
    assert batch.targets.dtype == torch.float32


def test_max_length_keeps_the_beginning():
    split = decoded(["abcd", "xy", "efghi"], [0, 1, 2], TEXT, max_length=3)
    assert bytes(split.values.tolist()) == b"abcxyefg"
    assert split.lengths.tolist() == [3, 2, 3]


def test_statistics_come_from_valid_frames_of_train_only():
    train = decoded([[[1.0, 7.0]], [[3.0, 7.0], [8.0, 7.0]]], [0, 1])
    test = decoded([[[100.0, 9.0]]], [2])
    scaled = {"train": train, "test": test}
    scale_inputs(scaled)
    values = scaled["train"].values
    torch.testing.assert_close(values.mean(0), torch.zeros(2))
    torch.testing.assert_close(values[:, 0].std(correction=0), torch.tensor(1.0))
    std = np.std([1.0, 3.0, 8.0])
    torch.testing.assert_close(scaled["test"].values[0].tolist(), [96 / std, 2.0])


BAD = {
    "an empty sequence": ([[[1.0, 2.0]], []], [0, 1], FEATURES, "split 'train', row 1 is empty"),
    "a missing text": (["a", None], [0, 1], TEXT, "row 1 is empty"),
    "not finite": ([[[1.0, 2.0]], [[0.0, float("nan")]]], [0, 1], FEATURES, "row 1 has"),
    "a target beyond float32": (
        [[[1.0, 2.0]], [[0.0, 1.0]]],
        [0.5, 1e300],
        Claims("regression", 2, None, None, None),
        "row 1 has 1e[+]300",
    ),
    "features": ([[[1.0, 2.0, 3.0]]], [0], FEATURES, "num_features=2 does not fit"),
    "some features": (
        [[[1.0, 2.0]], [[1.0]]],
        [0, 0],
        FEATURES,
        "row 1, whose steps have 1 values",
    ),
    "text for features": (["ab"], [0], FEATURES, "says 2 features a step, but the inputs"),
    "numbers for text": ([[0.5, 0.5]], [0], TEXT, "says symbols or text, but the inputs"),
    "scalars": ([0.5, 0.5], [0, 1], FEATURES, "are double"),
    "symbol": ([[1, 11]], [0], SYMBOLS, "num_tokens=11 allows symbols 0 to 10.*row 0 has 11"),
    "label": ([[1], [2]], [0, 3], SYMBOLS, "num_classes=3 allows labels 0 to 2.*row 1 has 3"),
    "negative label": ([[1], [2]], [0, -1], SYMBOLS, "row 1 has -1"),
    "half a label": ([[1], [2]], [0, 0.5], SYMBOLS, "whole number.*row 1 has 0.5"),
    "no label": ([[1], [2]], [0, None], SYMBOLS, "missing in split 'train', row 1"),
    "words for labels": ([[1]], ["cat"], SYMBOLS, "expected numbers"),
    "no rows": ([], [], SYMBOLS, "split 'train' has no rows"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_named(case):
    inputs, targets, claims, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        decoded(inputs, targets, claims)


def test_a_claimed_length_is_checked():
    claims = Claims("classification", None, 11, 3, 2)
    with pytest.raises(ValueError, match=r"data.length=2 .*row 1 has 3"):
        decoded([[1, 2], [1, 2, 3]], [0, 1], claims)


def test_every_step_needs_its_class():
    with pytest.raises(ValueError, match="row 1 has 1 steps and 2 classes"):
        decoded([[1], [2]], [[0], [1, 1]], Claims("tagging", None, 11, 5, None))


def test_classes_that_never_occur_contradict_the_claim():
    def source():
        return datasets.DatasetDict({"train": rows([[1], [2]], [0, 1])})

    datamodule = sequence_data(source, SYMBOLS, batch_size=1, num_workers=0, seed=0)
    with pytest.raises(ValueError, match=r"num_classes=3 does not fit.*set data.num_classes=2"):
        datamodule.setup("fit")


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        (("classification", 2, 3, 4, None), "exactly one of num_features and num_tokens"),
        (("classification", None, None, 4, None), "exactly one of num_features and num_tokens"),
        (
            ("classification", 2, None, None, None),
            "classification cannot have data.num_classes=None",
        ),
        (("regression", 2, None, 4, None), "regression cannot have data.num_classes=4"),
        (("classification", 0, None, 4, None), "num_features must be at least 1, got 0"),
    ],
)
def test_claims_that_make_no_sense(claims, message):
    with pytest.raises(ValueError, match=message):
        Claims(*claims)


def test_a_share_holds_out_every_class_in_proportion():
    dataset = rows([[i] for i in range(100)], [0] * 60 + [1] * 30 + [2] * 10)
    rest, held = hold_out(dataset, 0.1, seed=0, purpose="validation")
    assert np.bincount(held["targets"][:]).tolist() == [6, 3, 1]
    numbers = [row[0] for part in (rest, held) for row in part["inputs"]]
    assert sorted(numbers) == list(range(100))
    again = hold_out(dataset, 0.1, seed=0, purpose="validation")[1]
    other = hold_out(dataset, 0.1, seed=1, purpose="validation")[1]
    assert held["inputs"][:] == again["inputs"][:]
    assert held["inputs"][:] != other["inputs"][:]


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_a_share_lies_between_0_and_1(share):
    with pytest.raises(ValueError, match="share must be between 0 and 1"):
        hold_out(rows([[1], [2]], [0, 1]), share, seed=0, purpose="validation")


def test_one_row_cannot_be_shared():
    with pytest.raises(ValueError, match="at least two rows"):
        hold_out(rows([[1]], [0]), 0.5, seed=0, purpose="validation")
