"""The RNN of `lnrnn.ops.triton_rnn` over whole sequences in one launch.

The step is the same; `lnrnn.ops.triton_persistent` says what else is not.
"""

# Inside @triton.jit it is Triton, not Python, that gives the names their types.
# pyright: reportMissingImports=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from lnrnn.ops import triton_persistent as persistent
from lnrnn.ops.triton_norm import (
    constants,
    load_gates,
    load_moments,
    norm_backward,
    save_moments,
    store_gates,
    units_of_tile,
)
from lnrnn.ops.triton_persistent import (
    cut_off,
    load_reset,
    load_weights,
    means_of,
    product_back,
    products,
    rows_of_step,
    sequences_of_program,
    steps_of_program,
)
from lnrnn.ops.triton_rnn import MOMENTS, rnn_cell, rnn_cell_backward
from lnrnn.ops.triton_steps import (
    Steps,
    copied,
    flat,
    plain,
    sum_of,
    summed,
    widened,
    zeros_of,
)


@triton.jit(do_not_specialize=["steps", "batch"])
def rnn_persistent_forward(
    x,  # (N, H)
    weight,  # (H, H)
    gain,  # (H,)
    bias,  # (H,) or None
    h,  # (B, H), replaced
    output,  # (N, H), written
    cuts,  # (N, 1), or None: where the next step finds the reset state
    reset_h,  # (B, H), or None for zeros
    steps,
    batch,
    firsts,
    lives,
    lengths,
    H: tl.constexpr,
    JOINT: tl.constexpr,
    RELU: tl.constexpr,
    CENTERED: tl.constexpr,
    EPS: tl.constexpr,
    REVERSE: tl.constexpr,
    MATRIX: tl.constexpr,
    FAST: tl.constexpr,
    ACC: tl.constexpr,
    BB: tl.constexpr,
    BH: tl.constexpr,
    STAGES: tl.constexpr,
):
    """All steps of some sequences."""
    columns, inside = units_of_tile(H, BH)
    sequences, known = sequences_of_program(batch, BB)
    weights = load_weights(weight, columns, inside, 1, H, BH, False)
    gains = load_gates(gain, columns, inside, 1, H, ACC)
    biases = load_gates(bias, columns, inside, 1, H, ACC)
    at = sequences * H + columns
    hidden = tl.load(h + at, mask=known & inside, other=0.0)
    after = load_reset(reset_h, hidden, at, known & inside)
    own = steps_of_program(steps, lengths)
    means = means_of((tl.zeros_like(hidden.to(ACC)),), H)
    if MATRIX:
        v = products(hidden, weights, ACC)
    for i in tl.range(0, own, num_stages=STAGES):
        t = own - 1 - i if REVERSE else i
        rows, exists = rows_of_step(t, sequences, known, firsts, lives, batch)
        mask = exists & inside
        around = None
        if MATRIX:
            around = means
        else:
            v = products(hidden, weights, ACC)
        inputs = load_gates(x, rows * H + columns, mask, 1, H, ACC)
        y, means, _ = rnn_cell(
            v,
            inputs,
            gains,
            biases,
            columns,
            inside,
            mask,
            around,
            H,
            JOINT,
            RELU,
            CENTERED,
            EPS,
            ACC,
            FAST,
            True,
        )
        put_out = y.to(hidden.dtype)
        tl.store(output + rows * H + columns, put_out, mask=mask)
        put_out = cut_off(put_out, after, cuts, rows, exists)
        if lives is not None:  # a sequence that is not live keeps its state
            put_out = tl.where(exists, put_out, hidden)
        hidden = put_out
        if MATRIX:  # here: rows that are read for a product are copied in ahead of time
            v = products(hidden, weights, ACC)
    tl.store(h + at, hidden, mask=known & inside)


