"""The Elman RNN of `lnrnn.ops.reference.ln_rnn` in Triton: h' = act(z).

With u = gain * N(v) + bias and joint: v = x + W h, z = u; separate: v = W h, z = x + u.

Kept for the backward: W h as the product put it out, (N, H), and the norm's moments, (N, 2). The
rest is computed again from them and x: the output, which may be narrow, would not do for the
derivative of tanh.
"""

# Inside @triton.jit it is Triton, not Python, that gives the names their types.
# pyright: reportMissingImports=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# pyright: reportOptionalOperand=false, reportReturnType=false, reportGeneralTypeIssues=false
# pyright: reportPossiblyUnboundVariable=false

import triton
import triton.language as tl
from torch import Tensor

from lnrnn.ops.triton_graphs import GRAPHS
from lnrnn.ops.triton_noise import (
    NO_NOISE,
    StepNoise,
    fresh_part,
    load_d_h,
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
    store_gates,
    sum_rows,
    taken_back,
    tanh,
    units_of_tile,
)
from lnrnn.ops.triton_steps import (
    Loop,
    Steps,
    blocks_of,
    byte_rows,
    copied,
    flat,
    plain,
    product_then,
    sum_of,
    summed,
    then_product,
    widened,
    zeros_of,
)

MOMENTS = 1


@triton.jit
def rnn_cell(
    v,  # W h
    inputs,
    gain,  # where it is, or what it is if LOADED
    bias,
    columns,
    inside,
    mask,
    around,  # a mean that the norm's is near, or None
    H: tl.constexpr,
    JOINT: tl.constexpr,
    RELU: tl.constexpr,
    CENTERED: tl.constexpr,
    EPS: tl.constexpr,
    ACC: tl.constexpr,
    FAST: tl.constexpr,
    LOADED: tl.constexpr,
):
    """Return the new state, and the norm's moments."""
    if JOINT:
        v = add_gates(v, inputs)
    if JOINT:  # x may lie anywhere, and is not rounded
        means, scales = measure(v, mask, None, H, ((0, 1),), CENTERED, EPS)
    else:
        means, scales = measure(v, mask, around, H, ((0, 1),), CENTERED, EPS)
    gains = gates_of(gain, columns, inside, 1, H, ACC, LOADED)
    biases = gates_of(bias, columns, inside, 1, H, ACC, LOADED)
    z = affine(normalized(v, mask, means, scales), gains, biases)
    if not JOINT:
        z = add_gates(z, inputs)
    if RELU:
        y = tl.where(z[0] < 0, 0.0, z[0])  # not a maximum: NaN has to stay NaN
    else:
        y = tanh(z[0], FAST)
    return y, means, scales


@triton.jit
def rnn_cell_backward(
    v,
    inputs,
    d,  # gradient of the new state
    means,
    scales,
    gains,
    biases,
    mask,
    JOINT: tl.constexpr,
    RELU: tl.constexpr,
    FAST: tl.constexpr,
):
    """Return the gradient of z, of which `norm_backward` is that of W h, and N(v)."""
    if JOINT:
        v = add_gates(v, inputs)
    hats = normalized(v, mask, means, scales)
    z = affine(hats, gains, biases)
    if not JOINT:
        z = add_gates(z, inputs)
    if RELU:
        d = tl.where(z[0] > 0, d, 0.0)
    else:
        y = tanh(z[0], FAST)
        d = d * (1.0 - y * y)
    return (d,), hats


