"""What is random inside the steps, in Triton: masks from counters, zoneout and dropout.

Masks are drawn before the loop (`keep_mask`), a byte a unit, and read by the kernels of a step. A
pointer that is None leaves its part out of a kernel, so that a call without noise runs the code it
would run without this module.

Dimensions: T steps, B sequences, N rows of all steps together, H units, R recurrent features.
"""

# Inside @triton.jit it is Triton, not Python, that gives the names their types.
# pyright: reportMissingImports=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# pyright: reportOptionalOperand=false

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.random import philox_impl

from lnrnn.ops.noise import WORD
from lnrnn.ops.triton_steps import Steps, Tensors, copied, flat, widened

GROUPS = 256  # of four units, that a program draws


@triton.jit(do_not_specialize=["total", "groups", "units", "key_0", "key_1", "purpose", "below"])
def draw_masks(
    kept,  # (M, U), written
    steps,  # (M,), int64
    sequences,  # (M,), int64
    total,  # M * groups
    groups,  # of four units, of a mask
    units,  # U
    key_0,  # the words of the seed, and the purpose, as signed numbers of 32 bits
    key_1,
    purpose,
    below,  # (1,): a unit is False where its word is below this, int64
    GROUPS: tl.constexpr,
):
    """Draw some groups of four units, of any masks, as `lnrnn.ops.noise.keep_mask` defines them."""
    place = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)
    there = place < total
    mask = place // groups
    group = place - mask * groups
    step = tl.load(steps + mask, mask=there, other=0).to(tl.uint32)
    sequence = tl.load(sequences + mask, mask=there, other=0).to(tl.uint32)
    last = tl.zeros_like(step) + purpose.to(tl.uint32, bitcast=True)
    first, second, third, fourth = philox_impl(
        group.to(tl.uint32),
        sequence,
        step,
        last,
        key_0.to(tl.uint32, bitcast=True),
        key_1.to(tl.uint32, bitcast=True),
    )
    words = (first, second, third, fourth)
    limit = tl.load(below)
    for i in tl.static_range(4):
        unit = group * 4 + i
        found = (words[i].to(tl.int64) >= limit).to(tl.uint8)
        tl.store(kept + mask * units + unit, found, mask=there & (unit < units))


