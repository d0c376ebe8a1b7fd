import hashlib
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import torch

from lnrnn.data import digits, japanese_vowels, shakespeare
from lnrnn.data.embedded import plays


@pytest.fixture(scope="module")
def vowels():
    return japanese_vowels(standardize=False, validation=0.1)


def test_japanese_vowels_are_the_archive(vowels):
    with (files("lnrnn.data") / "assets" / "japanese_vowels.npz").open("rb") as file:
        archive = dict(np.load(file))
    test = vowels.splits["test"]
    assert torch.equal(test.values, torch.from_numpy(archive["test_features"]))
    assert test.lengths.tolist() == archive["test_lengths"].tolist()
    assert test.targets.tolist() == archive["test_labels"].tolist()
    train, validation = vowels.splits["train"], vowels.splits["validation"]
    assert (len(train), len(validation), len(test)) == (243, 27, 370)
    assert train.targets.bincount().tolist() == [27] * 9
    assert validation.targets.bincount().tolist() == [3] * 9

    def recordings(values, lengths):
        return [part.numpy().tobytes() for part in values.split(lengths.tolist())]

    held = recordings(validation.values, validation.lengths)
    rest = recordings(train.values, train.lengths)
    lengths = torch.from_numpy(archive["train_lengths"].astype(np.int64))
    everything = recordings(torch.from_numpy(archive["train_features"]), lengths)
    assert sorted(held + rest) == sorted(everything)
    assert not set(held) & set(rest)


def test_japanese_vowels_are_standardized_by_training_frames(vowels):
    scaled: Any = japanese_vowels(validation=0.1).splits
    raw: Any = vowels.splits
    torch.testing.assert_close(scaled["train"].values.mean(0), torch.zeros(12))
    mean, std = raw["train"].values.mean(0), raw["train"].values.std(0, correction=0)
    expected = (raw["test"].values - mean) / std
    torch.testing.assert_close(scaled["test"].values, expected)


def test_japanese_vowels_may_be_pooled(vowels):
    pooled: Any = japanese_vowels(standardize=False, test=0.5).splits
    assert {name: len(split) for name, split in pooled.items()} == {
        "train": 256,
        "validation": 64,
        "test": 320,
    }

    def recordings(splits):
        return sorted(
            part.numpy().tobytes() + bytes([speaker])
            for split in splits.values()
            for part, speaker in zip(
                split.values.split(split.lengths.tolist()), split.targets.tolist(), strict=True
            )
        )

    assert recordings(pooled) == recordings(vowels.splits)
    # UCI: 30 of each speaker to learn, and 24 to 88 to test.
    whole = 30 + vowels.splits["test"].targets.bincount()
    assert (pooled["test"].targets.bincount() - whole / 2).abs().max() <= 1
    other: Any = japanese_vowels(standardize=False, test=0.5, split_seed=1).splits
    assert recordings(other) == recordings(pooled)
    assert recordings({"test": other["test"]}) != recordings({"test": pooled["test"]})


def test_batches_of_japanese_vowels():
    batch = next(iter(japanese_vowels().train_dataloader()))
    assert batch.inputs.shape[0] == 32
    assert batch.inputs.shape[2] == 12
    assert batch.lengths is not None
    assert batch.inputs.shape[1] == batch.lengths.max()
    for row, length in zip(batch.inputs, batch.lengths, strict=True):
        assert (row[length:] == 0).all()
        assert (row[:length] != 0).any(dim=1).all()


def test_the_split_does_not_follow_the_seed_of_the_run():
    one, other = japanese_vowels(seed=0), japanese_vowels(seed=1)
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != japanese_vowels(split_seed=1).fingerprint
    assert one.fingerprint != japanese_vowels(standardize=False).fingerprint
    first, second = (next(iter(d.train_dataloader())).targets for d in (one, other))
    assert not torch.equal(first, second)


def test_fingerprint_is_the_same_in_every_run(vowels):
    assert vowels.fingerprint == "230d1e1a5d0a16ec"


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ({"num_features": 13}, "num_features=13 does not fit split 'train', row 0"),
        ({"num_classes": 8}, "num_classes=8 allows labels 0 to 7, but split 'train'"),
        ({"num_classes": 10}, "num_classes=10 does not fit"),
        ({"length": 20}, "data.length=20 says"),
        ({"num_features": None, "num_tokens": 257}, "says symbols or text"),
        ({"validation": 1.0}, "share must be between 0 and 1"),
        ({"test": 1.0}, "test share must be between 0 and 1"),
    ],
)
def test_claims_that_the_vowels_contradict(claim, message):
    with pytest.raises(ValueError, match=message):
        japanese_vowels(**claim).setup("fit")


PIXELS: dict[str, Any] = {"num_features": 1, "length": 64}


def archived_digits():
    with (files("lnrnn.data") / "assets" / "digits.npz").open("rb") as file:
        archive = dict(np.load(file))
    return archive["pixels"], archive["digits"]


