"""Data that come with the package: speech, handwritten digits, sunspots, Shakespeare's plays.

Sources and licenses: ``assets/NOTICE``.
"""

from __future__ import annotations

import lzma
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from lzma import LZMAError
from typing import IO, TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from lnrnn.data.checks import check_share, check_whole
from lnrnn.data.columns import Rows
from lnrnn.data.datamodule import AnySplits, DataModule, sequence_data, split_data, stream_data
from lnrnn.data.images import Reading
from lnrnn.data.sequences import Claims
from lnrnn.data.splits import Shares, SplitSeed, hold_out, shared_out
from lnrnn.data.steps import Series, splits_of_series
from lnrnn.data.streams import NUM_SYMBOLS
from lnrnn.data.windows import Cut

if TYPE_CHECKING:
    import datasets

ASSETS = files("lnrnn.data") / "assets"


def japanese_vowels(
    *,
    num_features: int | None = 12,
    num_tokens: int | None = None,
    num_classes: int | None = 9,
    length: int | None = None,
    validation: float = 0.2,
    test: float | None = None,
    split_seed: int = 0,
    standardize: bool = True,
    batch_size: int = 32,
    num_workers: int = 0,
    seed: int = 0,
) -> DataModule:
    """Tell nine male speakers apart by two Japanese vowels: 270 recordings to learn, 370 to test.

    A step is a frame of 12 LPC cepstrum coefficients; recordings have 7 to 29.

    Args:
        num_features: 12.
        num_tokens: None; these are not symbols.
        num_classes: 9.
        length: None; recordings vary.
        validation: Part of the recordings not for the test held out, each speaker in proportion.
        test: None: the published test, 370 recordings. A share: all 640 are pooled, and that part
            of them is held out, each speaker in proportion; not comparable with published numbers.
        split_seed: Chooses what is held out. Not the run's seed: runs that are compared share one
            split.
        standardize: Whether to center and scale each coefficient by training statistics.
        batch_size: Sequences in a batch, all processes together.
        num_workers: Loader processes.
        seed: The run's seed, which decides the order.

    Raises:
        TypeError: When constructed, if ``test`` is neither None nor a number.
        ValueError: When constructed, if ``test`` is outside (0, 1).

    Reference:
        Kudo, Toyama and Shimbo, "Multidimensional curve classification using passing-through
        regions", Pattern Recognition Letters 20 (1999); UCI data set 128, doi 10.24432/C5NS47.
    """
    if test is not None:
        check_share(test, "test")
    return sequence_data(
        partial(_read_japanese_vowels, validation, test, split_seed),
        Claims("classification", num_features, num_tokens, num_classes, length),
        standardize=standardize,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
        split="its 370 test recordings are published ones; data.test=0.5 pools all 640 instead"
        if test is None
        else SplitSeed("split_seed", split_seed),
    )


def _read_japanese_vowels(
    validation: float, test: float | None, split_seed: int
) -> datasets.DatasetDict:
    import datasets
    import pyarrow as pa

    def rows(arrays: dict[str, np.ndarray], split: str) -> datasets.Dataset:
        features = arrays[f"{split}_features"]  # (N, 12)
        ends = np.cumsum(arrays[f"{split}_lengths"], dtype=np.int32)
        frames = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
        inputs = pa.ListArray.from_arrays(np.concatenate([[0], ends]).astype(np.int32), frames)
        targets = pa.array(arrays[f"{split}_labels"].astype(np.int64))
        return datasets.Dataset(pa.table({"inputs": inputs, "targets": targets}))

    with _asset("japanese_vowels.npz") as file, np.load(file, allow_pickle=False) as archive:
        arrays = dict(archive)
    learned, tested = rows(arrays, "train"), rows(arrays, "test")
    if test is not None:
        pooled = datasets.concatenate_datasets([learned, tested])
        learned, tested = hold_out(pooled, test, split_seed, "test")
    train, held_out = hold_out(learned, validation, split_seed, "validation")
    return datasets.DatasetDict({"train": train, "validation": held_out, "test": tested})


