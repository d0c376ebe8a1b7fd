"""In which order examples are seen, and where an interrupted run continues.

The order is a function of (seed, epoch) and of nothing else: no generator has a state that a
checkpoint would have to carry, and neither the number of processes nor of workers changes it.
"""

from collections.abc import Iterator
from itertools import islice, pairwise
from typing import cast

import lightning as L
import torch
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.loops.progress import _ProcessedTracker
from torch import Tensor
from torch.utils.data import Sampler

from lnrnn.seeding import derive_seed


class GlobalBatches(Sampler[list[int]]):
    """Yield one process's share of every global batch of an epoch.

    All ranks cut the same order into the same global batches; each takes a contiguous slice of
    every batch, and slice sizes differ by at most one. So the union over the ranks is the whole
    data, without padding or repetition, and a run on two devices makes the steps of a run on one.

    Every batch is full but the last two, which share what remains evenly: a last step on three
    examples would be noise, and would leave ranks without any.

    Args:
        size: Number of examples.
        batch_size: Examples in a global batch, all ranks together.
        shuffle_seed: Seed of the order; None keeps the order of the data.
        rank: This process, 0 <= rank < world_size.
        world_size: Number of processes.
        epoch: Epoch of the first pass.
        start: Global batches of that epoch that are already done; every other epoch starts at 0.

    Raises:
        ValueError: If a size is below 1, or a batch has fewer examples than there are processes.

    Example:
        >>> list(GlobalBatches(7, 4, shuffle_seed=None))
        [[0, 1, 2, 3], [4, 5, 6]]
        >>> list(GlobalBatches(7, 4, shuffle_seed=None, rank=1, world_size=2))
        [[2, 3], [5, 6]]
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        shuffle_seed: int | None,
        rank: int = 0,
        world_size: int = 1,
        epoch: int = 0,
        start: int = 0,
    ) -> None:
        if batch_size < 1 or size < 1:
            raise ValueError(f"size and batch_size must be at least 1, got {size} and {batch_size}")
        self.bounds = _batch_bounds(size, batch_size)
        smallest = min(end - begin for begin, end in pairwise(self.bounds))
        if smallest < world_size:
            raise ValueError(
                f"every process needs an example of every batch, but {size} examples in batches of "
                f"{batch_size} leave a batch of {smallest} for {world_size} processes: use fewer "
                "processes or another data.batch_size"
            )
        self.size, self.shuffle_seed = size, shuffle_seed
        self.rank, self.world_size = rank, world_size
        self.epoch, self.start = epoch, start

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; Lightning calls this before each one."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        """Return the batches of a whole epoch, also while only its end is left to do."""
        return len(self.bounds) - 1

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order()
        for begin, end in islice(pairwise(self.bounds), self.start, None):
            share = end - begin
            first = begin + share * self.rank // self.world_size
            last = begin + share * (self.rank + 1) // self.world_size
            yield (
                list(order[first:last]) if isinstance(order, range) else order[first:last].tolist()
            )

    def _order(self) -> Tensor | range:
        if self.shuffle_seed is None:
            return range(self.size)
        generator = torch.Generator()
        generator.manual_seed(derive_seed(self.shuffle_seed, "order", self.epoch))
        return torch.randperm(self.size, generator=generator)


def _batch_bounds(size: int, batch_size: int) -> list[int]:
    """Return where each batch begins, and the end of the last."""
    bounds = [*range(0, size, batch_size), size]
    if len(bounds) > 2:  # the last two share evenly what remains
        bounds[-2] = (bounds[-3] + size + 1) // 2
    return bounds


def training_position(trainer: L.Trainer | None, batches: int) -> tuple[int, int]:
    """Return (epoch, batches of it already done) where training starts or continues.

    Lightning asks for the training loader after it has restored the counters of a checkpoint, and
    never tells the loader about them. These counters are semi-private, hence the pinned version of
    Lightning and the resume tests.

    Args:
        trainer: The trainer that asks; None is a fresh run.
        batches: Global batches of an epoch, as far as the trainer's limit lets it go.
    """
    if trainer is None:
        return 0, 0
    epochs = cast(_ProcessedTracker, trainer.fit_loop.epoch_progress.current)
    batches_now = cast(_ProcessedTracker, trainer.fit_loop.epoch_loop.batch_progress.current)
    if epochs.started == epochs.processed:
        # No epoch was under way: a fresh run, or a checkpoint written after an epoch was counted.
        _take_epoch_as_finished(trainer)
        return epochs.processed, 0
    # `processed`, not `ready`: a batch that was interrupted halfway is done again.
    done = batches_now.processed
    if done >= batches:
        # Written after the last batch, before the epoch was counted: a restart counts it first.
        return epochs.processed + 1, 0
    return epochs.processed, done


def _take_epoch_as_finished(trainer: L.Trainer) -> None:
    """Keep Lightning from going through a finished epoch once more, empty but counted.

    It does so (2.6.6) when a run with ``max_steps`` resumes from a checkpoint of an epoch's end:
    its fit loop then takes every checkpoint for one within an epoch. Without ``max_steps`` it
    decides as is done here.
    """
    if trainer.fit_loop.restarting:
        setter = _Loop.restarting.fset
        if setter is not None:
            setter(trainer.fit_loop, False)
