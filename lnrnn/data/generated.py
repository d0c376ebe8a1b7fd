"""Data made on the spot: MNIST-1D, the adding problem and the copying problem.

All are functions of their arguments alone and need no file.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lnrnn.data.checks import check_whole
from lnrnn.data.datamodule import DataModule, sequence_data
from lnrnn.data.sequences import Claims
from lnrnn.data.splits import SplitSeed, hold_out
from lnrnn.seeding import derive_seed

if TYPE_CHECKING:
    import datasets

PUBLISHED_SEED = 42  # of MNIST-1D
# Greydanus and Kobak's templates of the digits (package `mnist1d`, Apache-2.0; assets/NOTICE).
TEMPLATES = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)


def mnist1d(
    *,
    num_features: int | None = 1,
    num_tokens: int | None = None,
    num_classes: int | None = 10,
    length: int | None = 40,
    validation: float = 0.1,
    split_seed: int = 0,
    data_seed: int = PUBLISHED_SEED,
    batch_size: int = 100,
    num_workers: int = 0,
    seed: int = 0,
) -> DataModule:
    """Recognize ten one-dimensional digits: 4000 sequences to learn, 1000 to test, 40 steps of one.

    With the default seed equal to the published set. Published test accuracy: logistic regression
    32 %, MLP 68 %, GRU 91 %, CNN 94 %, people 96 %.

    Args:
        num_features: 1.
        num_tokens: None; these are not symbols.
        num_classes: 10.
        length: 40.
        validation: Part of the 4000 held out, each digit in proportion.
        split_seed: Chooses it. Not the run's seed: runs that are compared share one split.
        data_seed: 42 generates the published set, another one another set of the same kind, 0 or
            more and below 2**32.
        batch_size: Sequences in a batch, all processes together.
        num_workers: Loader processes.
        seed: The run's seed, which decides the order.

    Raises:
        TypeError: When constructed, if ``data_seed`` is not a whole number.
        ValueError: When constructed, if it is outside its range.

    Reference:
        Greydanus and Kobak, "Scaling Down Deep Learning with MNIST-1D", arXiv:2011.14439.
    """
    check_whole("data_seed", data_seed, smallest=0)
    if data_seed >= 2**32:
        raise ValueError(f"data.data_seed must be below 2**32, got {data_seed}")
    return sequence_data(
        partial(_read_mnist1d, validation, split_seed, data_seed),
        Claims("classification", num_features, num_tokens, num_classes, length),
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
        split=SplitSeed("data_seed", data_seed, fresh=True),
    )


def mnist1d_arrays(
    seed: int = PUBLISHED_SEED,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Generate x (4000, 40), y (4000,), x_test, y_test, float64; by default the published set."""
    random = np.random.RandomState(seed)
    digits = np.repeat(np.arange(10), 500)
    x = np.stack([_digit(np.array(TEMPLATES[digit], dtype=float), random) for digit in digits])
    order = random.permutation(len(x))
    x, digits = x[order], digits[order]
    x = (x - x.mean()) / x.std()
    return x[:4000], digits[:4000], x[4000:], digits[4000:]


