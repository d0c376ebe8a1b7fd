"""The LSTM of `lnrnn.ops.reference.ln_lstm` in Triton, gates in torch's order i, f, g, o.

With u = gain * N(v) + bias and joint: v = x + W h, z = u; separate: v = W h, z = x + u,
c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = W_hr (sigmoid(o) tanh(c^)); c^ is what the norm of the
cell state makes of c', which it also replaces if it is the state that is normalized.

Kept for the backward: W h as the product put it out, (N, 4H); the cell states before each step,
(N, H); the moments of each gate's norm and of the cell's, (N, 10). The rest is computed again from
them and x.
"""

# Inside @triton.jit it is Triton, not Python, that gives the names their types.
# pyright: reportMissingImports=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# pyright: reportOptionalOperand=false, reportReturnType=false, reportGeneralTypeIssues=false
# pyright: reportPossiblyUnboundVariable=false

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from lnrnn.ops.triton_graphs import GRAPHS
from lnrnn.ops.triton_noise import (
    NO_NOISE,
    StepNoise,
    candidate_scale,
    fresh_part,
    load_d_h,
    scaled,
    store_seen,
    with_old_part,
    zoned_out,
)
from lnrnn.ops.triton_norm import (
    add_gates,
    add_to_own_row,
    affine,
    constants,
    gates_of,
    handed_on,
    load_gates,
    load_moments,
    measure,
    no_sums,
    norm_backward,
    normalized,
    rows_of_tile,
    save_moments,
    sigmoid,
    store_gates,
    sum_rows,
    taken_back,
    tanh,
    units_of_tile,
)
from lnrnn.ops.triton_projection import apart_from_h, project, project_back
from lnrnn.ops.triton_steps import (
    Loop,
    Steps,
    blocks_of,
    byte_rows,
    copied,
    flat,
    launch,
    plain,
    product,
    product_back,
    spans_of,
    sum_of,
    summed,
    widened,
    zeros_of,
)

MOMENTS = 5  # of four gates and the cell
# What is random inside the steps: a row for each of N, and what does not concern h.
MASKS = ("fresh_h", "fresh_c", "kept_candidate")
OF_C = ("zoneout_c", "candidate_share")


@triton.jit
def lstm_cell(
    v,  # W h of each gate
    inputs,
    before,  # the cell state that the step finds
    gain,  # and the three that follow: where they are, or what they are if LOADED
    bias,
    gain_c,
    shift_c,
    columns,
    inside,
    mask,
    around,  # means that those of the gates and of the cell are near, or None
    scale,  # of the candidate, or None
    H: tl.constexpr,
    SPANS: tl.constexpr,
    JOINT: tl.constexpr,
    CELL: tl.constexpr,
    CENTERED: tl.constexpr,
    EPS: tl.constexpr,
    ACC: tl.constexpr,
    FAST: tl.constexpr,
    LOADED: tl.constexpr,
):
    """Return the cell state that is handed on, what the step puts out, and the norms' moments."""
    if JOINT:
        v = add_gates(v, inputs)
    around_c = None
    if around is not None:
        around_c = around[4:]
    if JOINT:  # x may lie anywhere, and is not rounded
        means, scales = measure(v, mask, None, H, SPANS, CENTERED, EPS)
    else:
        means, scales = measure(v, mask, around, H, SPANS, CENTERED, EPS)
    gains = gates_of(gain, columns, inside, 4, H, ACC, LOADED)
    biases = gates_of(bias, columns, inside, 4, H, ACC, LOADED)
    z = affine(normalized(v, mask, means, scales), gains, biases)
    if not JOINT:
        z = add_gates(z, inputs)

    g = scaled(tanh(z[2], FAST), scale)
    state = sigmoid(z[1], FAST) * before + sigmoid(z[0], FAST) * g
    state = tl.where(mask, state, 0.0)
    seen = state
    if CELL is not None:
        mean_c, scale_c = measure((state,), mask, around_c, H, ((0, 1),), CENTERED, EPS)
        hat = normalized((state,), mask, mean_c, scale_c)
        gains_c = gates_of(gain_c, columns, inside, 1, H, ACC, LOADED)
        shifts_c = gates_of(shift_c, columns, inside, 1, H, ACC, LOADED)
        seen = affine(hat, gains_c, shifts_c)[0]
    else:  # nothing is left unwritten: a graph's results are compared bit for bit
        mean_c = (tl.zeros_like(means[0]),)
        scale_c = mean_c
    if CELL == "state":
        state = seen
    return state, sigmoid(z[3], FAST) * tanh(seen, FAST), means + mean_c, scales + scale_c