def digits(
    *,
    num_features: int | None = 8,
    num_tokens: int | None = None,
    num_classes: int | None = 10,
    length: int | None = 8,
    order: str = "rows",
    validation: float = 0.2,
    test: float = 0.2,
    split_seed: int = 0,
    batch_size: int = 32,
    num_workers: int = 0,
    seed: int = 0,
) -> DataModule:
    """Recognize handwritten digits, 1797 images of 8 by 8 pixels, by rows or pixel by pixel.

    Pixels are whole numbers from 0 to 16, divided by 16. There is no official split: 359 images are
    the test, 288 validation and 1150 left to learn from, each digit in proportion. The 13 writers
    are not known by image, so the same hands write in all three.

    Args:
        num_features: 8 for rows, 1 for pixels.
        num_tokens: None; these are not symbols.
        num_classes: 10.
        length: 8 for rows, 64 for pixels.
        order: ``"rows"``: a row is a step, from the top. ``"pixels"``: a pixel is a step, row by
            row. ``"permuted"``: a pixel is a step, in one random order, the same for every image.
        validation: Part of what is not for the test held out.
        test: Part of all images held out.
        split_seed: Chooses both. Not the run's seed: runs that are compared share one split.
        batch_size: Images in a batch, all processes together.
        num_workers: Loader processes.
        seed: The run's seed, which decides the order.

    Raises:
        TypeError: When constructed, if a share is not a number.
        ValueError: When constructed, if a share is outside (0, 1), there is no such order, or
            ``length`` and ``num_features`` are not its.

    Reference:
        Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits" (1998); UCI data set 80,
        doi 10.24432/C50P49, of which these are the test images. Permuted pixels: Le, Jaitly and
        Hinton, arXiv:1504.00941.
    """
    reading = Reading(order, side=8, largest=16)
    reading.check(num_features, length, "digits")
    claims = Claims("classification", num_features, num_tokens, num_classes, length)
    return split_data(
        partial(_read_digits, claims, reading, Shares(validation, test, split_seed)),
        claims,
        standardize=False,
        masked=False,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
        split=SplitSeed("split_seed", split_seed),
    )


def _read_digits(claims: Claims, reading: Reading, shares: Shares) -> AnySplits:
    with _asset("digits.npz") as file, np.load(file, allow_pickle=False) as archive:
        pixels, labels = archive["pixels"], archive["digits"]  # (n, 64), (n,)
    return {
        name: reading.sequences(Rows(name, images), pixels[images], labels[images], claims)
        for name, images in shared_out(labels, (), shares).items()
    }


def sunspots(
    *,
    num_features: int | None = 1,
    num_tokens: int | None = None,
    num_classes: int | None = None,
    window: int = 132,
    horizon: int = 12,
    length: int | None = 132,
    validation: float = 0.15,
    test: float = 0.15,
    standardize: bool = True,
    batch_size: int = 32,
    num_workers: int = 0,
    seed: int = 0,
) -> DataModule:
    """Forecast the monthly number of sunspots, 1749 to 2008: 3120 months.

    The last years are the test, the years before them validation; no month is in two splits.

    Args:
        num_features: 1.
        num_tokens: None; these are not symbols.
        num_classes: None; numbers are predicted.
        window: Months that are seen; a cycle of the sun has about 132.
        horizon: Months that are predicted.
        length: ``window``.
        validation: Part of the months before the test.
        test: Part of all months.
        standardize: Whether to center and scale by training statistics; metrics are in sunspots.
        batch_size: Windows in a batch, all processes together.
        num_workers: Loader processes.
        seed: The run's seed, which decides the order.

    Raises:
        TypeError: When constructed, if a size is not a whole number or a share not a number.
        ValueError: When constructed, if a size is below 1 or a share outside (0, 1). When read, if
            a split has no window.
    """
    check_whole("window", window, smallest=1)
    claims = Claims("regression", num_features, num_tokens, num_classes, length, horizon=horizon)
    if length not in (None, window) or (num_features, num_classes) != (1, None):
        raise ValueError(
            "sunspots are one number a month: data.num_features=1 data.num_classes=null, and "
            f"data.length is data.window; got {num_features}, {num_classes}, {length} and {window}"
        )
    cut, shares = Cut(window, horizon, stride=1), Shares(validation, test, seed=0)
    return split_data(
        partial(_read_sunspots, claims, cut, shares),
        claims,
        standardize=standardize,
        masked=False,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
        split="its last years are the test",
    )


