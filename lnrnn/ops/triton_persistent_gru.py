"""The GRU of `lnrnn.ops.triton_gru` over whole sequences in one launch.

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
from lnrnn.ops.triton_gru import MOMENTS, gru_cell, gru_cell_backward
from lnrnn.ops.triton_norm import (
    constants,
    load_gates,
    load_moments,
    measure,
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
from lnrnn.ops.triton_steps import (
    Steps,
    copied,
    flat,
    plain,
    spans_of,
    sum_of,
    summed,
    widened,
    zeros_of,
)


@triton.jit(do_not_specialize=["steps", "batch"])
def gru_persistent_forward(
    x,  # (N, 3H)
    weight,  # (3H, H)
    gain,  # (3H,)
    bias,  # (3H,) or None
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
    SPANS: tl.constexpr,
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
    weights = load_weights(weight, columns, inside, 3, H, BH, False)
    gains = load_gates(gain, columns, inside, 3, H, ACC)
    biases = load_gates(bias, columns, inside, 3, H, ACC)
    at = sequences * H + columns
    hidden = tl.load(h + at, mask=known & inside, other=0.0)
    after = load_reset(reset_h, hidden, at, known & inside)
    own = steps_of_program(steps, lengths)
    means = means_of((tl.zeros_like(hidden.to(ACC)),) * 3, H)
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
        inputs = load_gates(x, rows * (3 * H) + columns, mask, 3, H, ACC)
        y, means, _ = gru_cell(
            v,
            inputs,
            hidden.to(ACC),
            gains,
            biases,
            columns,
            inside,
            mask,
            around,
            None,
            H,
            SPANS,
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
def gru_moments(
    side,  # (N, 3H), W h
    stats,  # (N, 6), written
    total,  # N
    H: tl.constexpr,
    SPANS: tl.constexpr,
    CENTERED: tl.constexpr,
    EPS: tl.constexpr,
    ACC: tl.constexpr,
    BB: tl.constexpr,
    BH: tl.constexpr,
):
    """The moments of some rows' norms, from W h."""
    columns, inside = units_of_tile(H, BH)
    rows = (tl.program_id(0) * BB + tl.arange(0, BB))[:, None].to(tl.int64)
    exists = rows < total
    v = load_gates(side, rows * (3 * H) + columns, exists & inside, 3, H, ACC)
    means, scales = measure(v, exists & inside, None, H, SPANS, CENTERED, EPS)
    save_moments(stats, rows * 6, exists, means, scales)


