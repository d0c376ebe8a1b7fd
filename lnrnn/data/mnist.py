"""MNIST, and what is packed as it is, from files that the user has: by rows or pixel by pixel."""

from __future__ import annotations

import gzip
import zlib
from functools import partial
from math import prod
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from lnrnn.data.checks import check_share
from lnrnn.data.columns import Rows
from lnrnn.data.datamodule import AnySplits, DataModule, split_data
from lnrnn.data.images import Reading
from lnrnn.data.sequences import Claims
from lnrnn.data.splits import held_out

SIDE = 28
ARRAYS = ("x_train", "y_train", "x_test", "y_test")  # of an archive
PARTS = (  # of a folder: the names before "-idx3-ubyte" or ".idx3-ubyte", and their dimensions
    ("train-images", 3),
    ("train-labels", 1),
    ("t10k-images", 3),
    ("t10k-labels", 1),
)


def mnist(
    *,
    file: str,
    num_features: int | None = 28,
    num_tokens: int | None = None,
    num_classes: int | None = 10,
    length: int | None = 28,
    order: str = "rows",
    validation: float = 1 / 6,
    split_seed: int = 0,
    batch_size: int = 100,
    num_workers: int = 0,
    seed: int = 0,
) -> DataModule:
    """Recognize handwritten digits, images of 28 by 28 pixels, by rows or pixel by pixel.

    The images do not come with the package. Pixels are whole numbers from 0 to 255, divided by 255.
    The file's own 10,000 test images are the test. Fashion-MNIST and Kuzushiji-MNIST are packed
    alike and read as well.

    Args:
        file: A folder with the four files of the original, gzipped or not
            (``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-...``), or an ``.npz``
            with ``x_train``, ``y_train``, ``x_test`` and ``y_test``, as Keras has it.
        num_features: 28 for rows, 1 for pixels.
        num_tokens: None; these are not symbols.
        num_classes: 10.
        length: 28 for rows, 784 for pixels.
        order: ``"rows"``, ``"pixels"`` or ``"permuted"``, as in `lnrnn.data.digits`.
        validation: Part of the 60,000 held out, each class in proportion.
        split_seed: Chooses it. Not the run's seed: runs that are compared share one split.
        batch_size: Images in a batch, all processes together.
        num_workers: Loader processes.
        seed: The run's seed, which decides the order.

    Raises:
        TypeError: When constructed, if ``validation`` is not a number.
        ValueError: When constructed, if ``validation`` is outside (0, 1), there is no such order,
            or ``length`` and ``num_features`` are not its. When read, if a file is not what its
            name says.
        FileNotFoundError: When read, if there is no such file.

    Reference:
        LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
        recognition", Proceedings of the IEEE 86 (1998). Pixel by pixel and permuted: Le, Jaitly and
        Hinton, arXiv:1504.00941.
    """
    reading = Reading(order, SIDE, largest=255)
    reading.check(num_features, length, "mnist")
    check_share(validation, "validation")
    claims = Claims("classification", num_features, num_tokens, num_classes, length)
    return split_data(
        partial(_read, file, claims, reading, validation, split_seed),
        claims,
        standardize=False,
        masked=False,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
        split="its test images are published ones",
    )


def _read(
    file: str, claims: Claims, reading: Reading, validation: float, split_seed: int
) -> AnySplits:
    path = Path(file).expanduser()
    pixels, labels, test_pixels, test_labels = _arrays(path)
    for images, digits in ((pixels, labels), (test_pixels, test_labels)):
        if images.shape != (len(digits), SIDE, SIDE) or images.dtype != np.uint8:
            raise ValueError(
                f"{path} must hold images of {SIDE} by {SIDE} bytes and a label for each, but has "
                f"{images.shape} {images.dtype} and {digits.shape} labels"
            )
    held = held_out(labels, validation, split_seed, "validation")
    parts = {"train": np.flatnonzero(~held), "validation": np.flatnonzero(held)}
    splits = {
        name: reading.sequences(
            Rows(name, images), pixels[images].reshape(-1, SIDE**2), labels[images], claims
        )
        for name, images in parts.items()
    }
    tested = test_pixels.reshape(-1, SIDE**2)
    return {**splits, "test": reading.sequences(Rows("test"), tested, test_labels, claims)}


def _arrays(path: Path) -> list[np.ndarray]:
    """Return images and labels to learn from, and those of the test."""
    if path.is_dir():
        return [_idx(_file_of(path, name, axes), axes) for name, axes in PARTS]
    if not path.is_file():
        raise FileNotFoundError(
            "data.file must be a folder with the four files of MNIST, or an .npz, but there is no "
            f"{path} in {Path.cwd()}. The package has no copy of the images; digits of 8 by 8 "
            "pixels come with it: data=digits"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            return [archive[name] for name in ARRAYS]
    except (ValueError, KeyError, AttributeError, BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(
            f"{path} must be an .npz with the arrays {', '.join(ARRAYS)} ({error})"
        ) from error


def _file_of(folder: Path, name: str, axes: int) -> Path:
    names = [f"{name}{dot}idx{axes}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise FileNotFoundError(
        f"data.file={folder} needs the four files of MNIST, but has no {names[0]} (or .gz)"
    )


def _idx(path: Path, axes: int) -> np.ndarray:
    """Return the bytes of an IDX file, whose header says how many there are along each axis."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            header = np.frombuffer(file.read(4 + 4 * axes), dtype=">i4")
            if len(header) != 1 + axes or header[0] != 0x800 + axes:
                raise ValueError("it does not begin as one")
            sizes = [int(size) for size in header[1:]]
            if min(sizes) < 1 or prod(sizes) > 2**31:
                raise ValueError(f"its header says {sizes}")
            count = prod(sizes)
            content = file.read(count + 1)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not an IDX file of bytes with {axes} axes: {error}") from error
    if len(content) != count:
        found = f"{len(content)}" if len(content) < count else "more"
        raise ValueError(f"{path} should hold {count} bytes by its header, but holds {found}")
    return np.frombuffer(content, dtype=np.uint8).reshape(sizes)
