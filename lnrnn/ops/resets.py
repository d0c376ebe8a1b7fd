"""Resets inside a sequence: from the mask that a caller gives to what a recurrence looks at.

A caller says before which steps a sequence begins anew. A recurrence in either direction asks, once
a step is done, whether the next one in its own order finds the state that was left: the row is cut
if it does not. What stands before the first step of all is the initial state, outside of the loop.

Dimensions: T time steps, B sequences, N time steps of all packed sequences together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def begin(
    resets: Tensor | None,
    states: Sequence[Tensor],
    reset_states: Sequence[Tensor | None],
    sizes: list[int] | None,
    reverse: bool,
) -> tuple[Tensor | None, list[Tensor]]:
    """Return which rows are cut, laid out as ``resets``, and the initial states.

    Args:
        resets: Where the state before a step is the reset state, (T, B), or packed, (N,).
        states: Initial states, (B, ...) each.
        reset_states: What each is after a reset; zeros for None.
        sizes: Live sequences at each step, if packed.
        reverse: Whether the recurrence runs from each sequence's last step to its first. A reset
            before step t then stands between the steps t and t - 1, and one before the first step
            nowhere.
    """
    if resets is None:
        return None, list(states)
    if reverse:
        return _without_first(resets, sizes), list(states)
    first = (resets[0] if sizes is None else resets[: sizes[0]]).unsqueeze(-1)
    return _one_step_earlier(resets, sizes), [
        s.masked_fill(first, 0) if r is None else torch.where(first, r, s)
        for s, r in zip(states, reset_states, strict=True)
    ]


def _without_first(resets: Tensor, sizes: list[int] | None) -> Tensor:
    """Return the mask without resets before the first step."""
    first = resets[:1] if sizes is None else resets[: sizes[0]]
    return torch.cat([torch.zeros_like(first), resets[len(first) :]])


def _one_step_earlier(resets: Tensor, sizes: list[int] | None) -> Tensor:
    """Return the mask with each row's value at the sequence's step before."""
    if sizes is None:
        return torch.cat([resets[1:], torch.zeros_like(resets[:1])])
    live = torch.tensor(sizes)
    # The row of a sequence's step before lies as many rows higher as that step has.
    back = live[:-1].repeat_interleave(live[1:])
    rows = torch.arange(sizes[0], len(resets)) - back
    cuts = torch.zeros_like(resets)
    cuts[rows.to(resets.device)] = resets[sizes[0] :]
    return cuts