@triton.jit(do_not_specialize=["first", "live"])
def rnn_forward(
    x,  # (N, H)
    product,  # (B, H), W h
    gain,  # (H,)
    bias,  # (H,) or None
    h,  # (B, H), written
    output,  # (N, H), the same
    side,  # (N, H), W h kept, or None
    stats,  # (N, 2), or None
    cuts,  # (N, 1), or None: where the next step finds the reset state
    reset_h,  # (B, H), or None for zeros
    fresh_h,  # (N, H), or None: which units of the state are new, if not all
    zoneout,  # (1, 1), or None: share of the old state
    h_seen,  # (B, H), written: what the next product reads of h, or None for all
    seen_h,  # (B, H), or None: which units it reads
    seen_share,  # (1, 1), or None: how many on average
    alive,  # (N, 1), or None: which rows there are, if not all
    first,  # row of this step's first sequence in what has N rows
    live,  # sequences of this step
    H: tl.constexpr,
    JOINT: tl.constexpr,
    RELU: tl.constexpr,
    CENTERED: tl.constexpr,
    EPS: tl.constexpr,
    ACC: tl.constexpr,
    BB: tl.constexpr,
    BH: tl.constexpr,
):
    """One step, from W h to the new state."""
    columns, inside = units_of_tile(H, BH)
    sequences, rows, exists, mask = rows_of_tile(tl.program_id(0), first, live, alive, inside, BB)

    v = load_gates(product, sequences * H + columns, mask, 1, H, ACC)
    inputs = load_gates(x, rows * H + columns, mask, 1, H, ACC)
    if side is not None:
        store_gates(side, rows * H + columns, mask, v, H)
    y, means, scales = rnn_cell(
        v,
        inputs,
        gain,
        bias,
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
        False,
        False,
    )
    if side is not None:
        save_moments(stats, rows * 2, exists, means, scales)
    y = zoned_out(y, h, sequences * H + columns, fresh_h, rows * H + columns, zoneout, mask)
    found = handed_on(y, cuts, reset_h, rows, sequences * H + columns, exists, mask)
    tl.store(h + sequences * H + columns, found, mask=mask)
    store_seen(h_seen, seen_h, seen_share, h, sequences * H + columns, found, mask)
    tl.store(output + rows * H + columns, y, mask=mask)