def keep_mask(
    probability: float, seed: int, purpose: int, step: Tensor, row: Tensor, units: int
) -> Tensor:
    """Run ``lnrnn::keep_mask``: the masks of `lnrnn.ops.noise.keep_mask`, bit for bit."""
    step, row = torch.broadcast_tensors(step, row)
    kept = torch.empty((*step.shape, units), dtype=torch.uint8, device=step.device)
    groups = (units + 3) // 4
    total = step.numel() * groups
    if not total:
        return kept.view(torch.bool)
    with torch.cuda.device_of(step):
        draw_masks[(-(-total // GROUPS),)](
            kept,
            step.reshape(-1).contiguous(),
            row.reshape(-1).contiguous(),
            total,
            groups,
            units,
            _signed(seed & WORD),
            _signed(seed >> 32),
            _signed(purpose),
            torch.full((1,), round(probability * 2**32), dtype=torch.int64, device=step.device),
            GROUPS=GROUPS,
            num_warps=4,
            enable_fp_fusion=True,
        )
    return kept.view(torch.bool)


def _signed(word: int) -> int:
    """Return the number of 32 bits that has a word's bits: Triton tells wider ones by value."""
    return word - 2**32 if word >= 2**31 else word


@triton.jit
def candidate_scale(kept, share, at, mask):
    """Return what multiplies a candidate: 0 where it is dropped, and 1 / share; None for 1."""
    scale = None
    if kept is not None:
        found = tl.load(kept + at, mask=mask, other=0) != 0
        scale = tl.where(found, 1.0 / tl.load(share), 0.0)
    return scale


@triton.jit
def scaled(v, scale):
    """Return ``v``, or what is left of it."""
    if scale is not None:
        v = v * scale
    return v


@triton.jit
def zoned_out(new, state, at, fresh, rows_at, zoneout, mask):
    """Return what a step leaves: ``new``, the old state, at ``state + at``, or between the two."""
    if fresh is not None:
        found = tl.load(fresh + rows_at, mask=mask, other=0) != 0
        new = tl.where(found, new, tl.load(state + at, mask=mask, other=0.0).to(new.dtype))
    if zoneout is not None:
        share = tl.load(zoneout)
        old = tl.load(state + at, mask=mask, other=0.0).to(new.dtype)
        new = share * old + (1.0 - share) * new
    return new


@triton.jit
def fresh_part(d, fresh, rows_at, zoneout, mask):
    """Return the gradient of a new state from that of what a step leaves."""
    if fresh is not None:
        d = tl.where(tl.load(fresh + rows_at, mask=mask, other=0) != 0, d, 0.0)
    if zoneout is not None:
        d = d * (1.0 - tl.load(zoneout))
    return d


@triton.jit
def with_old_part(d_old, d, fresh, rows_at, zoneout, mask):
    """Add to the gradient of an old state what comes to it from that of what a step leaves."""
    if fresh is not None:
        d_old = d_old + tl.where(tl.load(fresh + rows_at, mask=mask, other=0) != 0, 0.0, d)
    if zoneout is not None:
        d_old = d_old + d * tl.load(zoneout)
    return d_old


@triton.jit
def store_seen(h_seen, seen, share, h, at, found, mask):
    """Store what the next product reads of the hidden state ``found``, if not all of it."""
    if h_seen is not None:
        scale = tl.where(tl.load(seen + at, mask=mask, other=0) != 0, 1.0 / tl.load(share), 0.0)
        tl.store(h_seen + at, found.to(h.dtype.element_ty).to(found.dtype) * scale, mask=mask)


@triton.jit
def load_d_h(d_h, d_direct, seen, share, begin, columns, mask, ACC: tl.constexpr):
    """Return the gradient of a hidden state: by way of W h, and the rest, if that is apart."""
    if d_direct is not None:
        d = tl.load(d_direct + begin + columns, mask=mask, other=0.0)
        d += _load_through(d_h, seen, share, begin, columns, mask, ACC)
    else:
        d = _load_through(d_h, seen, share, begin, columns, mask, ACC)
    return d


@triton.jit
def _load_through(d_h, seen, share, begin, columns, mask, ACC: tl.constexpr):
    d = tl.load(d_h + begin + columns, mask=mask, other=0.0).to(ACC)
    if seen is not None:
        found = tl.load(seen + begin + columns, mask=mask, other=0) != 0
        d = d * tl.where(found, 1.0 / tl.load(share), 0.0)
    return d


@dataclass(frozen=True)
class StepNoise:
    """What is random inside the steps of a call, as kernels read it; None where nothing is.

    Attributes:
        fresh_h: Which units of the hidden state are new, (N, R), uint8.
        fresh_c: The same of the cell state, (N, H).
        kept_candidate: Which units of the candidate are kept, (N, H), uint8.
        seen_h: Which units of the hidden state W_hh reads, (B, R), uint8.
        zoneout: Share of the old hidden state where nothing was drawn, (1, 1).
        zoneout_c: The same of the cell state.
        candidate_share: How many units of the candidate are kept on average, (1, 1).
        seen_share: The same of the hidden state that W_hh reads.
    """

    fresh_h: Tensor | None = None
    fresh_c: Tensor | None = None
    kept_candidate: Tensor | None = None
    seen_h: Tensor | None = None
    zoneout: Tensor | None = None
    zoneout_c: Tensor | None = None
    candidate_share: Tensor | None = None
    seen_share: Tensor | None = None

    @property
    def of_h(self) -> Tensors:
        """Return what all steps read for the hidden state."""
        return {"zoneout": self.zoneout, "seen_h": self.seen_h, "seen_share": self.seen_share}

    def rows(self, *names: str) -> Tensors:
        """Return masks of each step."""
        return {name: getattr(self, name) for name in names}

    def d_states(self, d_h_n: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Return the gradient of h after the last step: by way of W h, and the rest, if apart."""
        if self.fresh_h is None and self.zoneout is None and self.seen_h is None:
            return copied(d_h_n, dtype), None
        return d_h_n.new_zeros(d_h_n.shape, dtype=dtype), copied(d_h_n, widened(dtype))

    def seen(self, h: Tensor) -> Tensor | None:
        """Return what W_hh reads of the hidden states, (B, R); None for all."""
        return None if self.seen_h is None else self.read(h, self.seen_h)

    def seen_before(self, before: Tensor, order: Steps) -> Tensor:
        """Return what W_hh read of the hidden states before each row, (N, R)."""
        if self.seen_h is None:
            return before
        seen = self.seen_h
        return self.read(before, torch.cat([seen[:live] for live in order.live]))

    def read(self, h: Tensor, seen: Tensor) -> Tensor:
        """Return the units that are seen, scaled; in the dtype of ``h``, rounded once."""
        return h if self.seen_share is None else (h * seen / self.seen_share).to(h.dtype)

    def d_h_0(self, d_h: Tensor, d_direct: Tensor | None) -> Tensor:
        """Return the gradient of the initial state, from that by way of W h and the rest."""
        if d_direct is None:
            return d_h
        through = d_h if self.seen_h is None else d_h * self.seen_h / self.seen_share
        return (d_direct + through).to(d_h.dtype)


NO_NOISE = StepNoise()


def step_noise(
    like: Tensor,
    *,
    fresh_h: Tensor | None = None,
    fresh_c: Tensor | None = None,
    kept_candidate: Tensor | None = None,
    seen_h: Tensor | None = None,
    zoneout: float = 0.0,
    zoneout_c: float = 0.0,
    recurrent_dropout: float = 0.0,
    variational_dropout: float = 0.0,
) -> StepNoise:
    """Return what kernels read of an operator's arguments.

    Probabilities are tensors, so that no kernel is compiled anew, and no graph recorded, for each.

    Args:
        like: On the device, in the dtype of the hidden states.
        fresh_h: (T, B, R) or (N, R), bool; the others of `lnrnn.ops.fused.NOISE` alike.
        fresh_c: With H features.
        kept_candidate: With H features.
        seen_h: (B, R).
        zoneout: What is left of the old state, where there is no mask.
        zoneout_c: The same of the cell state.
        recurrent_dropout: Probability of a candidate's zero.
        variational_dropout: The same of what W_hh reads.
    """

    def number(value: float, wanted: bool) -> Tensor | None:
        if not wanted:
            return None
        return torch.full((1, 1), value, dtype=widened(like.dtype), device=like.device)

    return StepNoise(
        _bytes(fresh_h),
        _bytes(fresh_c),
        _bytes(kept_candidate),
        _bytes(seen_h),
        number(zoneout, fresh_h is None and zoneout > 0),
        number(zoneout_c, fresh_c is None and zoneout_c > 0),
        number(1 - recurrent_dropout, kept_candidate is not None),
        number(1 - variational_dropout, seen_h is not None),
    )


def _bytes(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else flat(mask).view(torch.uint8)