@triton.jit(do_not_specialize=["steps", "batch"])
def gru_persistent_backward(
    d_output,  # (N, H)
    d_h,  # (B, H), gradient of the state that the last step left
    d_h_0,  # (B, H), written: of the state that the first one found
    x,  # (N, 3H)
    before,  # (N, H), the state before each step
    side,  # (N, 3H)
    stats,  # (N, 6)
    weight,  # (3H, H)
    gain,  # (3H,)
    bias,  # (3H,) or None
    d_x,  # (N, 3H), written
    d_last,  # (N, H), written: gradient of u of the candidate
    d_side,  # (N, 3H), written: gradient of W h
    cuts,  # (N, 1), or None
    d_reset_h,  # (B, H), written, or None
    steps,
    batch,
    firsts,
    lives,
    lengths,
    H: tl.constexpr,
    SPANS: tl.constexpr,
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
    weights = load_weights(weight, columns, inside, 3, H, BH, True)
    gains = load_gates(gain, columns, inside, 3, H, ACC)
    biases = load_gates(bias, columns, inside, 3, H, ACC)
    at = sequences * H + columns
    # Apart, so that what does not pass through the product is not narrowed at every step.
    d_hidden = tl.load(d_h + at, mask=known & inside, other=0.0)
    d_direct = tl.zeros([BB, BH], ACC)
    reset_sum = tl.zeros([BB, BH], ACC)
    own = steps_of_program(steps, lengths)
    for i in tl.range(0, own, num_stages=STAGES):
        t = i if REVERSE else own - 1 - i
        rows, exists = rows_of_step(t, sequences, known, firsts, lives, batch)
        mask = exists & inside
        v = load_gates(side, rows * (3 * H) + columns, mask, 3, H, ACC)
        inputs = load_gates(x, rows * (3 * H) + columns, mask, 3, H, ACC)
        found = tl.load(before + rows * H + columns, mask=mask, other=0.0).to(ACC)
        put_out = tl.load(d_output + rows * H + columns, mask=mask, other=0.0).to(ACC)
        means, scales = load_moments(stats, rows * 6, exists, 0, 3, ACC)
        d = tl.where(mask, d_direct + d_hidden.to(ACC), 0.0)
        if cuts is not None:
            cut = tl.load(cuts + rows, mask=exists, other=0) != 0
            reset_sum += tl.where(cut, d, 0.0)
            d = tl.where(cut, 0.0, d)
        d_before, d_inputs, d_u, hats = gru_cell_backward(
            v, inputs, found, d + put_out, means, scales, gains, biases, mask, None, FAST
        )
        d_v = norm_backward(d_u, gains, hats, scales, H, SPANS, CENTERED)
        store_gates(d_x, rows * (3 * H) + columns, mask, d_inputs, H)
        tl.store(d_last + rows * H + columns, d_u[2], mask=mask)
        store_gates(d_side, rows * (3 * H) + columns, mask, d_v, H)
        d_found = product_back(d_v, weights, ACC)
        if lives is not None:
            d_before = tl.where(exists, d_before, d_direct)
            d_found = tl.where(exists, d_found, d_hidden)
        d_direct = d_before
        d_hidden = d_found
    tl.store(d_h_0 + at, d_direct + d_hidden.to(ACC), mask=known & inside)
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
    spans: list[int],
    centered: bool,
    eps: float,
    keep: bool,
    cuts: Tensor | None = None,
    reset_h: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Run ``lnrnn::ln_gru``."""
    order, hidden, dtype = Steps(x, batch_sizes, reverse), h_0.shape[1], h_0.dtype
    kept = order.total if keep else 0
    output, h = h_0.new_empty(order.total, hidden), copied(h_0, dtype)
    side = h_0.new_empty(kept, 3 * hidden)
    stats = h_0.new_empty(kept, 2 * MOMENTS, dtype=widened(dtype))
    compiled = constants(dtype, hidden, SPANS=spans_of(spans), CENTERED=centered, EPS=eps)
    persistent.launch(
        gru_persistent_forward,
        {**compiled, "REVERSE": reverse, "MATRIX": dtype in persistent.MATRIX},
        {
            "x": flat(x),
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
        persistent.launch_rows(gru_moments, compiled, {"side": side, "stats": stats}, order.total)
    return output.view(*x.shape[:-1], hidden), h, side, stats


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
    spans: list[int],
    centered: bool,
    eps: float,
    cuts: Tensor | None = None,
    reset_h: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Run ``lnrnn::ln_gru_backward``."""
    order, hidden, dtype = Steps(x, batch_sizes, reverse), h_0.shape[1], h_0.dtype
    wide = widened(dtype)
    before = order.before(order.handed_on(flat(output), cuts, reset_h), h_0)
    d_h_0, d_reset_h = h_0.new_empty(h_0.shape), zeros_of(reset_h)
    sums = h_0.new_zeros(persistent.programs_of_sums(order.total)[0], 6 * hidden, dtype=wide)
    d_x, d_side = x.new_empty(order.total, 3 * hidden), h_0.new_empty(order.total, 3 * hidden)
    d_last = h_0.new_empty(order.total, hidden, dtype=wide)
    persistent.launch(
        gru_persistent_backward,
        constants(dtype, hidden, SPANS=spans_of(spans), CENTERED=centered, REVERSE=reverse),
        {
            "d_output": flat(d_output),
            "d_h": plain(d_h_n.to(dtype)),
            "d_h_0": d_h_0,
            "x": flat(x),
            "before": before,
            "side": side,
            "stats": stats,
            "weight": plain(weight_hh),
            "gain": plain(gain),
            "bias": plain(bias_hh),
            "d_x": d_x,
            "d_last": d_last,
            "d_side": d_side,
            "cuts": persistent.word_rows(cuts),
            "d_reset_h": d_reset_h,
        },
        persistent.sequences_of(order, x.device),
    )
    added_up = {"d_u": d_x, "d_last": d_last, "x": None, "side": side, "stats": stats, "sums": sums}
    persistent.launch_sums(added_up, 3, hidden, dtype)
    return (
        d_x.view(x.shape),
        d_h_0,
        d_side.t().mm(before),
        *summed(sums, [3 * hidden, 3 * hidden], [gain, bias_hh]),
        sum_of(d_reset_h, reset_h, x),
    )