@triton.jit(do_not_specialize=["first", "live"])
def rnn_backward(
    d_output,  # (N, H)
    d_h,  # (B, H), gradient of the state from the next step, by way of its W h
    d_direct,  # (B, H), the rest of it, replaced by that of the state before; None if there is none
    x,  # (N, H)
    side,  # (N, H)
    stats,  # (N, 2)
    gain,  # (H,)
    bias,  # (H,) or None
    d_x,  # (N, H), written; None if joint, where it is d_side
    d_product,  # (B, H), written: gradient of W h
    d_side,  # (N, H), the same, kept
    sums,  # (programs, 2H), added to: gradients of gain and bias
    cuts,  # (N, 1), or None
    d_reset_h,  # (B, H), added to, or None
    fresh_h,  # (N, H), or None
    zoneout,  # (1, 1), or None
    seen_h,  # (B, H), or None
    seen_share,  # (1, 1), or None
    alive,  # (N, 1), or None
    first,
    live,
    blocks: tl.constexpr,  # tiles of a program
    H: tl.constexpr,
    JOINT: tl.constexpr,
    RELU: tl.constexpr,
    CENTERED: tl.constexpr,
    ACC: tl.constexpr,
    BB: tl.constexpr,
    BH: tl.constexpr,
):
    """One step backward, to the gradient of W h."""
    columns, inside = units_of_tile(H, BH)
    gains = load_gates(gain, columns, inside, 1, H, ACC)
    biases = load_gates(bias, columns, inside, 1, H, ACC)
    affine_sums = no_sums(2, BH, ACC)
    for block in range(blocks):
        tile = tl.program_id(0) * blocks + block
        sequences, rows, exists, mask = rows_of_tile(tile, first, live, alive, inside, BB)

        v = load_gates(side, rows * H + columns, mask, 1, H, ACC)
        inputs = load_gates(x, rows * H + columns, mask, 1, H, ACC)
        d = load_d_h(d_h, d_direct, seen_h, seen_share, sequences * H, columns, mask, ACC)
        d = taken_back(d, cuts, d_reset_h, rows, sequences * H + columns, exists, mask)
        d += tl.load(d_output + rows * H + columns, mask=mask, other=0.0).to(ACC)
        if d_direct is not None:
            old = with_old_part(tl.zeros_like(d), d, fresh_h, rows * H + columns, zoneout, mask)
            tl.store(d_direct + sequences * H + columns, old, mask=mask)
        d = fresh_part(d, fresh_h, rows * H + columns, zoneout, mask)
        means, scales = load_moments(stats, rows * 2, exists, 0, 1, ACC)

        d_z, hats = rnn_cell_backward(
            v, inputs, d, means, scales, gains, biases, mask, JOINT, RELU, False
        )
        if not JOINT:
            store_gates(d_x, rows * H + columns, mask, d_z, H)
        affine_sums = sum_rows(affine_sums, d_z, hats)
        d_v = norm_backward(d_z, gains, hats, scales, H, ((0, 1),), CENTERED)
        store_gates(d_product, sequences * H + columns, mask, d_v, H)
        store_gates(d_side, rows * H + columns, mask, d_v, H)
    own = tl.program_id(0).to(tl.int64) * (2 * H)
    add_to_own_row(sums, own, tl.arange(0, BH), affine_sums, H)


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
    noise: StepNoise = NO_NOISE,
) -> tuple[Tensor, ...]:
    """Run ``lnrnn::ln_rnn``."""
    order, hidden, dtype = Steps(x, batch_sizes, reverse), h_0.shape[1], h_0.dtype
    kept = order.total if keep else 0
    output, h = h_0.new_empty(order.total, hidden), copied(h_0, dtype)
    side = h_0.new_empty(kept, hidden)
    stats = h_0.new_empty(kept, 2 * MOMENTS, dtype=widened(dtype))
    saved = {"side": side, "stats": stats}
    loop = Loop(
        name="ln_rnn",
        step=product_then(rnn_forward),
        constants=constants(dtype, hidden, JOINT=joint, RELU=relu, CENTERED=centered, EPS=eps),
        read={"x": flat(x), "cuts": byte_rows(cuts), **noise.rows("fresh_h")},
        written={"output": output, **(saved if keep else dict.fromkeys(saved))},
        state={"h": h, "h_seen": noise.seen(h)},
        scratch={"product": h_0.new_empty(order.batch, hidden)},
        fixed={
            "weight": plain(weight_hh),
            "gain": plain(gain),
            "bias": plain(bias_hh),
            "reset_h": plain(reset_h),
            **noise.of_h,
        },
    )
    GRAPHS.run(loop, order)
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
    noise: StepNoise = NO_NOISE,
) -> tuple[Tensor, ...]:
    """Run ``lnrnn::ln_rnn_backward``."""
    order, hidden, dtype = Steps(x, batch_sizes, reverse), h_0.shape[1], h_0.dtype
    programs, blocks = blocks_of(order.batch, hidden)
    (d_h, d_direct), d_reset_h = noise.d_states(d_h_n, dtype), zeros_of(reset_h)
    sums = h_0.new_zeros(programs, 2 * hidden, dtype=widened(dtype))
    d_side = h_0.new_empty(order.total, hidden)
    d_x = None if joint else x.new_empty(order.total, hidden)
    loop = Loop(
        name="ln_rnn_backward",
        step=then_product(rnn_backward),
        constants=constants(
            dtype, hidden, JOINT=joint, RELU=relu, CENTERED=centered, blocks=blocks
        ),
        read={
            "d_output": flat(d_output),
            "x": flat(x),
            "side": side,
            "stats": stats,
            "cuts": byte_rows(cuts),
            **noise.rows("fresh_h"),
        },
        written={"d_x": d_x, "d_side": d_side},
        state={"d_h": d_h, "d_direct": d_direct, "sums": sums, "d_reset_h": d_reset_h},
        scratch={"d_product": h_0.new_empty(order.batch, hidden)},
        fixed={
            "weight": plain(weight_hh),
            "gain": plain(gain),
            "bias": plain(bias_hh),
            **noise.of_h,
        },
    )
    GRAPHS.run(loop, order, backward=True)
    before = order.before(order.handed_on(flat(output), cuts, reset_h), h_0)
    return (
        (d_side.to(x.dtype) if d_x is None else d_x).view(x.shape),
        noise.d_h_0(d_h, d_direct),
        d_side.t().mm(noise.seen_before(before, order)),
        *summed(sums, [hidden, hidden], [gain, bias_hh]),
        sum_of(d_reset_h, reset_h, x),
    )