def images(split):
    """The images of a split as they are written, (n, 64) whole numbers from 0 to 16."""
    return (split.values.reshape(len(split), 64) * 16).to(torch.uint8)


def test_the_digits_are_the_published_ones():
    pixels, labels = archived_digits()
    digest = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    assert digest == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
    assert digest in (files("lnrnn.data") / "assets" / "NOTICE").read_text()
    # The counts that UCI's page lists for its test file.
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_every_digit_is_in_one_split_and_each_class_in_proportion():
    splits: Any = digits().splits
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [1150, 288, 359]
    pixels, labels = archived_digits()
    parts = [
        image.numpy().tobytes() + bytes([digit])
        for split in splits.values()
        for image, digit in zip(images(split), split.targets.tolist(), strict=True)
    ]
    whole = [x.tobytes() + bytes([y]) for x, y in zip(pixels, labels, strict=True)]
    assert sorted(parts) == sorted(whole)
    for split in splits.values():
        share = torch.from_numpy(np.bincount(labels)) * len(split) / len(labels)
        assert (split.targets.bincount() - share).abs().max() < 2


def test_digits_are_read_by_rows_by_pixels_and_permuted():
    rows: Any = digits().splits
    one: Any = digits(order="pixels", **PIXELS).splits
    shuffled: Any = digits(order="permuted", **PIXELS).splits
    assert rows["test"].values.shape == (359 * 8, 8)
    assert one["test"].values.shape == shuffled["test"].values.shape == (359 * 64, 1)
    order = torch.from_numpy(np.random.RandomState(0).permutation(64))
    assert order[:8].tolist() == [45, 29, 43, 61, 34, 33, 31, 40]  # for every version of NumPy
    for name in rows:
        assert torch.equal(images(one[name]), images(rows[name]))
        assert torch.equal(images(shuffled[name]), images(rows[name])[:, order])
        assert torch.equal(shuffled[name].targets, rows[name].targets)


def test_new_digits_are_divided_as_those_that_were_learned_from():
    data = digits()
    scaling = data.preparation.scaling
    assert scaling is not None
    assert (scaling.mean, scaling.std) == ((0.0,) * 8, (16.0,) * 8)
    assert data.splits["train"].content()[0].max() == 1


def test_the_split_of_digits_has_a_seed_of_its_own():
    one = digits()
    assert one.fingerprint == digits(seed=1).fingerprint == "bfc7ecbb4752b910"
    other: Any = digits(split_seed=1)
    assert one.fingerprint != other.fingerprint
    held: Any = one.splits["test"]
    assert not torch.equal(images(held), images(other.splits["test"]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": "pixels"}, "64 steps of 1: data.length=64 data.num_features=1.*digits_pixels"),
        ({"num_features": 1}, "order=rows makes 8 steps of 8.*as data=digits sets them; got 8 and"),
        ({"order": "columns"}, "must be one of rows, pixels, permuted, got 'columns'"),
        ({"test": 1.0}, "test share must be between 0 and 1"),
        ({"validation": 0.0}, "validation share must be between 0 and 1"),
    ],
)
def test_settings_that_the_digits_refuse(settings, message):
    with pytest.raises(ValueError, match=message):
        digits(**settings)


def test_the_plays_are_the_published_text():
    texts = plays()
    assert len(texts) == 38
    whole = "".join(texts.values())
    assert len(whole) == 4_998_948
    digest = hashlib.sha256(whole.encode()).hexdigest()
    assert digest == "4b9b41286133893b561d9ebeb4007510fe3955077b0bee679d3950fd7c993aea"


def test_whole_plays_are_held_out():
    splits: Any = shakespeare().splits
    texts = plays()

    def read(name):
        return bytes(splits[name].text.numpy()).decode("ascii")

    assert read("validation") == texts["Cymbeline"] + texts["The Comedy of Errors"]
    assert read("test") == texts["Macbeth"] + texts["Twelfth Night"]
    held = {"Cymbeline", "The Comedy of Errors", "Macbeth", "Twelfth Night"}
    assert read("train") == "".join(texts[title] for title in texts if title not in held)


def test_shakespeare_batches_are_shifted_text():
    loader = iter(shakespeare(batch_size=4, window=10).train_dataloader())
    first, second = next(loader), next(loader)
    assert torch.equal(first.inputs[:, 1:], first.targets[:, :-1])
    assert torch.equal(first.targets[:, -1], second.inputs[:, 0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_plays": ["Macbeth", "Faust"]}, "different titles of the 38; .*Hamlet"),
        ({"test_plays": ["Cymbeline"]}, "different titles"),
        ({"num_tokens": 256}, "data.num_tokens and data.num_classes must be 257"),
        ({"length": 5}, "data.length null"),
        ({"window": 0}, "data.window must be at least 1"),
        ({"window": 10_000_000}, "the largest that fits is data.window="),
    ],
)
def test_bad_settings_of_shakespeare(settings, message):
    with pytest.raises(ValueError, match=message):
        shakespeare(**settings).setup("fit")