@triton.jit
def lstm_cell_backward(
    v,
    inputs,
    before,
    later,  # gradient of the cell state that is handed on
    d_y,  # gradient of what the step puts out
    means,  # of the gates, then of the cell
    scales,
    gains,
    biases,
    gains_c,
    shifts_c,
    mask,
    scale,  # of the candidate, or None
    H: tl.constexpr,
    JOINT: tl.constexpr,
    CELL: tl.constexpr,
    CENTERED: tl.constexpr,
    FAST: tl.constexpr,
):
    """Return the gradients of the cell state found, of z and of the cell state's affine.

    And what they were made of: N(v) of the gates, N(c), and what the step puts out. The gradient of
    W h is `norm_backward` of that of z.
    """
    if JOINT:
        v = add_gates(v, inputs)
    hats = normalized(v, mask, means[:4], scales[:4])
    z = affine(hats, gains, biases)
    if not JOINT:
        z = add_gates(z, inputs)
    i = sigmoid(z[0], FAST)
    f = sigmoid(z[1], FAST)
    g = tanh(z[2], FAST)
    o = sigmoid(z[3], FAST)
    state = tl.where(mask, f * before + i * scaled(g, scale), 0.0)

    seen = state
    hat_c = (state,)
    if CELL is not None:
        hat_c = normalized((state,), mask, means[4:], scales[4:])
        seen = affine(hat_c, gains_c, shifts_c)[0]
    bent = tanh(seen, FAST)
    d_state = d_y * o * (1.0 - bent * bent)
    if CELL != "output":
        d_state += later
    d_seen = d_state
    if CELL is not None:
        d_state = norm_backward((d_state,), gains_c, hat_c, scales[4:], H, ((0, 1),), CENTERED)[0]
    if CELL == "output":
        d_state += later

    d_z = (
        d_state * scaled(g, scale) * i * (1.0 - i),
        d_state * before * f * (1.0 - f),
        scaled(d_state * i * (1.0 - g * g), scale),
        d_y * bent * o * (1.0 - o),
    )
    return d_state * f, d_z, d_seen, hats, hat_c, o * bent


@triton.jit(do_not_specialize=["first", "live"])
def lstm_forward(
    x,  # (N, 4H)
    product,  # (B, 4H), W h
    gain,  # (4H,)
    bias,  # (4H,) or None
    gain_c,  # (H,) or None
    shift_c,  # (H,) or None
    c,  # (B, H), replaced
    h,  # (B, H), written: what the step puts out before a projection
    output,  # (N, H), the same; None if it is projected
    side,  # (N, 4H), W h kept, or None
    cells,  # (N, H), c as it was, or None
    stats,  # (N, 10), or None
    cuts,  # (N, 1), or None: where the next step finds the reset states
    reset_h,  # (B, H), or None for zeros; not looked at where h is projected
    reset_c,  # (B, H), or None for zeros
    fresh_h,  # (N, H), or None: which units of the hidden state are new, if not all
    fresh_c,  # (N, H), or None: the same of the cell state
    zoneout,  # (1, 1), or None: share of the old hidden state
    zoneout_c,  # (1, 1), or None
    kept_candidate,  # (N, H), or None: which units of g are kept
    candidate_share,  # (1, 1), or None: how many on average
    h_seen,  # (B, H), written: what the next product reads of h, or None for all
    seen_h,  # (B, H), or None: which units it reads
    seen_share,  # (1, 1), or None: how many on average
    alive,  # (N, 1), or None: which rows there are, if not all
    first,  # row of this step's first sequence in what has N rows
    live,  # sequences of this step
    H: tl.constexpr,
    SPANS: tl.constexpr,
    JOINT: tl.constexpr,
    CELL: tl.constexpr,  # "output", "state" or None
    CENTERED: tl.constexpr,
    EPS: tl.constexpr,
    ACC: tl.constexpr,
    BB: tl.constexpr,
    BH: tl.constexpr,
):
    """One step, from W h to the new states."""
    columns, inside = units_of_tile(H, BH)
    sequences, rows, exists, mask = rows_of_tile(tl.program_id(0), first, live, alive, inside, BB)

    v = load_gates(product, sequences * (4 * H) + columns, mask, 4, H, ACC)
    inputs = load_gates(x, rows * (4 * H) + columns, mask, 4, H, ACC)
    before = tl.load(c + sequences * H + columns, mask=mask, other=0.0)
    if side is not None:
        store_gates(side, rows * (4 * H) + columns, mask, v, H)
        tl.store(cells + rows * H + columns, before, mask=mask)
    state, y, means, scales = lstm_cell(
        v,
        inputs,
        before,
        gain,
        bias,
        gain_c,
        shift_c,
        columns,
        inside,
        mask,
        None,
        candidate_scale(kept_candidate, candidate_share, rows * H + columns, mask),
        H,
        SPANS,
        JOINT,
        CELL,
        CENTERED,
        EPS,
        ACC,
        False,
        False,
    )
    if side is not None:
        save_moments(stats, rows * 10, exists, means, scales)
    state = zoned_out(
        state, c, sequences * H + columns, fresh_c, rows * H + columns, zoneout_c, mask
    )
    state = handed_on(state, cuts, reset_c, rows, sequences * H + columns, exists, mask)
    tl.store(c + sequences * H + columns, state, mask=mask)
    found = y
    if output is not None:
        y = zoned_out(y, h, sequences * H + columns, fresh_h, rows * H + columns, zoneout, mask)
        found = handed_on(y, cuts, reset_h, rows, sequences * H + columns, exists, mask)
    tl.store(h + sequences * H + columns, found, mask=mask)
    store_seen(h_seen, seen_h, seen_share, h, sequences * H + columns, found, mask)
    if output is not None:
        tl.store(output + rows * H + columns, y, mask=mask)


