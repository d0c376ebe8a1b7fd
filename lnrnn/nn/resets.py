"""Resets inside a sequence, as a layer is given them; and pieces between them, for torch's kernels.

torch's own recurrences know no resets. They run on the pieces between two resets as one packed
batch, longest first, which is exact: a piece depends on nothing but its input and the state it
begins with.

Dimensions: T time steps, B sequences, N time steps of all sequences together, P pieces, R and H
features of the states, L layers, D directions.
"""

from typing import NamedTuple, TypedDict

import torch
from torch import Tensor


class Options(TypedDict, total=False):
    """What a layer takes besides its input and initial state; see `LSTM.forward`."""

    resets: Tensor | None
    reset_state: Tensor | tuple[Tensor, Tensor] | None
    lengths: Tensor | list[int] | None


class Resets(NamedTuple):
    """Resets inside the sequences of one call.

    Attributes:
        where: Before which steps, laid out as the input: (T, B), or packed, (N,).
        state: What the state is replaced by, (L * D, B, R or H) each; zeros for None.
    """

    where: Tensor
    state: tuple[Tensor, ...] | None


def packed_rows(mask: Tensor, batch_sizes: Tensor, order: Tensor | None) -> Tensor:
    """Return what a mask, (T, B), says of the rows of a packed batch, (N,).

    Args:
        mask: Of the sequences as they were before packing.
        batch_sizes: Live sequences at each step, (T,), int64 on the CPU.
        order: Which sequence is where in the packed batch, (B,), if they have been sorted.
    """
    mask = mask if order is None else mask.index_select(1, order)
    live = torch.arange(mask.shape[1]) < batch_sizes.unsqueeze(1)  # (T, B)
    return mask.flatten().index_select(0, live.flatten().nonzero()[:, 0].to(mask.device))


class Pieces:
    """Which rows and states of a batch make up its pieces.

    Attributes:
        batch_sizes: Live pieces at each of their steps, int64 on the CPU.

    Args:
        resets: Where the state before a step is the reset state, (N,), rows as in a packed batch.
        batch_sizes: Live sequences at each step, (T,), int64 on the CPU.
    """

    def __init__(self, resets: Tensor, batch_sizes: Tensor) -> None:
        resets = resets.cpu()
        sequences = torch.arange(int(batch_sizes[0])).unsqueeze(1)
        live = sequences < batch_sizes  # (B, T)
        rows = (batch_sizes.cumsum(0) - batch_sizes + sequences)[live]  # sequence by sequence
        lengths = live.sum(1)
        starts = lengths.cumsum(0) - lengths
        begins = resets[rows]
        begins[starts] = True
        begin = begins.nonzero().squeeze(1)  # (P,)
        length = begin.diff(append=torch.tensor([len(rows)]))
        order = length.argsort(descending=True, stable=True)

        # Packed: first the first rows of all pieces, the longest piece's first, then the second.
        piece = begins.cumsum(0) - 1
        step = torch.arange(len(rows)) - begin[piece]
        place = (step * len(order) + order.argsort()[piece]).argsort()
        self.batch_sizes = step.bincount()
        self._rows = rows[place]

        begin, length = begin[order], length[order]
        self._owner = torch.searchsorted(starts, begin, right=True) - 1  # each piece's sequence
        first = begin == starts[self._owner]
        last = begin + length == (starts + lengths)[self._owner]
        # Which pieces begin with their sequence's initial state, running forward and backward.
        self._whole = torch.stack([first & ~resets[rows[begin]], last])
        # Which piece leaves a sequence's final state, in either direction.
        self._final = torch.empty(2, len(starts), dtype=torch.int64)
        for ends, found in zip((last, first), self._final, strict=True):
            where = ends.nonzero().squeeze(1)
            found[self._owner[where]] = where

    def take(self, x: Tensor) -> Tensor:
        """Return the rows of the pieces, packed, (N, ...), from those of the batch, (N, ...)."""
        return x.index_select(0, self._rows.to(x.device))

    def put_back(self, output: Tensor) -> Tensor:
        """Return the rows of the batch, (N, ...), from those of the pieces."""
        return output.index_select(0, self._rows.argsort().to(output.device))

    def begin_with(self, state: Tensor, reset: Tensor | None, directions: int) -> Tensor:
        """Return the states that pieces begin with, (L * D, P, ...).

        Args:
            state: Initial states of the sequences, (L * D, B, ...).
            reset: The states after a reset, shaped the same; zeros if None.
            directions: D.
        """
        owner = self._owner.to(state.device)
        whole = self._whole[:directions, :, None].to(state.device)
        initial = state.index_select(1, owner).unflatten(0, (-1, directions))  # (L, D, P, ...)
        if reset is None:
            return initial.masked_fill(~whole, 0).flatten(0, 1)
        after = reset.index_select(1, owner).unflatten(0, (-1, directions))
        return torch.where(whole, initial, after).flatten(0, 1)

    def end_with(self, state: Tensor, directions: int) -> Tensor:
        """Return the final states of the sequences, (L * D, B, ...), from those of the pieces."""
        final = self._final.to(state.device)
        ways = state.unflatten(0, (-1, directions)).unbind(1)
        return torch.stack(
            [way.index_select(1, f) for way, f in zip(ways, final, strict=False)], dim=1
        ).flatten(0, 1)