@triton.jit
def rnn_moments(
    x,  # (N, H)
    side,  # (N, H), W h
    stats,  # (N, 2), written
    total,  # N
    H: tl.constexpr,
    JOINT: tl.constexpr,
    RELU: tl.constexpr,
    CENTERED: tl.constexpr,
    EPS: tl.constexpr,
    FAST: tl.constexpr,
    ACC: tl.constexpr,
    BB: tl.constexpr,
    BH: tl.constexpr,
):
    """The moments of some rows' norms, from W h and x."""
    columns, inside = units_of_tile(H, BH)
    rows = (tl.program_id(0) * BB + tl.arange(0, BB))[:, None].to(tl.int64)
    exists = rows < total
    mask = exists & inside
    v = load_gates(side, rows * H + columns, mask, 1, H, ACC)
    inputs = load_gates(x, rows * H + columns, mask, 1, H, ACC)
    _, means, scales = rnn_cell(
        v,
        inputs,
        None,
        None,
        columns,
        inside,
        mask,
        None,
        H,
        JOINT,
        RELU,
        CENTERED,
        EPS,
        ACC,
        FAST,
        False,
    )
    save_moments(stats, rows * 2, exists, means, scales)


@triton.jit(do_not_specialize=["steps", "batch"])
def rnn_persistent_backward(
    d_output,  # (N, H)
    d_h,  # (B, H), gradient of the state that the last step left, replaced by that of the first's
    x,  # (N, H)
    side,  # (N, H)
    stats,  # (N, 2)
    weight,  # (H, H)
    gain,  # (H,)
    bias,  # (H,) or None
    d_x,  # (N, H), written: gradient of z
    d_side,  # (N, H), written: gradient of W h
    cuts,  # (N, 1), or None
    d_reset_h,  # (B, H), written, or None
    steps,
    batch,
    firsts,
    lives,
    lengths,
    H: tl.constexpr,
    JOINT: tl.constexpr,
    RELU: tl.constexpr,
    CENTERED: tl.constexpr,
    REVERSE: tl.constexpr,
    FAST: tl.constexpr,
    ACC: tl.constexpr,
    BB: tl.constexpr,
    BH: tl.constexpr,
    STAGES: tl.constexpr,
):
    """All steps of some sequences backward."""
    columns, inside = units_of_tile(H, BH)
    sequences, known = sequences_of_program(batch, BB)
    weights = load_weights(weight, columns, inside, 1, H, BH, True)
    gains = load_gates(gain, columns, inside, 1, H, ACC)
    biases = load_gates(bias, columns, inside, 1, H, ACC)
    at = sequences * H + columns
    d_hidden = tl.load(d_h + at, mask=known & inside, other=0.0)
    reset_sum = tl.zeros([BB, BH], ACC)
    own = steps_of_program(steps, lengths)
    for i in tl.range(0, own, num_stages=STAGES):
        t = i if REVERSE else own - 1 - i
        rows, exists = rows_of_step(t, sequences, known, firsts, lives, batch)
        mask = exists & inside
        v = load_gates(side, rows * H + columns, mask, 1, H, ACC)
        inputs = load_gates(x, rows * H + columns, mask, 1, H, ACC)
        put_out = tl.load(d_output + rows * H + columns, mask=mask, other=0.0).to(ACC)
        means, scales = load_moments(stats, rows * 2, exists, 0, 1, ACC)
        d = tl.where(mask, d_hidden.to(ACC), 0.0)
        if cuts is not None:
            cut = tl.load(cuts + rows, mask=exists, other=0) != 0
            reset_sum += tl.where(cut, d, 0.0)
            d = tl.where(cut, 0.0, d)
        d_z, hats = rnn_cell_backward(
            v, inputs, d + put_out, means, scales, gains, biases, mask, JOINT, RELU, FAST
        )
        d_v = norm_backward(d_z, gains, hats, scales, H, ((0, 1),), CENTERED)
        store_gates(d_x, rows * H + columns, mask, d_z, H)
        store_gates(d_side, rows * H + columns, mask, d_v, H)
        d_found = product_back(d_v, weights, ACC)
        if lives is not None:
            d_found = tl.where(exists, d_found, d_hidden)
        d_hidden = d_found
    tl.store(d_h + at, d_hidden, mask=known & inside)
    if d_reset_h is not None:
        tl.store(d_reset_h + at, reset_sum, mask=known & inside)