@triton.jit(do_not_specialize=["first", "live"])
def lstm_backward(
    d_output,  # (N, H), gradient of what the step put out; None if it was projected
    d_h,  # (B, H), the same from the next step, by way of its W h (or from the projection)
    d_direct,  # (B, H), the rest of it, replaced by that of the state before; None if there is none
    d_c,  # (B, H), gradient of the cell state that the step left, replaced by that of the found
    x,  # (N, 4H)
    side,  # (N, 4H)
    cells,  # (N, H)
    stats,  # (N, 10)
    gain,  # (4H,)
    bias,  # (4H,) or None
    gain_c,  # (H,) or None
    shift_c,  # (H,) or None
    d_x,  # (N, 4H), written; None if joint, where it is d_side
    d_product,  # (B, 4H), written: gradient of W h
    d_side,  # (N, 4H), the same, kept
    y,  # (N, H), written: what the step put out before a projection; None if there is none
    sums,  # (programs, 10H), added to: gradients of gain, bias, gain_c, shift_c
    cuts,  # (N, 1), or None
    d_reset_h,  # (B, H), added to, or None; not looked at where h was projected
    d_reset_c,  # (B, H), added to, or None
    fresh_h,  # (N, H), or None
    fresh_c,  # (N, H), or None
    zoneout,  # (1, 1), or None
    zoneout_c,  # (1, 1), or None
    kept_candidate,  # (N, H), or None
    candidate_share,  # (1, 1), or None
    seen_h,  # (B, H), or None
    seen_share,  # (1, 1), or None
    alive,  # (N, 1), or None
    first,
    live,
    blocks: tl.constexpr,  # tiles of a program
    H: tl.constexpr,
    SPANS: tl.constexpr,
    JOINT: tl.constexpr,
    CELL: tl.constexpr,
    CENTERED: tl.constexpr,
    ACC: tl.constexpr,
    BB: tl.constexpr,
    BH: tl.constexpr,
):
    """One step backward, to the gradients of W h and of the states before it."""
    columns, inside = units_of_tile(H, BH)
    gains = load_gates(gain, columns, inside, 4, H, ACC)
    biases = load_gates(bias, columns, inside, 4, H, ACC)
    gains_c = load_gates(gain_c, columns, inside, 1, H, ACC)
    shifts_c = load_gates(shift_c, columns, inside, 1, H, ACC)
    affine_sums = no_sums(8, BH, ACC)
    cell_sums = no_sums(2, BH, ACC)
    for block in range(blocks):
        tile = tl.program_id(0) * blocks + block
        sequences, rows, exists, mask = rows_of_tile(tile, first, live, alive, inside, BB)

        v = load_gates(side, rows * (4 * H) + columns, mask, 4, H, ACC)
        inputs = load_gates(x, rows * (4 * H) + columns, mask, 4, H, ACC)
        before = tl.load(cells + rows * H + columns, mask=mask, other=0.0)
        later = tl.load(d_c + sequences * H + columns, mask=mask, other=0.0)
        later = taken_back(later, cuts, d_reset_c, rows, sequences * H + columns, exists, mask)
        d_new = fresh_part(later, fresh_c, rows * H + columns, zoneout_c, mask)
        d_y = load_d_h(d_h, d_direct, seen_h, seen_share, sequences * H, columns, mask, ACC)
        if d_output is not None:
            d_y = taken_back(d_y, cuts, d_reset_h, rows, sequences * H + columns, exists, mask)
            d_y += tl.load(d_output + rows * H + columns, mask=mask, other=0.0).to(ACC)
        if d_direct is not None:
            old = with_old_part(tl.zeros_like(d_y), d_y, fresh_h, rows * H + columns, zoneout, mask)
            tl.store(d_direct + sequences * H + columns, old, mask=mask)
        d_y = fresh_part(d_y, fresh_h, rows * H + columns, zoneout, mask)
        means, scales = load_moments(stats, rows * 10, exists, 0, 5, ACC)
        d_before, d_z, d_seen, hats, hat_c, put_out = lstm_cell_backward(
            v,
            inputs,
            before,
            d_new,
            d_y,
            means,
            scales,
            gains,
            biases,
            gains_c,
            shifts_c,
            mask,
            candidate_scale(kept_candidate, candidate_share, rows * H + columns, mask),
            H,
            JOINT,
            CELL,
            CENTERED,
            False,
        )
        if y is not None:
            tl.store(y + rows * H + columns, put_out, mask=mask)
        d_before = with_old_part(d_before, later, fresh_c, rows * H + columns, zoneout_c, mask)
        tl.store(d_c + sequences * H + columns, d_before, mask=mask)
        if not JOINT:
            store_gates(d_x, rows * (4 * H) + columns, mask, d_z, H)
        if CELL is not None:
            cell_sums = sum_rows(cell_sums, (d_seen,), hat_c)
        affine_sums = sum_rows(affine_sums, d_z, hats)
        d_v = norm_backward(d_z, gains, hats, scales[:4], H, SPANS, CENTERED)
        store_gates(d_product, sequences * (4 * H) + columns, mask, d_v, H)
        store_gates(d_side, rows * (4 * H) + columns, mask, d_v, H)
    own = tl.program_id(0).to(tl.int64) * (10 * H)
    columns = tl.arange(0, BH)
    add_to_own_row(sums, own, columns, affine_sums, H)
    if CELL is not None:
        add_to_own_row(sums, own + 8 * H, columns, cell_sums, H)


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
    noise: StepNoise = NO_NOISE,
) -> tuple[Tensor, ...]:
    """Run ``lnrnn::ln_lstm``."""
    order, hidden = Steps(x, batch_sizes, reverse), c_0.shape[1]
    dtype, wide = h_0.dtype, widened(h_0.dtype)
    kept = order.total if keep else 0
    output = h_0.new_empty(order.total, h_0.shape[1])
    side = h_0.new_empty(kept, 4 * hidden)
    cells = h_0.new_empty(kept, hidden, dtype=wide)
    stats = h_0.new_empty(kept, 2 * MOMENTS, dtype=wide)
    h, c = copied(h_0, dtype), copied(c_0, wide)
    saved = {"side": side, "cells": cells, "stats": stats}
    loop = Loop(
        name="ln_lstm",
        step=_forward_step,
        constants=constants(
            dtype, hidden, SPANS=spans_of(spans), JOINT=joint, CELL=cell, CENTERED=centered, EPS=eps
        ),
        read={"x": flat(x), "cuts": byte_rows(cuts), **noise.rows(*MASKS)},
        written={"output": output, **(saved if keep else dict.fromkeys(saved))},
        state={"h": h, "h_seen": noise.seen(h), "c": c},
        scratch={
            "product": h_0.new_empty(order.batch, 4 * hidden),
            "y": None if weight_hr is None else h_0.new_empty(order.batch, hidden),
        },
        fixed={
            **_fixed(weight_hh, gain, bias_hh, gain_c, shift_c, weight_hr),
            **noise.of_h,
            **noise.rows(*OF_C),
            "reset_h": plain(reset_h),
            "reset_c": plain(reset_c),
        },
        masks=weight_hr is None,
    )
    GRAPHS.run(loop, order)
    return output.view(*x.shape[:-1], h_0.shape[1]), h, c, side, cells, stats


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
    noise: StepNoise = NO_NOISE,
) -> tuple[Tensor, ...]:
    """Run ``lnrnn::ln_lstm_backward``."""
    order, hidden = Steps(x, batch_sizes, reverse), c_0.shape[1]
    dtype, wide = h_0.dtype, widened(h_0.dtype)
    batch, total, projected = order.batch, order.total, weight_hr is not None
    programs, blocks = blocks_of(batch, hidden)
    (d_h, d_direct), d_c = noise.d_states(d_h_n, dtype), copied(d_c_n, wide)
    d_resets = {"d_reset_h": zeros_of(reset_h), "d_reset_c": zeros_of(reset_c)}
    sums = h_0.new_zeros(programs, 10 * hidden, dtype=wide)
    d_x = None if joint else x.new_empty(total, 4 * hidden)
    d_side = h_0.new_empty(total, 4 * hidden)
    d_projected = h_0.new_empty(total, h_0.shape[1]) if projected else None
    y = h_0.new_empty(total, hidden) if projected else None
    loop = Loop(
        name="ln_lstm_backward",
        step=_backward_step,
        constants=constants(
            dtype,
            hidden,
            SPANS=spans_of(spans),
            JOINT=joint,
            CELL=cell,
            CENTERED=centered,
            blocks=blocks,
        ),
        read={
            "d_output": flat(d_output),
            "x": flat(x),
            "side": side,
            "cells": cells,
            "stats": stats,
            "cuts": byte_rows(cuts),
            **noise.rows(*MASKS),
        },
        written={"d_x": d_x, "d_side": d_side, "d_projected": d_projected, "y": y},
        state={"d_h": d_h, "d_direct": d_direct, "d_c": d_c, "sums": sums, **d_resets},
        scratch={
            "d_product": h_0.new_empty(batch, 4 * hidden),
            "d_sum": h_0.new_empty(batch, h_0.shape[1]) if projected else None,
            "d_y": h_0.new_empty(batch, hidden) if projected else None,
        },
        fixed={
            **_fixed(weight_hh, gain, bias_hh, gain_c, shift_c, weight_hr),
            **noise.of_h,
            **noise.rows(*OF_C),
        },
        masks=not projected,
    )
    GRAPHS.run(loop, order, backward=True)
    before = order.before(order.handed_on(flat(output), cuts, reset_h), h_0)
    affine_grads = summed(
        sums, [4 * hidden, 4 * hidden, hidden, hidden], [gain, bias_hh, gain_c, shift_c]
    )
    return (
        (d_side.to(x.dtype) if d_x is None else d_x).view(x.shape),
        noise.d_h_0(d_h, d_direct),
        d_c.to(c_0.dtype),
        d_side.t().mm(noise.seen_before(before, order)),
        *affine_grads,
        h_0.new_empty(0) if d_projected is None or y is None else d_projected.t().mm(y),
        sum_of(d_resets["d_reset_h"], reset_h, x),
        sum_of(d_resets["d_reset_c"], reset_c, x),
    )


def _fixed(
    weight: Tensor,
    gain: Tensor,
    bias: Tensor | None,
    gain_c: Tensor | None,
    shift_c: Tensor | None,
    weight_hr: Tensor | None,
) -> dict[str, Tensor | None]:
    fixed = {"weight": weight, "gain": gain, "bias": bias}
    fixed |= {"gain_c": gain_c, "shift_c": shift_c, "weight_hr": weight_hr}
    return {name: plain(tensor) for name, tensor in fixed.items()}


def _forward_step(
    constants: dict[str, Any], tensors: dict[str, Any], first: int, live: int
) -> None:
    t = tensors
    product(t, live)
    if t["y"] is None:
        launch(lstm_forward, constants, t, first, live)
    else:
        launch(lstm_forward, constants, apart_from_h(t, h=t["y"], output=None), first, live)
        project(t, first, live)


def _backward_step(
    constants: dict[str, Any], tensors: dict[str, Any], first: int, live: int
) -> None:
    t = tensors
    if t["d_projected"] is None:
        launch(lstm_backward, constants, t, first, live)
    else:
        project_back(t, first, live)
        launch(lstm_backward, constants, apart_from_h(t, d_h=t["d_y"], d_output=None), first, live)
    product_back(t, first, live)
