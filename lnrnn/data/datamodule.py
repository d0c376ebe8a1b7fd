"""The one datamodule: splits that load when first used, and loaders that can resume.

A data set is a function in this package that returns a `DataModule`; what is special about it is
the function that reads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from lnrnn.data.batch import Batch
from lnrnn.data.checks import check_whole
from lnrnn.data.loader import Loader, listen_to_the_parent
from lnrnn.data.meaning import meaning
from lnrnn.data.sampler import GlobalBatches, training_position
from lnrnn.data.scaling import mask_missing, scale_inputs, scale_targets
from lnrnn.data.sequences import Claims, Kind, Sequences, sequences_from
from lnrnn.data.splits import SplitSeed
from lnrnn.data.streams import NUM_SYMBOLS, Streams, streams_from
from lnrnn.data.windows import Windows
from lnrnn.preparation import Preparation
from lnrnn.seeding import derive_seed

if TYPE_CHECKING:
    import datasets

_HASHED_AT_ONCE = 16 << 20  # bytes
UNNAMED = "its data module names no seed that chooses the test (split=SplitSeed(...))"
Source = Callable[[], "datasets.DatasetDict"]
Split = Sequences | Windows | Streams
AnySplits = Mapping[str, Sequences | Windows]


class DataModule(L.LightningDataModule):
    """Batches of the splits ``train``, ``validation`` and ``test``.

    Nothing is read until a loader or the fingerprint is asked for. Training batches of sequences
    come in an order that is a function of (seed, epoch); text streams keep the order of the text,
    because a hidden state is carried from window to window. Built for a ``Trainer`` with
    ``use_distributed_sampler=False``: each process takes its share of every global batch itself.

    Args:
        read: Returns the splits; called once per process.
        claims: What the configuration says about the data.
        batch_size: Sequences (or streams) in a batch, all processes together.
        num_workers: Loader processes per split; 0 reads in the training process.
        seed: The run's seed, which decides the order of sequences; streams have none.
        files: Whether they are the user's own, which may change in more than what values show.
        split: The seed that chooses the test; or why there is none, in words.

    Raises:
        TypeError: If ``batch_size`` or ``num_workers`` is not a whole number.
        ValueError: If ``batch_size`` is below 1 or ``num_workers`` below 0.
    """

    def __init__(
        self,
        read: Callable[..., Mapping[str, Split]],
        claims: Claims,
        *,
        batch_size: int,
        num_workers: int,
        seed: int = 0,
        files: bool = False,
        split: SplitSeed | str = UNNAMED,
    ) -> None:
        super().__init__()
        check_whole("batch_size", batch_size, smallest=1)
        check_whole("num_workers", num_workers, smallest=0)
        self.kind: Kind = claims.kind
        self.num_features, self.num_tokens = claims.num_features, claims.num_tokens
        self.num_classes, self.length = claims.num_classes, claims.length
        self.horizon, self.per_step = claims.horizon, claims.per_step
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.split = split
        self._read, self._files = read, files
        self._splits: Mapping[str, Split] = {}

    @property
    def splits(self) -> Mapping[str, Split]:
        """The splits by name, read on first use."""
        if not self._splits:
            self._splits = self._read()
        return self._splits

    def read_as_test_of(self, own: DataModule) -> None:
        """Read the splits as a test of what has learned from others, whose classes are kept.

        Args:
            own: The data that were learned from, of the same configuration but for the test.
        """
        self._splits = self._read(like=own.splits["train"]) if self._files else self._read()

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change whenever the data of any split do."""
        digest = hashlib.sha256()
        for name in sorted(self.splits):
            digest.update(name.encode())
            split = self.splits[name]
            if self._files and not isinstance(split, Streams):
                digest.update(meaning(split).encode())
            for tensor in split.content():
                digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
                content = tensor.contiguous().numpy().reshape(-1).view(np.uint8)
                for begin in range(0, len(content), _HASHED_AT_ONCE):
                    digest.update(content[begin : begin + _HASHED_AT_ONCE].data)
                    if isinstance(split, Streams):
                        split.release()
        return digest.hexdigest()[:16]

    @property
    def preparation(self) -> Preparation:
        """How the training data became inputs, for data that come after training."""
        return Preparation(
            self.kind,
            self.num_features,
            self.num_tokens,
            self.num_classes,
            self.length,
            horizon=self.horizon,
            per_step=self.per_step,
            **_treatment(self.splits["train"]),
        )

    @property
    def target_scale(self) -> tuple[float, float]:
        """Mean and standard deviation by which numbers to predict are centered and scaled."""
        train = self.splits["train"]
        return (0.0, 1.0) if isinstance(train, Streams) else train.scale

    @property
    def order(self) -> str:
        """16 hexadecimal digits that tell the first epoch's batches: what is in each, in order."""
        digest = hashlib.sha256()
        for number, batch in enumerate(self._batches("train")):  # as a list of them is written
            digest.update(f"{', ' if number else '['}{batch}".encode())
        digest.update(b"]")
        return digest.hexdigest()[:16]

    def prepare_data(self) -> None:
        """Read the data in one process first, so that only one downloads."""
        self.setup("prepare")

    def setup(self, stage: str) -> None:
        """Read the data, whatever the stage, unless that is done."""
        self._splits = self.splits

    def batches_per_epoch(self, limit: float | None = None) -> int:
        """Return the global batches of a training epoch, as far as its limit lets it go.

        Lightning's own count would build the loader, and could do so before it has restored the
        counters of a checkpoint. A limit is a number of batches or (float) a share of them; None is
        the trainer's.
        """
        batches = len(GlobalBatches(len(self.splits["train"]), self.batch_size, shuffle_seed=None))
        if limit is None:
            limit = self.trainer.limit_train_batches if self.trainer else 1.0
        return min(limit, batches) if isinstance(limit, int) else int(limit * batches)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the training batches, from where the trainer stands."""
        epoch, start = training_position(self.trainer, self.batches_per_epoch())
        return self._loader("train", epoch, start)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation batches, in order."""
        return self._loader("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test batches, in order."""
        return self._loader("test")

    def _loader(self, name: str, epoch: int = 0, start: int = 0) -> DataLoader[Batch]:
        batches = self._batches(
            name,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
            epoch=epoch,
            start=start,
        )
        # The lists go in as `sampler` with batch_size=None: a split makes a whole batch at once,
        # and Lightning calls set_epoch on exactly this attribute. Without a generator of its own a
        # loader draws from torch's global one, and validating would change the training.
        return Loader(
            self.splits[name],
            batch_size=None,
            sampler=batches,
            num_workers=self.num_workers,
            worker_init_fn=listen_to_the_parent,
            generator=torch.Generator().manual_seed(derive_seed(self.seed, "loader", name)),
        )

    def _batches(
        self, name: str, *, rank: int = 0, world_size: int = 1, epoch: int = 0, start: int = 0
    ) -> GlobalBatches:
        """Return which examples the batches of a split hold."""
        split = self.splits[name]
        shuffled = name == "train" and not isinstance(split, Streams)
        return GlobalBatches(
            len(split),
            self.batch_size,
            shuffle_seed=self.seed if shuffled else None,
            rank=rank,
            world_size=world_size,
            epoch=epoch,
            start=start,
        )


def _treatment(split: Split) -> dict[str, Any]:
    """Return what was done to a split's values, by the names of ``Preparation``."""
    if isinstance(split, Streams):
        return {"symbols": "bytes"}
    symbols = "bytes" if split.values.dtype == torch.uint8 else "numbers"
    return {
        "symbols": None if split.values.is_floating_point() else symbols,
        "labels": split.labels,
        "scaling": split.scaling,
        "target_scale": split.scale,
        "masked": split.masked,
    }


def sequence_data(
    source: Source,
    claims: Claims,
    *,
    batch_size: int,
    num_workers: int,
    seed: int,
    standardize: bool = False,
    max_length: int | None = None,
    split: SplitSeed | str = UNNAMED,
) -> DataModule:
    """Return the datamodule of a source whose rows are sequences with targets.

    Args:
        source: Returns splits with columns ``inputs`` and ``targets``.
        claims: What the configuration says.
        batch_size: Sequences in a batch, all processes together.
        num_workers: Loader processes.
        seed: The run's seed.
        standardize: Whether to center and scale features by statistics of ``train``.
        max_length: Steps kept of each sequence; None keeps all.
        split: The seed that chooses the test; or why there is none, in words.

    Raises:
        TypeError: If ``max_length`` is neither None nor a whole number.
        ValueError: If it is below 1.
    """
    if max_length is not None:
        check_whole("max_length", max_length, smallest=1)
    read = partial(_read_sequences, source, claims, standardize, max_length)
    return DataModule(
        read, claims, batch_size=batch_size, num_workers=num_workers, seed=seed, split=split
    )


def stream_data(
    source: Source,
    claims: Claims,
    *,
    batch_size: int,
    window: int,
    num_workers: int,
    split: SplitSeed | str = UNNAMED,
) -> DataModule:
    """Return the datamodule of a source whose rows are documents, column ``text``.

    Args:
        source: Returns splits with a column ``text``.
        claims: What the configuration says.
        batch_size: Streams in a batch, all processes together.
        window: Symbols a stream advances per batch.
        num_workers: Loader processes.
        split: The seed that chooses the test; or why there is none, in words.

    Raises:
        TypeError: If ``window`` is not a whole number.
        ValueError: If ``window`` is below 1 or the claims are not those of bytes.
    """
    check_streams(claims, window)
    read = partial(_read_streams, source, batch_size, window)
    return DataModule(read, claims, batch_size=batch_size, num_workers=num_workers, split=split)


def check_streams(claims: Claims, window: int) -> None:
    """Check what is said of a text before it is read.

    Raises:
        TypeError: If ``window`` is not a whole number.
        ValueError: If ``window`` is below 1 or the claims are not those of bytes.
    """
    check_whole("window", window, smallest=1)
    if (claims.num_tokens, claims.num_classes, claims.length) != (NUM_SYMBOLS, NUM_SYMBOLS, None):
        raise ValueError(
            f"text is read as bytes: data.num_tokens and data.num_classes must be {NUM_SYMBOLS} "
            f"(256 and padding) and data.length null, got {claims.num_tokens}, "
            f"{claims.num_classes} and {claims.length}"
        )


def split_data(
    read: Callable[..., AnySplits],
    claims: Claims,
    *,
    standardize: bool,
    masked: bool,
    batch_size: int,
    num_workers: int,
    seed: int,
    files: bool = False,
    split: SplitSeed | str = UNNAMED,
) -> DataModule:
    """Return the datamodule of splits that are read as they are.

    Args:
        read: Returns ``train``, ``validation`` and ``test``, checked.
        claims: What the configuration says.
        standardize: Whether to center and scale numbers by statistics of ``train``, those to
            predict too.
        masked: Whether missing numbers (NaN) are masked.
        batch_size: Sequences in a batch, all processes together.
        num_workers: Loader processes.
        seed: The run's seed.
        files: Whether they are the user's own.
        split: The seed that chooses the test; or why there is none, in words.
    """
    finished = partial(_finished, read, claims, standardize, masked)
    return DataModule(
        finished,
        claims,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
        files=files,
        split=split,
    )


def _finished(
    read: Callable[..., AnySplits],
    claims: Claims,
    standardize: bool,
    masked: bool,
    like: Sequences | Windows | None = None,
) -> AnySplits:
    if like is None:
        splits = read()
        _check_classes(splits, claims)
    else:
        splits = read(like=like)
    if standardize and claims.num_features is not None:
        scale_inputs(splits)
    if standardize and claims.kind == "regression":
        scale_targets(splits)
    if masked:
        mask_missing(splits)
    return splits


def _read_sequences(
    source: Source, claims: Claims, standardize: bool, max_length: int | None
) -> Mapping[str, Sequences]:
    splits = {
        str(name): sequences_from(str(name), dataset, claims, max_length)
        for name, dataset in source().items()
    }
    _check_classes(splits, claims)
    if standardize:
        scale_inputs(splits)
    return splits


def _check_classes(splits: AnySplits, claims: Claims) -> None:
    """Check that the largest label is the last class."""
    if claims.kind != "classification":
        return
    used = max(int(split.targets.max()) for split in splits.values()) + 1
    if used != claims.num_classes:
        raise ValueError(
            f"data.num_classes={claims.num_classes} does not fit the data, whose largest "
            f"label is {used - 1}: classes are numbered from 0, so set data.num_classes={used}"
        )


def _read_streams(source: Source, batch_size: int, window: int) -> Mapping[str, Streams]:
    return {
        str(name): streams_from(str(name), dataset, batch_size, window)
        for name, dataset in source().items()
    }
