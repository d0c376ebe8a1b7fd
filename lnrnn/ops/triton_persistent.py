"""Whole sequences in one launch, where W_hh fits into the shared memory of one processor.

A program computes `TILE` sequences from their first step to their last. W_hh stays in shared memory
and the state in registers, so a step neither launches anything nor waits for another program; the
rows of the next step are copied in while one is computed. What does not depend on the state is left
to kernels over all rows at once: the moments that a backward needs, before it, and the gradients
of gains and biases, after it.

On an H200 it took 0.38 to 0.85 of the time of `lnrnn.ops.triton_steps` wherever it fits, padded
(docs/cuda.md). Packed sequences were not measured, and go step by step.

Dimensions: T steps, B sequences, N rows of all steps together, H units.

Reference:
    Diamos et al., "Persistent RNNs: Stashing Recurrent Weights On-Chip", ICML 2016.
"""

# Inside @triton.jit it is Triton, not Python, that gives the names their types.
# pyright: reportMissingImports=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false

import functools
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from lnrnn.ops.triton_norm import accumulator, add_to_own_row, load_moments, normalized
from lnrnn.ops.triton_steps import Steps, tile

ENABLED = True
PACKED = False  # as right as padded ones, but not measured
STAGES = 3  # steps whose rows are there at once, or on their way
TILE = 16  # sequences of a program: what a matrix unit multiplies at least
WIDEST = 256  # units
NARROW = (torch.bfloat16, torch.float16)
FLOAT32 = False  # as right as 16 bits, but slower than steps in all but the RNN (docs/cuda.md)
# What matrix units multiply as it is. All else is multiplied number by number, by threads that hold
# whole rows: without a barrier a sum over them, so that norms can take two passes, but with as many
# registers as they have, so that there is one place for a product.
MATRIX = NARROW
ROWS, CHUNKS = 32, 256  # of a kernel that adds up rows: rows at a time, and programs a gate


@triton.jit
def load_weights(
    weight,
    columns,
    inside,
    GATES: tl.constexpr,
    H: tl.constexpr,
    BH: tl.constexpr,
    BACK: tl.constexpr,
):
    """Return each gate's W_hh, (BH, BH): transposed, to be read by h, or as it is, by d(W h)."""
    read = tl.arange(0, BH)[:, None]
    weights = ()
    for q in tl.static_range(GATES):
        if BACK:
            at = (q * H + read) * H + columns
        else:
            at = (q * H + columns) * H + read
        weights = weights + (tl.load(weight + at, mask=inside & (read < H), other=0.0),)
    return weights


@triton.jit
def products(h, weights, ACC: tl.constexpr):
    """Return W h of each gate, rounded as a product that is stored, (BB, BH)."""
    v = ()
    for q in tl.static_range(len(weights)):
        found = tl.dot(h, weights[q], input_precision="ieee", out_dtype=ACC)
        v = v + (found.to(h.dtype).to(ACC),)
    return v


@triton.jit
def product_back(d_v, weights, ACC: tl.constexpr):
    """Return the gradient of h by way of W h, (BB, BH), in the dtype of the weights."""
    narrow: tl.constexpr = weights[0].dtype
    total = tl.zeros(d_v[0].shape, ACC)
    for q in tl.static_range(len(weights)):
        total = tl.dot(d_v[q].to(narrow), weights[q], total, input_precision="ieee", out_dtype=ACC)
    return total.to(narrow)


@triton.jit
def sequences_of_program(batch, BB: tl.constexpr):
    """Return the sequences of this program, (BB, 1), in 64 bits, and which of them exist."""
    sequences = (tl.program_id(0) * BB + tl.arange(0, BB))[:, None]
    return sequences.to(tl.int64), sequences < batch


@triton.jit
def steps_of_program(steps, lengths):
    """Return how many steps the longest sequence of this program has."""
    own = steps
    if lengths is not None:
        own = tl.load(lengths + tl.program_id(0)).to(tl.int32)
    return own


@triton.jit
def means_of(v, H: tl.constexpr):
    """Return the means over units that the first step's norms are taken around, (BB, 1) each."""
    means = ()
    for q in tl.static_range(len(v)):
        means = means + (tl.sum(v[q], 1)[:, None] / H,)
    return means


@triton.jit
def rows_of_step(t, sequences, known, firsts, lives, batch):
    """Return the rows of step t, (BB, 1), and which of them exist."""
    if lives is None:
        first = t * batch.to(tl.int64)
        exists = known
    else:
        first = tl.load(firsts + t)
        exists = sequences < tl.load(lives + t)
    return first + sequences, exists