def _digit(template: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Draw one example, (40,). The order of the draws is part of the definition."""
    template = (template - template.mean()) / template.std()
    template = (template - template[0]) / 6
    padding = np.zeros(36 + int(random.rand() * 25))
    x = _resampled(np.concatenate([template + 1e-8, padding]), 72)
    x = x * (1 + 0.4 * (random.rand() - 0.5))
    shift = random.choice(48)
    x = np.concatenate([x[-shift:], x[:-shift]])
    digit = x != 0
    x = digit * x + ~digit * _smoothed(0.25 * random.randn(72))
    x = x + 0.02 * random.randn(72)
    x = x - 0.75 * (random.rand() - 0.5) * np.linspace(-0.5, 0.5, 72)
    return _resampled(x, 40)


def _resampled(x: np.ndarray, steps: int) -> np.ndarray:
    """Interpolate linearly at ``steps`` equal distances, both ends included."""
    return np.interp(np.linspace(0, 1, steps), np.linspace(0, 1, len(x)), x)


def _smoothed(x: np.ndarray, sigma: float = 2.0, radius: int = 8) -> np.ndarray:
    """Convolve with a Gaussian cut off at 4 sigma, mirroring at the ends."""
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.convolve(np.pad(x, radius, mode="symmetric"), kernel / kernel.sum(), mode="valid")


def _read_mnist1d(validation: float, split_seed: int, data_seed: int) -> datasets.DatasetDict:
    import datasets

    x, y, x_test, y_test = mnist1d_arrays(data_seed)
    learn = _dataset(x.astype(np.float32)[..., None], y)
    train, held_out = hold_out(learn, validation, split_seed, "validation")
    test = _dataset(x_test.astype(np.float32)[..., None], y_test)
    return datasets.DatasetDict({"train": train, "validation": held_out, "test": test})


def adding(
    *,
    num_features: int | None = 2,
    num_tokens: int | None = None,
    num_classes: int | None = None,
    length: int | None = 100,
    num_train: int = 10_000,
    num_validation: int = 1_000,
    num_test: int = 1_000,
    data_seed: int = 0,
    batch_size: int = 50,
    num_workers: int = 0,
    seed: int = 0,
) -> DataModule:
    """Add the two marked numbers of a sequence.

    A step is a number from U[0, 1) and a marker, which is 1 once in the first half and once in the
    second and 0 elsewhere; the target is the sum of the two numbers. Always answering 1 has a mean
    squared error of 1/6 = 0.1667; whatever stays there has learned nothing.

    Args:
        num_features: 2.
        num_tokens: None; these are not symbols.
        num_classes: None; the target is a number.
        length: Steps, at least 2.
        num_train: Sequences to learn.
        num_validation: Sequences to follow training.
        num_test: Sequences for the final test.
        data_seed: Decides the sequences. Not the run's seed: compared runs share the data.
        batch_size: Sequences in a batch, all processes together.
        num_workers: Loader processes.
        seed: The run's seed, which decides the order.

    Reference:
        Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 9 (1997), 5.4.
    """
    claims = Claims("regression", num_features, num_tokens, num_classes, length)
    if length is None or length < 2:
        raise ValueError(f"the adding problem needs data.length of at least 2 steps, got {length}")
    sizes = _split_sizes(num_train, num_validation, num_test)
    return sequence_data(
        partial(_generate, "adding", length, sizes, data_seed),
        claims,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
        split=SplitSeed("data_seed", data_seed, fresh=True),
    )


def copying(
    *,
    num_features: int | None = None,
    num_tokens: int | None = 10,
    num_classes: int | None = 10,
    length: int | None = 50,
    num_train: int = 10_000,
    num_validation: int = 1_000,
    num_test: int = 1_000,
    data_seed: int = 0,
    batch_size: int = 50,
    num_workers: int = 0,
    seed: int = 0,
) -> DataModule:
    """Repeat ten symbols after a long pause.

    With T = length - 20: ten symbols of 1..8, T - 1 zeros, eleven 9s; the target is T + 10 zeros
    and then the ten symbols. Remembering nothing costs 10 ln 8 / (T + 20) nats a step (0.416 at
    length 50). Gated networks do not solve it at T = 1000; T = 20 to 50 is within reach.

    Args:
        num_features: None; these are symbols.
        num_tokens: 10.
        num_classes: 10, one per symbol.
        length: Steps, at least 21.
        num_train: Sequences to learn.
        num_validation: Sequences to follow training.
        num_test: Sequences for the final test.
        data_seed: Decides the sequences. Not the run's seed: compared runs share the data.
        batch_size: Sequences in a batch, all processes together.
        num_workers: Loader processes.
        seed: The run's seed, which decides the order.

    Reference:
        Arjovsky, Shah and Bengio, "Unitary Evolution Recurrent Neural Networks",
        arXiv:1511.06464, section 5.1; laid out as in the code of arXiv:1803.01271.
    """
    claims = Claims("tagging", num_features, num_tokens, num_classes, length)
    if length is None or length < 21:
        raise ValueError(
            f"the copying problem needs data.length of at least 21 (20 and the pause), got {length}"
        )
    sizes = _split_sizes(num_train, num_validation, num_test)
    return sequence_data(
        partial(_generate, "copying", length, sizes, data_seed),
        claims,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
        split=SplitSeed("data_seed", data_seed, fresh=True),
    )


def _split_sizes(num_train: int, num_validation: int, num_test: int) -> dict[str, int]:
    sizes = {"train": num_train, "validation": num_validation, "test": num_test}
    for split, size in sizes.items():
        check_whole(f"num_{split}", size, smallest=1)
    return sizes


def _generate(
    problem: str, length: int, sizes: dict[str, int], data_seed: int
) -> datasets.DatasetDict:
    import datasets

    draw = {"adding": _draw_adding, "copying": _draw_copying}[problem]
    splits = {}
    for split, size in sizes.items():
        random = np.random.default_rng(derive_seed(data_seed, problem, split))
        splits[split] = _dataset(*draw(random, size, length))
    return datasets.DatasetDict(splits)


def _draw_adding(
    random: np.random.Generator, size: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    numbers = random.random((size, length), dtype=np.float32)
    rows, half = np.arange(size), length // 2
    first, second = random.integers(0, half, size), random.integers(half, length, size)
    markers = np.zeros_like(numbers)
    markers[rows, first] = markers[rows, second] = 1
    return np.stack([numbers, markers], axis=-1), numbers[rows, first] + numbers[rows, second]


def _draw_copying(
    random: np.random.Generator, size: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    symbols = random.integers(1, 9, (size, 10))
    inputs, targets = np.zeros((2, size, length), dtype=np.int64)
    inputs[:, :10], inputs[:, -11:], targets[:, -10:] = symbols, 9, symbols
    return inputs, targets


def _dataset(inputs: np.ndarray, targets: np.ndarray) -> datasets.Dataset:
    """Wrap arrays, (n, T) or (n, T, F) and (n,) or (n, T), without copying them row by row."""
    import datasets
    import pyarrow as pa

    def column(array: np.ndarray) -> pa.Array:
        values = pa.array(array.ravel())
        for size in array.shape[:0:-1]:
            values = pa.FixedSizeListArray.from_arrays(values, size)
        return values

    return datasets.Dataset(pa.table({"inputs": column(inputs), "targets": column(targets)}))
