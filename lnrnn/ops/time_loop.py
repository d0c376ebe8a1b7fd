"""The reference's loop over time: padded or packed, forward or in reverse, with resets.

Dimensions: T time steps, B sequences, N time steps of all packed sequences together, H features of
a state.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lnrnn.ops.noise import NO_MASKS, Masks

State = tuple[Tensor, ...]


def run_steps(
    step: Callable[[Tensor, State, Masks], State],
    x: Tensor,
    initial: State,
    batch_sizes: list[int] | None,
    reverse: bool,
    cuts: Tensor | None,
    resets: tuple[Tensor | None, ...],
    masks: Masks = NO_MASKS,
) -> tuple[Tensor, State]:
    """Apply ``step`` along time and return the hidden states and the final state.

    A step takes its input, the state before it and its own masks.

    Packed sequences are sorted by falling length, so the live ones are always the first rows. Going
    forward, rows leave at the end as sequences finish; in reverse they join there with their own
    initial state. No step ever computes a finished sequence.

    Where a row is cut, the next step finds the reset state: zeros where none is given. No row is
    cut that is its sequence's last.
    """
    steps = _by_step(x, batch_sizes, reverse)
    ends = [None] * len(steps) if cuts is None else _by_step(cuts, batch_sizes, reverse)
    masked = _masks_by_step(masks, len(steps), batch_sizes, reverse)
    state = tuple(s[: steps[0].shape[0]] for s in initial)
    outputs: list[Tensor] = []
    finished: list[State] = []
    for x_t, end, masks_t in zip(steps, ends, masked, strict=True):
        live, rows = state[0].shape[0], x_t.shape[0]
        if rows < live:
            finished.append(tuple(s[rows:] for s in state))
            state = tuple(s[:rows] for s in state)
        elif rows > live:
            joining = (s[live:rows] for s in initial)
            state = tuple(torch.cat(pair) for pair in zip(state, joining, strict=True))
        state = step(x_t, state, masks_t)
        outputs.append(state[0])
        if end is not None:
            state = tuple(_reset(s, end, r) for s, r in zip(state, resets, strict=True))
    if reverse:
        outputs.reverse()
    output = torch.stack(outputs) if batch_sizes is None else torch.cat(outputs)
    if finished:
        state = tuple(torch.cat(rows) for rows in zip(state, *reversed(finished), strict=True))
    return output, state


def _by_step(rows: Tensor, batch_sizes: list[int] | None, reverse: bool) -> tuple[Tensor, ...]:
    """Return the rows of each step, in the order in which steps are computed."""
    steps = rows.unbind() if batch_sizes is None else rows.split(batch_sizes)
    return steps[::-1] if reverse else steps


def _masks_by_step(
    masks: Masks, steps: int, batch_sizes: list[int] | None, reverse: bool
) -> list[Masks]:
    if masks is NO_MASKS:
        return [NO_MASKS] * steps
    nothing = (None,) * steps
    parts = [nothing if m is None else _by_step(m, batch_sizes, reverse) for m in masks]
    return [Masks(*of_step) for of_step in zip(*parts, strict=True)]


def _reset(state: Tensor, where: Tensor, reset: Tensor | None) -> Tensor:
    """Return ``state``, (rows, H), with the reset state in some rows."""
    where = where.unsqueeze(-1)
    if reset is None:
        return state.masked_fill(where, 0)
    return torch.where(where, reset[: len(state)], state)
