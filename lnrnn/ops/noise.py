"""What is random inside a recurrence's steps: zoneout and dropout, with masks made from counters.

Every bit of a mask is a function of a seed and of four counters: what it is for, the time step, the
sequence and the unit. No generator is advanced, so a seed gives the same masks every time, on every
device, and for a padded batch as for the same batch packed.

`keep_mask` defines them; ``lnrnn::keep_mask`` is the same as an operator, which a device may have a
kernel for. The function is Philox4x32-10, in whole numbers of 64 bits: torch has no unsigned ones
that can be multiplied.

Dimensions: T time steps, B sequences, N time steps of all packed sequences together, H hidden
units, R recurrent features.

Reference:
    Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

from typing import NamedTuple

import torch
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # what the two halves of the key grow by each round
ROUNDS = 10
WORD = 0xFFFFFFFF
CHUNK = 2**20  # bits that are made at a time: each takes 36 bytes on its way

# What a mask is for: the last counter is this and four times the number of layer and direction.
ZONEOUT, ZONEOUT_C, CANDIDATE, SEEN_STATE = range(4)


class Noise(NamedTuple):
    """What is random inside the steps of one direction.

    Attributes:
        zoneout: Probability of keeping a unit of the hidden state as it was before the step.
        zoneout_c: The same for the LSTM's cell state.
        recurrent_dropout: Probability of zeroing a unit of the candidate, tanh(g) or n, anew at
            every step.
        variational_dropout: Probability of zeroing a unit of what W_hh reads of the hidden state,
            once for all steps of a sequence.
        seed: Of the masks, in [0, 2**63); None for evaluation, where zoneout is its expectation and
            nothing is dropped.
        stream: Which layer and direction it is, counted from 0, so that their masks differ.
        order: Which sequence each row of a packed batch is, (B,); as they come if None.
    """

    zoneout: float = 0.0
    zoneout_c: float = 0.0
    recurrent_dropout: float = 0.0
    variational_dropout: float = 0.0
    seed: int | None = None
    stream: int = 0
    order: Tensor | None = None


class Masks(NamedTuple):
    """Which units are new, or kept, True where they are; None where nothing is masked.

    Attributes:
        h: Of the hidden state, laid out as the input with R features.
        c: Of the cell state, with H features.
        candidate: Of the candidate, with H features.
    """

    h: Tensor | None = None
    c: Tensor | None = None
    candidate: Tensor | None = None


NO_MASKS = Masks()


def philox(counter: tuple[Tensor, ...], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Return four random words for every counter of four words.

    Args:
        counter: Four int64 tensors of values in [0, 2**32) that broadcast with one another.
        key: Two whole numbers in [0, 2**32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        high_0, low_0 = _product(c0, MULTIPLIERS[0])
        high_1, low_1 = _product(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        k0, k1 = (k0 + WEYL[0]) & WORD, (k1 + WEYL[1]) & WORD
    return c0, c1, c2, c3


def _product(v: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Return the upper and the lower word of a product of two words; no sum exceeds 49 bits."""
    low, high = v * (factor & 0xFFFF), v * (factor >> 16)
    upper = (high + (low >> 16)) >> 16
    return upper, (((high & 0xFFFF) << 16) + low) & WORD


