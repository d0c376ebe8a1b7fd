"""The LSTM of `lnrnn.ops.triton_lstm` over whole sequences in one launch.

The step is the same; `lnrnn.ops.triton_persistent` says what else is not.
"""

# Inside @triton.jit it is Triton, not Python, that gives the names their types.
# pyright: reportMissingImports=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false
# pyright: reportPossiblyUnboundVariable=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from lnrnn.ops import triton_persistent as persistent
from lnrnn.ops.triton_lstm import MOMENTS, lstm_cell, lstm_cell_backward
from lnrnn.ops.triton_norm import (
    add_to_own_row,
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
def lstm_persistent_forward(
    x,  # (N, 4H)
    weight,  # (4H, H)
    gain,  # (4H,)
    bias,  # (4H,) or None
    gain_c,  # (H,) or None
    shift_c,  # (H,) or None
    h,  # (B, H), replaced
    c,  # (B, H), replaced
    output,  # (N, H), written
    cells,  # (N, H), written: c as each step found it, or None
    cuts,  # (N, 1), or None: where the next step finds the reset states
    reset_h,  # (B, H), or None for zeros
    reset_c,  # (B, H), or None for zeros
    steps,
    batch,
    firsts,
    lives,
    lengths,
    H: tl.constexpr,
    SPANS: tl.constexpr,
    JOINT: tl.constexpr,
    CELL: tl.constexpr,
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
    weights = load_weights(weight, columns, inside, 4, H, BH, False)
    gains = load_gates(gain, columns, inside, 4, H, ACC)
    biases = load_gates(bias, columns, inside, 4, H, ACC)
    gains_c = load_gates(gain_c, columns, inside, 1, H, ACC)
    shifts_c = load_gates(shift_c, columns, inside, 1, H, ACC)
    at = sequences * H + columns
    hidden = tl.load(h + at, mask=known & inside, other=0.0)
    state = tl.load(c + at, mask=known & inside, other=0.0)
    after_h = load_reset(reset_h, hidden, at, known & inside)
    after_c = load_reset(reset_c, state, at, known & inside)
    means = means_of((tl.zeros_like(state),) * 4 + (state,), H)
    own = steps_of_program(steps, lengths)
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
        inputs = load_gates(x, rows * (4 * H) + columns, mask, 4, H, ACC)
        if cells is not None:
            tl.store(cells + rows * H + columns, state, mask=mask)
        new, y, means, _ = lstm_cell(
            v,
            inputs,
            state,
            gains,
            biases,
            gains_c,
            shifts_c,
            columns,
            inside,
            mask,
            around,
            None,
            H,
            SPANS,
            JOINT,
            CELL,
            CENTERED,
            EPS,
            ACC,
            FAST,
            True,
        )
        put_out = y.to(hidden.dtype)
        tl.store(output + rows * H + columns, put_out, mask=mask)
        new = cut_off(new, after_c, cuts, rows, exists)
        put_out = cut_off(put_out, after_h, cuts, rows, exists)
        if lives is not None:  # a sequence that is not live keeps its state
            new = tl.where(exists, new, state)
            put_out = tl.where(exists, put_out, hidden)
        state = new
        hidden = put_out
        if MATRIX:  # here: rows that are read for a product are copied in ahead of time
            v = products(hidden, weights, ACC)
    tl.store(h + at, hidden, mask=known & inside)
    tl.store(c + at, state, mask=known & inside)


@triton.jit
def lstm_moments(
    x,  # (N, 4H)
    side,  # (N, 4H), W h
    cells,  # (N, H)
    gain,
    bias,
    stats,  # (N, 10), written
    total,  # N
    H: tl.constexpr,
    SPANS: tl.constexpr,
    JOINT: tl.constexpr,
    CELL: tl.constexpr,
    CENTERED: tl.constexpr,
    EPS: tl.constexpr,
    FAST: tl.constexpr,
    ACC: tl.constexpr,
    BB: tl.constexpr,
    BH: tl.constexpr,
):
    """The moments of some rows' norms, from W h and what a step found."""
    columns, inside = units_of_tile(H, BH)
    rows = (tl.program_id(0) * BB + tl.arange(0, BB))[:, None].to(tl.int64)
    exists = rows < total
    mask = exists & inside
    v = load_gates(side, rows * (4 * H) + columns, mask, 4, H, ACC)
    inputs = load_gates(x, rows * (4 * H) + columns, mask, 4, H, ACC)
    before = tl.load(cells + rows * H + columns, mask=mask, other=0.0)
    _, _, means, scales = lstm_cell(
        v,
        inputs,
        before,
        gain,
        bias,
        None,
        None,
        columns,
        inside,
        mask,
        None,
        None,
        H,
        SPANS,
        JOINT,
        CELL,
        CENTERED,
        EPS,
        ACC,
        FAST,
        False,
    )
    save_moments(stats, rows * 10, exists, means, scales)


@triton.jit(do_not_specialize=["steps", "batch"])
def lstm_persistent_backward(
    d_output,  # (N, H)
    d_h,  # (B, H), gradient of the state that the last step left, replaced by that of the first's
    d_c,  # (B, H), the same of the cell state
    x,  # (N, 4H)
    side,  # (N, 4H)
    cells,  # (N, H)
    stats,  # (N, 10)
    weight,  # (4H, H)
    gain,  # (4H,)
    bias,  # (4H,) or None
    gain_c,  # (H,) or None
    shift_c,  # (H,) or None
    d_x,  # (N, 4H), written: gradient of z
    d_side,  # (N, 4H), written: gradient of W h
    sums,  # (programs, 10H), added to: gradients of gain_c and shift_c
    cuts,  # (N, 1), or None
    d_reset_h,  # (B, H), written, or None
    d_reset_c,  # (B, H), written, or None
    steps,
    batch,
    firsts,
    lives,
    lengths,
    H: tl.constexpr,
    SPANS: tl.constexpr,
    JOINT: tl.constexpr,
    CELL: tl.constexpr,
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
    weights = load_weights(weight, columns, inside, 4, H, BH, True)
    gains = load_gates(gain, columns, inside, 4, H, ACC)
    biases = load_gates(bias, columns, inside, 4, H, ACC)
    gains_c = load_gates(gain_c, columns, inside, 1, H, ACC)
    shifts_c = load_gates(shift_c, columns, inside, 1, H, ACC)
    at = sequences * H + columns
    d_hidden = tl.load(d_h + at, mask=known & inside, other=0.0)
    d_state = tl.load(d_c + at, mask=known & inside, other=0.0)
    gain_sum = tl.zeros([BB, BH], ACC)
    shift_sum = tl.zeros([BB, BH], ACC)
    reset_sum_h = tl.zeros([BB, BH], ACC)
    reset_sum_c = tl.zeros([BB, BH], ACC)
    own = steps_of_program(steps, lengths)
    for i in tl.range(0, own, num_stages=STAGES):
        t = i if REVERSE else own - 1 - i
        rows, exists = rows_of_step(t, sequences, known, firsts, lives, batch)
        mask = exists & inside
        v = load_gates(side, rows * (4 * H) + columns, mask, 4, H, ACC)
        inputs = load_gates(x, rows * (4 * H) + columns, mask, 4, H, ACC)
        before = tl.load(cells + rows * H + columns, mask=mask, other=0.0)
        put_out = tl.load(d_output + rows * H + columns, mask=mask, other=0.0).to(ACC)
        means, scales = load_moments(stats, rows * 10, exists, 0, 5, ACC)
        d_y = tl.where(mask, d_hidden.to(ACC), 0.0)
        later = tl.where(mask, d_state, 0.0)
        if cuts is not None:
            cut = tl.load(cuts + rows, mask=exists, other=0) != 0
            reset_sum_h += tl.where(cut, d_y, 0.0)
            reset_sum_c += tl.where(cut, later, 0.0)
            d_y = tl.where(cut, 0.0, d_y)
            later = tl.where(cut, 0.0, later)
        d_before, d_z, d_seen, hats, hat_c, _ = lstm_cell_backward(
            v,
            inputs,
            before,
            later,
            d_y + put_out,
            means,
            scales,
            gains,
            biases,
            gains_c,
            shifts_c,
            mask,
            None,
            H,
            JOINT,
            CELL,
            CENTERED,
            FAST,
        )
        d_v = norm_backward(d_z, gains, hats, scales[:4], H, SPANS, CENTERED)
        if CELL is not None:
            gain_sum += d_seen * hat_c[0]
            shift_sum += d_seen
        store_gates(d_x, rows * (4 * H) + columns, mask, d_z, H)
        store_gates(d_side, rows * (4 * H) + columns, mask, d_v, H)
        d_found = product_back(d_v, weights, ACC)
        if lives is not None:
            d_before = tl.where(exists, d_before, d_state)
            d_found = tl.where(exists, d_found, d_hidden)
        d_state = d_before
        d_hidden = d_found
    tl.store(d_h + at, d_hidden, mask=known & inside)
    tl.store(d_c + at, d_state, mask=known & inside)
    if d_reset_h is not None:
        tl.store(d_reset_h + at, reset_sum_h, mask=known & inside)
    if d_reset_c is not None:
        tl.store(d_reset_c + at, reset_sum_c, mask=known & inside)
    if CELL is not None:
        own_row = tl.program_id(0).to(tl.int64) * (10 * H) + 8 * H
        found = (tl.sum(gain_sum, 0), tl.sum(shift_sum, 0))
        add_to_own_row(sums, own_row, tl.arange(0, BH), found, H)


def forward(
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weight_hh: Tensor,
    gain: Tensor,
    bias_hh: Tensor | None,
    gain_c: Tensor | None,
    shift_c: Tensor | None,
    weight_hr: Tensor | None,
    batch_sizes: Tensor | None,
    reverse: bool,
    joint: bool,
    spans: list[int],
    cell: str | None,
    centered: bool,
    eps: float,
    keep: bool,
    cuts: Tensor | None = None,
    reset_h: Tensor | None = None,
    reset_c: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Run ``lnrnn::ln_lstm``."""
    order, hidden = Steps(x, batch_sizes, reverse), c_0.shape[1]
    dtype, wide, rows = h_0.dtype, widened(h_0.dtype), flat(x)
    kept = order.total if keep else 0
    h, c = copied(h_0, dtype), copied(c_0, wide)
    output = h_0.new_empty(order.total, hidden)
    cells = h_0.new_empty(kept, hidden, dtype=wide)
    stats = h_0.new_empty(kept, 2 * MOMENTS, dtype=wide)
    compiled = constants(
        dtype, hidden, SPANS=spans_of(spans), JOINT=joint, CELL=cell, CENTERED=centered, EPS=eps
    )
    affine = {"gain": plain(gain), "bias": plain(bias_hh)}
    persistent.launch(
        lstm_persistent_forward,
        {**compiled, "REVERSE": reverse, "MATRIX": dtype in persistent.MATRIX},
        {
            **affine,
            "x": rows,
            "weight": plain(weight_hh),
            "gain_c": plain(gain_c),
            "shift_c": plain(shift_c),
            "h": h,
            "c": c,
            "output": output,
            "cells": cells if keep else None,
            "cuts": persistent.word_rows(cuts),
            "reset_h": plain(reset_h),
            "reset_c": plain(reset_c),
        },
        persistent.sequences_of(order, x.device),
    )
    side = h_0.new_empty(kept, 4 * hidden)
    if keep:
        before = order.before(order.handed_on(output, cuts, reset_h), h_0)
        torch.mm(before, weight_hh.t(), out=side)
        made_of = {**affine, "x": rows, "side": side, "cells": cells, "stats": stats}
        compiled["FAST"] = dtype in persistent.NARROW
        persistent.launch_rows(lstm_moments, compiled, made_of, order.total)
    return output.view(*x.shape[:-1], hidden), h, c, side, cells, stats


def backward(
    d_output: Tensor,
    d_h_n: Tensor,
    d_c_n: Tensor,
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weight_hh: Tensor,
    gain: Tensor,
    bias_hh: Tensor | None,
    gain_c: Tensor | None,
    shift_c: Tensor | None,
    weight_hr: Tensor | None,
    output: Tensor,
    h_n: Tensor,
    c_n: Tensor,
    side: Tensor,
    cells: Tensor,
    stats: Tensor,
    batch_sizes: Tensor | None,
    reverse: bool,
    joint: bool,
    spans: list[int],
    cell: str | None,
    centered: bool,
    eps: float,
    cuts: Tensor | None = None,
    reset_h: Tensor | None = None,
    reset_c: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Run ``lnrnn::ln_lstm_backward``."""
    order, hidden = Steps(x, batch_sizes, reverse), c_0.shape[1]
    dtype, wide, rows = h_0.dtype, widened(h_0.dtype), flat(x)
    where = persistent.sequences_of(order, x.device)
    d_h, d_c = copied(d_h_n, dtype), copied(d_c_n, wide)
    d_resets = {"d_reset_h": zeros_of(reset_h), "d_reset_c": zeros_of(reset_c)}
    programs = max(-(-order.batch // persistent.TILE), persistent.programs_of_sums(order.total)[0])
    sums = h_0.new_zeros(programs, 10 * hidden, dtype=wide)
    # Of a joint norm, z is not x plus something: its gradient is for the sums alone.
    d_z = x.new_empty(order.total, 4 * hidden, dtype=wide if joint else x.dtype)
    d_side = h_0.new_empty(order.total, 4 * hidden)
    persistent.launch(
        lstm_persistent_backward,
        constants(
            dtype,
            hidden,
            SPANS=spans_of(spans),
            JOINT=joint,
            CELL=cell,
            CENTERED=centered,
            REVERSE=reverse,
        ),
        {
            "d_output": flat(d_output),
            "d_h": d_h,
            "d_c": d_c,
            "x": rows,
            "side": side,
            "cells": cells,
            "stats": stats,
            "weight": plain(weight_hh),
            "gain": plain(gain),
            "bias": plain(bias_hh),
            "gain_c": plain(gain_c),
            "shift_c": plain(shift_c),
            "d_x": d_z,
            "d_side": d_side,
            "sums": sums,
            "cuts": persistent.word_rows(cuts),
            **d_resets,
        },
        where,
    )
    added_up = {"d_u": d_z, "d_last": None, "x": rows if joint else None}
    added_up |= {"side": side, "stats": stats, "sums": sums}
    persistent.launch_sums(added_up, 4, hidden, dtype)
    before = order.before(order.handed_on(flat(output), cuts, reset_h), h_0)
    affine_grads = summed(
        sums, [4 * hidden, 4 * hidden, hidden, hidden], [gain, bias_hh, gain_c, shift_c]
    )
    return (
        (d_side.to(x.dtype) if joint else d_z).view(x.shape),
        d_h,
        d_c.to(c_0.dtype),
        d_side.t().mm(before),
        *affine_grads,
        h_0.new_empty(0),
        sum_of(d_resets["d_reset_h"], reset_h, x),
        sum_of(d_resets["d_reset_c"], reset_c, x),
    )