@triton.jit
def load_reset(reset, like, at, mask):
    """Return the state after a reset, shaped as ``like``; zeros if ``reset`` is None.

    Before the first step: loaded inside the loop, it would be copied into shared memory ahead of
    time, at every step.
    """
    found = tl.zeros_like(like)
    if reset is not None:
        found = tl.load(reset + at, mask=mask, other=0.0).to(like.dtype)
    return found


@triton.jit
def cut_off(v, after, cuts, rows, exists):
    """Return what the next step finds of ``v``: in rows that are cut, the state after a reset."""
    if cuts is not None:
        cut = tl.load(cuts + rows, mask=exists, other=0) != 0
        v = tl.where(cut, after, v)
    return v


@triton.jit
def sum_gates(
    d_u,  # (N, GATES * H), gradient of u = gain * N(v) + bias
    d_last,  # (N, H), the same of the last gate, or None if it is in d_u
    x,  # (N, GATES * H), added to W h before the norm; None if not
    side,  # (N, GATES * H), W h
    stats,  # (N, MOMENTS)
    sums,  # (programs, SUMS), added to: gradients of gain, then of bias
    total,  # N
    rows_each,  # rows of a program
    H: tl.constexpr,
    GATES: tl.constexpr,
    MOMENTS: tl.constexpr,
    SUMS: tl.constexpr,
    ACC: tl.constexpr,
    BR: tl.constexpr,
    BH: tl.constexpr,
):
    """Add up, for one gate and some rows, the gradients of gain and bias."""
    gate = tl.program_id(1)
    columns = tl.arange(0, BH)[None, :]
    inside = columns < H
    begin = tl.program_id(0).to(tl.int64) * rows_each
    gains = tl.zeros([BR, BH], ACC)
    biases = tl.zeros([BR, BH], ACC)
    for start in range(0, rows_each, BR):
        rows = begin + start + tl.arange(0, BR)[:, None]
        exists = (rows < total) & (rows < begin + rows_each)
        mask = exists & inside
        at = rows * (GATES * H) + gate * H + columns
        v = tl.load(side + at, mask=mask, other=0.0).to(ACC)
        if x is not None:
            v += tl.load(x + at, mask=mask, other=0.0).to(ACC)
        means, scales = load_moments(stats, rows * MOMENTS + 2 * gate, exists, 0, 1, ACC)
        hat = normalized((v,), mask, means, scales)[0]
        d = tl.load(d_u + at, mask=mask, other=0.0).to(ACC)
        if d_last is not None:
            here = mask & (gate == GATES - 1)
            d = tl.where(here, tl.load(d_last + rows * H + columns, mask=here, other=0.0), d)
        gains += d * hat
        biases += d
    own = tl.program_id(0).to(tl.int64) * SUMS + gate * H
    found = (tl.sum(gains, 0),)
    add_to_own_row(sums, own, tl.arange(0, BH), found, H)
    add_to_own_row(sums, own + GATES * H, tl.arange(0, BH), (tl.sum(biases, 0),), H)


class Sequences(NamedTuple):
    """Where the rows of each step are, as a program reads it; padded ones need no tensors.

    Attributes:
        steps: T.
        batch: B.
        firsts: The first row of each step, (T,), if packed.
        lives: Sequences of each step, (T,), if packed.
        lengths: Steps of each program's longest sequence, if packed.
    """

    steps: int
    batch: int
    firsts: Tensor | None = None
    lives: Tensor | None = None
    lengths: Tensor | None = None


def sequences_of(order: Steps, device: torch.device) -> Sequences:
    """Return the rows of a batch on a device, without waiting for it."""
    if not order.packed:
        return Sequences(len(order.live), order.batch)
    lengths = [sum(live > i for live in order.live) for i in range(0, order.batch, TILE)]
    numbers = torch.tensor([*order.first, *order.live, *lengths], device="cpu")
    if device.type == "cuda":
        numbers = numbers.pin_memory().to(device, non_blocking=True)
    steps = len(order.live)
    parts = numbers.split_with_sizes([steps, steps, len(lengths)])
    return Sequences(steps, order.batch, *parts)