def keep_mask(
    probability: float, seed: int, purpose: int, step: Tensor, row: Tensor, units: int
) -> Tensor:
    """Return a mask, False with a probability, from counters alone.

    A unit is False where its word, the ``unit % 4``-th of Philox's four for the counter
    ``(unit // 4, row, step, purpose)`` under the two words of the seed as its key (the lower
    first), is below ``round(probability * 2**32)``.

    Args:
        probability: Of False, in [0, 1).
        seed: In [0, 2**63).
        purpose: The last counter.
        step: The time step of each mask, int64.
        row: The sequence of each mask, int64; broadcasts with ``step``.
        units: Units of a mask.

    Returns:
        The masks, (..., units), bool.
    """
    groups = torch.arange((units + 3) // 4, device=step.device)
    row, step = torch.broadcast_tensors(row, step)
    kept: list[Tensor] = []
    at_once = max(1, CHUNK // units)
    for rows, steps in zip(
        row.flatten().split(at_once), step.flatten().split(at_once), strict=True
    ):
        last = torch.full_like(steps, purpose).unsqueeze(-1)
        counter = (groups, rows.unsqueeze(-1), steps.unsqueeze(-1), last)
        words = torch.stack(philox(counter, (seed & WORD, seed >> 32)), dim=-1)
        kept.append(words.flatten(-2)[:, :units] >= round(probability * 2**32))
    return torch.cat(kept).view(*step.shape, units)


MASK_SCHEMA = (
    "keep_mask(float probability, SymInt seed, int purpose, Tensor step, Tensor row, SymInt units)"
    " -> Tensor"
)


def _fake_mask(
    probability: float, seed: int, purpose: int, step: Tensor, row: Tensor, units: int
) -> Tensor:
    shape = torch.broadcast_shapes(step.shape, row.shape)
    return step.new_empty((*shape, units), dtype=torch.bool)


_LIBRARY = torch.library.Library("lnrnn", "FRAGMENT")
_LIBRARY.define(MASK_SCHEMA)
_LIBRARY.impl("keep_mask", keep_mask, "CompositeExplicitAutograd")
torch.library.register_fake("lnrnn::keep_mask", _fake_mask, lib=_LIBRARY)


class Drawn(NamedTuple):
    """What is random inside the steps of one call, drawn.

    Attributes:
        noise: What is random.
        masks: Of every step.
        seen: Which units of the hidden state W_hh reads, (B, R), or None for all.
    """

    noise: Noise = Noise()
    masks: Masks = NO_MASKS
    seen: Tensor | None = None

    def read(self, h: Tensor) -> Tensor:
        """Return what W_hh reads of the hidden state, (rows, R)."""
        seen = None if self.seen is None else self.seen[: len(h)]
        return _dropped(h, seen, self.noise.variational_dropout)

    def candidate(self, v: Tensor, masks: Masks) -> Tensor:
        """Return what a step adds to its state, tanh(g) or n, (rows, H)."""
        return _dropped(v, masks.candidate, self.noise.recurrent_dropout)

    def hidden(self, new: Tensor, old: Tensor, masks: Masks) -> Tensor:
        """Return the hidden state after a step, (rows, R)."""
        return _zoned_out(new, old, masks.h, self.noise.zoneout)

    def cell(self, new: Tensor, old: Tensor, masks: Masks) -> Tensor:
        """Return the cell state after a step, (rows, H)."""
        return _zoned_out(new, old, masks.c, self.noise.zoneout_c)


NO_NOISE = Drawn()


def draw(
    noise: Noise | None,
    x: Tensor,
    batch_sizes: list[int] | None,
    recurrent: int,
    hidden: int,
) -> Drawn:
    """Draw the masks of one direction's call.

    Args:
        noise: What is random; None for nothing.
        x: The input, (T, B, ...) or packed (N, ...).
        batch_sizes: Live sequences at each step of a packed one.
        recurrent: R.
        hidden: H.
    """
    if noise is None:
        return NO_NOISE
    if noise.seed is None:
        return Drawn(noise)
    batch = x.shape[1] if batch_sizes is None else batch_sizes[0]
    rows = torch.arange(batch, device=x.device) if noise.order is None else noise.order
    if batch_sizes is None:
        step = torch.arange(x.shape[0], device=x.device).unsqueeze(1)  # (T, 1)
        row = rows
    else:
        sizes = torch.tensor(batch_sizes, device=x.device)
        step = torch.arange(len(batch_sizes), device=x.device).repeat_interleave(sizes)  # (N,)
        first = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        row = rows[torch.arange(len(step), device=x.device) - first]
    masks = Masks(
        _mask(noise, noise.zoneout, ZONEOUT, step, row, recurrent),
        _mask(noise, noise.zoneout_c, ZONEOUT_C, step, row, hidden),
        _mask(noise, noise.recurrent_dropout, CANDIDATE, step, row, hidden),
    )
    start = torch.zeros_like(rows)
    seen = _mask(noise, noise.variational_dropout, SEEN_STATE, start, rows, recurrent)
    return Drawn(noise, masks, seen)


def _mask(
    noise: Noise, probability: float, purpose: int, step: Tensor, row: Tensor, units: int
) -> Tensor | None:
    if not probability:
        return None
    purpose += 4 * noise.stream
    return torch.ops.lnrnn.keep_mask(probability, noise.seed, purpose, step, row, units)


def _dropped(v: Tensor, kept: Tensor | None, probability: float) -> Tensor:
    return v if kept is None else v * kept / (1 - probability)


def _zoned_out(new: Tensor, old: Tensor, fresh: Tensor | None, probability: float) -> Tensor:
    if not probability:
        return new
    if fresh is not None:
        return torch.where(fresh, new, old)
    return probability * old + (1 - probability) * new