def _read_sunspots(claims: Claims, cut: Cut, shares: Shares) -> AnySplits:
    import pyarrow as pa

    with _asset("sunspots.npz") as file, np.load(file, allow_pickle=False) as archive:
        months = archive["sunspots"]
    series = Series(
        rows=Rows("train", np.arange(len(months)), inputs="sunspots", targets="sunspots"),
        values=months[:, None],
        targets=pa.array(months.astype(np.float64)),
        begins=np.zeros(1, dtype=np.int64),
        lengths=np.array([len(months)]),
    )
    return splits_of_series({"train": series}, claims, shares, cut, by_time=True, gaps=False)


def shakespeare(
    *,
    num_features: int | None = None,
    num_tokens: int | None = NUM_SYMBOLS,
    num_classes: int | None = NUM_SYMBOLS,
    length: int | None = None,
    validation_plays: Sequence[str] = ("Cymbeline", "The Comedy of Errors"),
    test_plays: Sequence[str] = ("Macbeth", "Twelfth Night"),
    batch_size: int = 32,
    window: int = 128,
    num_workers: int = 0,
) -> DataModule:
    """Predict the next character of Shakespeare's 38 plays, 5.0 MB of ASCII.

    Whole plays are held out, so no character on the stage of a test play was ever trained on.

    Args:
        num_features: None; these are symbols.
        num_tokens: 257: the bytes and the padding symbol.
        num_classes: 257; padding is never a target.
        length: None; windows are cut by ``window``.
        validation_plays: Titles held out to follow training.
        test_plays: Titles held out for the final test.
        batch_size: Streams read side by side, all processes together.
        window: Characters per stream and batch, through which gradients flow.
        num_workers: Loader processes.
    """
    return stream_data(
        partial(_read_shakespeare, tuple(validation_plays), tuple(test_plays)),
        Claims("language_modeling", num_features, num_tokens, num_classes, length),
        batch_size=batch_size,
        window=window,
        num_workers=num_workers,
        split="whole plays, named by data.test_plays, are the test",
    )


def plays() -> dict[str, str]:
    """Return the 38 plays by title; each text starts with its title's line."""
    with _asset("shakespeare.txt.xz") as file:
        text = lzma.decompress(file.read()).decode("ascii")
    pieces = re.split(r"^(?=# )", text, flags=re.MULTILINE)[1:]
    return {piece[2 : piece.index("\n")]: piece for piece in pieces}


@contextmanager
def _asset(name: str) -> Iterator[IO[bytes]]:
    """Open one of the package's own files.

    Raises:
        ValueError: If what is read from it is not what was packed.
    """
    path = ASSETS / name
    try:
        with path.open("rb") as file:
            yield file
    except (BadZipFile, zlib.error, LZMAError, EOFError, KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"{path}, which comes with lnrnn, is missing or damaged ({error}): install it again, "
            "pip install --force-reinstall --no-deps lnrnn"
        ) from error


def _read_shakespeare(validation: tuple[str, ...], test: tuple[str, ...]) -> datasets.DatasetDict:
    import datasets

    texts = plays()
    unknown = [title for title in (*validation, *test) if title not in texts]
    if unknown or set(validation) & set(test):
        raise ValueError(
            f"held-out plays must be different titles of the 38; got {list(validation)} and "
            f"{list(test)}; there are {', '.join(texts)}"
        )
    chosen = {
        "train": [title for title in texts if title not in (*validation, *test)],
        "validation": list(validation),
        "test": list(test),
    }
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(
                {"title": titles, "text": [texts[title] for title in titles]}
            )
            for split, titles in chosen.items()
        }
    )
