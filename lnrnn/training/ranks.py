"""What each of several processes has, brought together for a checkpoint that one writes."""

from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

Tensors = tuple[Tensor, ...]


def gather(value: Any, trainer: Trainer) -> list[Any]:
    """Return the values of all processes, in order of their ranks; all must call this together."""
    if trainer.world_size == 1:
        return [value]
    values: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def average(value: Tensor, trainer: Trainer) -> Tensor:
    """Return the mean over all processes, which must call this together; ``value`` becomes it too.

    Lightning's own reduction makes every process wait for a barrier first.
    """
    torch.distributed.all_reduce(value)
    return value.div_(trainer.world_size)


def joined_state(state: Tensors | None, trainer: Trainer) -> Tensors | None:
    """Return the carried state of all streams, from each process's share of them.

    Args:
        state: Of this process's streams, (layers, b, H) each; None before the first step.
        trainer: Knows the processes.

    Returns:
        (layers, B, H) each, whatever the number of processes.
    """
    if state is None:
        return None
    parts = gather(tuple(part.cpu() for part in state), trainer)
    return tuple(torch.cat(shares, dim=1) for shares in zip(*parts, strict=True))


def share_of_state(state: Tensors | None, trainer: Trainer) -> Tensors | None:
    """Return this process's streams, (layers, b, H) each, cut as the sampler cuts a batch."""
    if state is None:
        return None
    streams, rank, processes = state[0].shape[1], trainer.global_rank, trainer.world_size
    first, last = streams * rank // processes, streams * (rank + 1) // processes
    return tuple(part[:, first:last].contiguous() for part in state)