def shape_of(hidden: int) -> tuple[int, int]:
    """Return the columns of a tile for H units, a power of two, and how many warps compute it."""
    columns = max(16, 1 << (hidden - 1).bit_length())
    return columns, min(max(columns // 8, 4), 8)


def fits(
    x: Tensor,
    h_0: Tensor,
    weight_hh: Tensor,
    weight_hr: Tensor | None = None,
    *,
    packed: bool = False,
    backward: bool = False,
) -> bool:
    """Return whether a layer's sequences are computed in one launch: if `ENABLED`, where they fit.

    Args:
        x: Projected, on the device.
        h_0: (B, H), in the dtype of weights and hidden states.
        weight_hh: (G H, H), of G gates.
        weight_hr: Of a projection, which is not computed here.
        packed: Whether sequences are.
        backward: Whether from the last step to the first.
    """
    hidden, dtype = h_0.shape[1], h_0.dtype
    if not ENABLED or (packed and not PACKED):
        return False
    if x.device.type != "cuda" or weight_hr is not None:
        return False
    exact = dtype == torch.float32 and not torch.backends.cuda.matmul.allow_tf32
    if not (dtype in NARROW or (FLOAT32 and exact)) or hidden > WIDEST or h_0.shape[0] == 0:
        return False
    gates = weight_hh.shape[0] // hidden
    return bytes_needed(gates, hidden, x.dtype, dtype, backward) <= shared_memory(x.device)


def bytes_needed(
    gates: int, hidden: int, wide: torch.dtype, narrow: torch.dtype, backward: bool
) -> int:
    """Return the most shared memory that a program takes.

    The weights; the rows of steps to come, of each unit x and backward W h, for each gate, the
    state and the gradient of the output; what is multiplied; and what a tile goes through from one
    thread to another. And of each row to come, moments and whether it is cut.
    """
    columns, _ = shape_of(hidden)
    row, multiplied, moments = gates * wide.itemsize, narrow.itemsize, 0
    if backward:
        moments = 2 * (gates + 1) * 4
        row += gates * narrow.itemsize + (4 if gates == 4 else narrow.itemsize) + narrow.itemsize
        multiplied *= gates
    unit = (STAGES - 1) * row + multiplied + 4
    weights = gates * columns**2 * narrow.itemsize
    return weights + TILE * (columns * unit + (STAGES - 1) * (moments + 4))


@functools.cache
def shared_memory(device: torch.device) -> int:
    """Return the bytes of shared memory that a program may have; 0 where torch does not say.

    It says so of NVIDIA's GPUs. On others the kernels compile, but were never measured.
    """
    properties = torch.cuda.get_device_properties(device)
    return getattr(properties, "shared_memory_per_block_optin", 0)


def word_rows(cuts: Tensor | None) -> Tensor | None:
    """Return which rows are cut, (N, 1), as a kernel reads it.

    Triton lays out what is multiplied by the narrowest number that was loaded on the way to it. For
    bytes that the loop loads, and what is before it does not, it keeps W_hh in shared memory twice.
    """
    return None if cuts is None else cuts.reshape(-1, 1).to(torch.int32)


def launch(
    kernel: Any, constants: dict[str, Any], tensors: dict[str, Any], where: Sequences
) -> None:
    """Run a kernel over whole sequences.

    Args:
        kernel: Has parameters of the names of ``constants`` and ``tensors``.
        constants: Among them H; FAST is added.
        tensors: By name, contiguous, among them the weight.
        where: The rows.
    """
    columns, warps = shape_of(constants["H"])
    kernel[(-(-where.batch // TILE),)](
        **tensors,
        **where._asdict(),
        **constants,
        FAST=tensors["weight"].dtype in NARROW,
        BB=TILE,
        BH=columns,
        STAGES=STAGES,
        num_warps=warps,
        enable_fp_fusion=True,
    )


def launch_rows(
    kernel: Any, constants: dict[str, Any], tensors: dict[str, Any], total: int
) -> None:
    """Run a kernel over all rows at once, a program each."""
    shape = tile(constants["H"])
    kernel[(-(-total // shape.rows),)](
        **tensors,
        **constants,
        total=total,
        BB=shape.rows,
        BH=shape.columns,
        num_warps=shape.warps,
        enable_fp_fusion=True,
    )


def programs_of_sums(total: int) -> tuple[int, int]:
    """Return how many programs add up the rows of a gate, and how many rows each has."""
    each = max(ROWS, -(-total // CHUNKS))
    each = -(-each // ROWS) * ROWS
    return -(-total // each), each


def launch_sums(tensors: dict[str, Any], gates: int, hidden: int, dtype: torch.dtype) -> None:
    """Run `sum_gates`."""
    total = tensors["side"].shape[0]
    programs, each = programs_of_sums(total)
    sum_gates[(programs, gates)](
        **tensors,
        total=total,
        rows_each=each,
        H=hidden,
        GATES=gates,
        MOMENTS=tensors["stats"].shape[1],
        SUMS=tensors["sums"].shape[1],
        ACC=accumulator(dtype),
        BR=ROWS,
        BH=1 << (hidden - 1).bit_length(),
        num_warps=4,
        enable_fp_fusion=True,
    )