def forward(
    x: Tensor,
    h_0: Tensor,
    weight_hh: Tensor,
    gain: Tensor,
    bias_hh: Tensor | None,
    batch_sizes: Tensor | None,
    reverse: bool,
    joint: bool,
    relu: bool,
    centered: bool,
    eps: float,
    keep: bool,
    cuts: Tensor | None = None,
    reset_h: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Run ``lnrnn::ln_rnn``."""
    order, hidden, dtype = Steps(x, batch_sizes, reverse), h_0.shape[1], h_0.dtype
    kept, rows = order.total if keep else 0, flat(x)
    output, h = h_0.new_empty(order.total, hidden), copied(h_0, dtype)
    side = h_0.new_empty(kept, hidden)
    stats = h_0.new_empty(kept, 2 * MOMENTS, dtype=widened(dtype))
    compiled = constants(dtype, hidden, JOINT=joint, RELU=relu, CENTERED=centered, EPS=eps)
    persistent.launch(
        rnn_persistent_forward,
        {**compiled, "REVERSE": reverse, "MATRIX": dtype in persistent.MATRIX},
        {
            "x": rows,
            "weight": plain(weight_hh),
            "gain": plain(gain),
            "bias": plain(bias_hh),
            "h": h,
            "output": output,
            "cuts": persistent.word_rows(cuts),
            "reset_h": plain(reset_h),
        },
        persistent.sequences_of(order, x.device),
    )
    if keep:
        before = order.before(order.handed_on(output, cuts, reset_h), h_0)
        torch.mm(before, weight_hh.t(), out=side)
        made_of = {"x": rows, "side": side, "stats": stats}
        compiled["FAST"] = dtype in persistent.NARROW
        persistent.launch_rows(rnn_moments, compiled, made_of, order.total)
    return output.view(x.shape), h, side, stats


def backward(
    d_output: Tensor,
    d_h_n: Tensor,
    x: Tensor,
    h_0: Tensor,
    weight_hh: Tensor,
    gain: Tensor,
    bias_hh: Tensor | None,
    output: Tensor,
    h_n: Tensor,
    side: Tensor,
    stats: Tensor,
    batch_sizes: Tensor | None,
    reverse: bool,
    joint: bool,
    relu: bool,
    centered: bool,
    eps: float,
    cuts: Tensor | None = None,
    reset_h: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Run ``lnrnn::ln_rnn_backward``."""
    order, hidden, dtype = Steps(x, batch_sizes, reverse), h_0.shape[1], h_0.dtype
    wide, rows = widened(dtype), flat(x)
    d_h, d_reset_h = copied(d_h_n, dtype), zeros_of(reset_h)
    sums = h_0.new_zeros(persistent.programs_of_sums(order.total)[0], 2 * hidden, dtype=wide)
    # Of a joint norm, z is not x plus something: its gradient is for the sums alone.
    d_z = x.new_empty(order.total, hidden, dtype=wide if joint else x.dtype)
    d_side = h_0.new_empty(order.total, hidden)
    persistent.launch(
        rnn_persistent_backward,
        constants(dtype, hidden, JOINT=joint, RELU=relu, CENTERED=centered, REVERSE=reverse),
        {
            "d_output": flat(d_output),
            "d_h": d_h,
            "x": rows,
            "side": side,
            "stats": stats,
            "weight": plain(weight_hh),
            "gain": plain(gain),
            "bias": plain(bias_hh),
            "d_x": d_z,
            "d_side": d_side,
            "cuts": persistent.word_rows(cuts),
            "d_reset_h": d_reset_h,
        },
        persistent.sequences_of(order, x.device),
    )
    added_up = {"d_u": d_z, "d_last": None, "x": rows if joint else None}
    added_up |= {"side": side, "stats": stats, "sums": sums}
    persistent.launch_sums(added_up, 1, hidden, dtype)
    before = order.before(order.handed_on(flat(output), cuts, reset_h), h_0)
    return (
        (d_side.to(x.dtype) if joint else d_z).view(x.shape),
        d_h,
        d_side.t().mm(before),
        *summed(sums, [hidden, hidden], [gain, bias_hh]),
        sum_of(d_reset_h, reset_h, x),
    )
