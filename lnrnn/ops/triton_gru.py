"""The GRU of `lnrnn.ops.reference.ln_gru` in Triton, gates in torch's order r, z, n.

With v = W h and u = gain * N(v) + bias: r, z = sigmoid(x + u), n = tanh(x_n + r u_n),
h' = n + z (h - n).

Kept for the backward: W h as the product put it out, (N, 3H), and the moments of each gate's norm,
(N, 6). The gates are computed again from them and x.
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
    candidate_scale,
    fresh_part,
    load_d_h,
    scaled,
    store_seen,
    with_old_part,
    zoned_out,
)
from lnrnn.ops.triton_norm import (
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
from lnrnn.ops.triton_steps import (
    Loop,
    Steps,
    blocks_of,
    byte_rows,
    copied,
    flat,
    plain,
    product_then,
    spans_of,
    sum_of,
    summed,
    then_product,
    widened,
    zeros_of,
)

MOMENTS = 3  # of three gates


@triton.jit
def gru_cell(
    v,  # W h of each gate
    inputs,
    before,  # the state that the step finds
    gain,  # where it is, or what it is if LOADED
    bias,
    columns,
    inside,
    mask,
    around,  # means that those of the gates are near, or None
    scale,  # of the candidate, or None
    H: tl.constexpr,
    SPANS: tl.constexpr,
    CENTERED: tl.constexpr,
    EPS: tl.constexpr,
    ACC: tl.constexpr,
    FAST: tl.constexpr,
    LOADED: tl.constexpr,
):
    """Return the new state, and the norms' moments."""
    means, scales = measure(v, mask, around, H, SPANS, CENTERED, EPS)
    gains = gates_of(gain, columns, inside, 3, H, ACC, LOADED)
    biases = gates_of(bias, columns, inside, 3, H, ACC, LOADED)
    u = affine(normalized(v, mask, means, scales), gains, biases)
    r = sigmoid(inputs[0] + u[0], FAST)
    z = sigmoid(inputs[1] + u[1], FAST)
    n = scaled(tanh(inputs[2] + r * u[2], FAST), scale)
    return n + z * (before - n), means, scales


@triton.jit
def gru_cell_backward(
    v,
    inputs,
    before,
    d,  # gradient of the new state
    means,
    scales,
    gains,
    biases,
    mask,
    scale,  # of the candidate, or None
    FAST: tl.constexpr,
):
    """Return the gradients of the state found but by way of W h, of x and of u; N(v).

    The gradient of W h is `norm_backward` of that of u.
    """
    hats = normalized(v, mask, means, scales)
    u = affine(hats, gains, biases)
    r = sigmoid(inputs[0] + u[0], FAST)
    z = sigmoid(inputs[1] + u[1], FAST)
    n = tanh(inputs[2] + r * u[2], FAST)
    d_n = scaled(d * (1.0 - z) * (1.0 - n * n), scale)
    d_z = d * (before - scaled(n, scale)) * z * (1.0 - z)
    d_r = d_n * u[2] * r * (1.0 - r)
    d_u = (d_r, d_z, d_n * r)
    return d * z, (d_r, d_z, d_n), d_u, hats


@triton.jit(do_not_specialize=["first", "live"])
def gru_forward(
    x,  # (N, 3H)
    product,  # (B, 3H), W h
    gain,  # (3H,)
    bias,  # (3H,) or None
    h,  # (B, H), replaced
    output,  # (N, H), the same
    side,  # (N, 3H), W h kept, or None
    stats,  # (N, 6), or None
    cuts,  # (N, 1), or None: where the next step finds the reset state
    reset_h,  # (B, H), or None for zeros
    fresh_h,  # (N, H), or None: which units of the state are new, if not all
    zoneout,  # (1, 1), or None: share of the old state
    kept_candidate,  # (N, H), or None: which units of n are kept
    candidate_share,  # (1, 1), or None: how many on average
    h_seen,  # (B, H), written: what the next product reads of h, or None for all
    seen_h,  # (B, H), or None: which units it reads
    seen_share,  # (1, 1), or None: how many on average
    alive,  # (N, 1), or None: which rows there are, if not all
    first,  # row of this step's first sequence in what has N rows
    live,  # sequences of this step
    H: tl.constexpr,
    SPANS: tl.constexpr,
    CENTERED: tl.constexpr,
    EPS: tl.constexpr,
    ACC: tl.constexpr,
    BB: tl.constexpr,
    BH: tl.constexpr,
):
    """One step, from W h to the new state."""
    columns, inside = units_of_tile(H, BH)
    sequences, rows, exists, mask = rows_of_tile(tl.program_id(0), first, live, alive, inside, BB)

    v = load_gates(product, sequences * (3 * H) + columns, mask, 3, H, ACC)
    inputs = load_gates(x, rows * (3 * H) + columns, mask, 3, H, ACC)
    before = tl.load(h + sequences * H + columns, mask=mask, other=0.0).to(ACC)
    if side is not None:
        store_gates(side, rows * (3 * H) + columns, mask, v, H)
    y, means, scales = gru_cell(
        v,
        inputs,
        before,
        gain,
        bias,
        columns,
        inside,
        mask,
        None,
        candidate_scale(kept_candidate, candidate_share, rows * H + columns, mask),
        H,
        SPANS,
        CENTERED,
        EPS,
        ACC,
        False,
        False,
    )
    if side is not None:
        save_moments(stats, rows * 6, exists, means, scales)
    y = zoned_out(y, h, sequences * H + columns, fresh_h, rows * H + columns, zoneout, mask)
    found = handed_on(y, cuts, reset_h, rows, sequences * H + columns, exists, mask)
    tl.store(h + sequences * H + columns, found, mask=mask)
    store_seen(h_seen, seen_h, seen_share, h, sequences * H + columns, found, mask)
    tl.store(output + rows * H + columns, y, mask=mask)


@triton.jit(do_not_specialize=["first", "live"])
def gru_backward(
    d_output,  # (N, H)
    d_h,  # (B, H), gradient of the state from the next step, by way of its W h
    d_direct,  # (B, H), the rest of it, replaced by that of the state before
    x,  # (N, 3H)
    before,  # (N, H), the state before each step
    side,  # (N, 3H)
    stats,  # (N, 6)
    gain,  # (3H,)
    bias,  # (3H,) or None
    d_x,  # (N, 3H), written
    d_product,  # (B, 3H), written: gradient of W h
    d_side,  # (N, 3H), the same, kept
    sums,  # (programs, 6H), added to: gradients of gain and bias
    cuts,  # (N, 1), or None
    d_reset_h,  # (B, H), added to, or None
    fresh_h,  # (N, H), or None
    zoneout,  # (1, 1), or None
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
    CENTERED: tl.constexpr,
    ACC: tl.constexpr,
    BB: tl.constexpr,
    BH: tl.constexpr,
):
    """One step backward, to the gradients of W h and of the state before it."""
    columns, inside = units_of_tile(H, BH)
    gains = load_gates(gain, columns, inside, 3, H, ACC)
    biases = load_gates(bias, columns, inside, 3, H, ACC)
    affine_sums = no_sums(6, BH, ACC)
    for block in range(blocks):
        tile = tl.program_id(0) * blocks + block
        sequences, rows, exists, mask = rows_of_tile(tile, first, live, alive, inside, BB)

        v = load_gates(side, rows * (3 * H) + columns, mask, 3, H, ACC)
        inputs = load_gates(x, rows * (3 * H) + columns, mask, 3, H, ACC)
        earlier = tl.load(before + rows * H + columns, mask=mask, other=0.0).to(ACC)
        d = load_d_h(d_h, d_direct, seen_h, seen_share, sequences * H, columns, mask, ACC)
        d = taken_back(d, cuts, d_reset_h, rows, sequences * H + columns, exists, mask)
        d += tl.load(d_output + rows * H + columns, mask=mask, other=0.0).to(ACC)
        means, scales = load_moments(stats, rows * 6, exists, 0, 3, ACC)

        scale = candidate_scale(kept_candidate, candidate_share, rows * H + columns, mask)
        d_new = fresh_part(d, fresh_h, rows * H + columns, zoneout, mask)
        d_before, d_inputs, d_u, hats = gru_cell_backward(
            v, inputs, earlier, d_new, means, scales, gains, biases, mask, scale, False
        )
        d_before = with_old_part(d_before, d, fresh_h, rows * H + columns, zoneout, mask)
        tl.store(d_direct + sequences * H + columns, d_before, mask=mask)
        store_gates(d_x, rows * (3 * H) + columns, mask, d_inputs, H)
        affine_sums = sum_rows(affine_sums, d_u, hats)
        d_v = norm_backward(d_u, gains, hats, scales, H, SPANS, CENTERED)
        store_gates(d_product, sequences * (3 * H) + columns, mask, d_v, H)
        store_gates(d_side, rows * (3 * H) + columns, mask, d_v, H)
    own = tl.program_id(0).to(tl.int64) * (6 * H)
    add_to_own_row(sums, own, tl.arange(0, BH), affine_sums, H)


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
    noise: StepNoise = NO_NOISE,
) -> tuple[Tensor, ...]:
    """Run ``lnrnn::ln_gru``."""
    order, hidden, dtype = Steps(x, batch_sizes, reverse), h_0.shape[1], h_0.dtype
    kept = order.total if keep else 0
    output, h = h_0.new_empty(order.total, hidden), copied(h_0, dtype)
    side = h_0.new_empty(kept, 3 * hidden)
    stats = h_0.new_empty(kept, 2 * MOMENTS, dtype=widened(dtype))
    saved = {"side": side, "stats": stats}
    loop = Loop(
        name="ln_gru",
        step=product_then(gru_forward),
        constants=constants(dtype, hidden, SPANS=spans_of(spans), CENTERED=centered, EPS=eps),
        read={"x": flat(x), "cuts": byte_rows(cuts), **noise.rows("fresh_h", "kept_candidate")},
        written={"output": output, **(saved if keep else dict.fromkeys(saved))},
        state={"h": h, "h_seen": noise.seen(h)},
        scratch={"product": h_0.new_empty(order.batch, 3 * hidden)},
        fixed={
            "weight": plain(weight_hh),
            "gain": plain(gain),
            "bias": plain(bias_hh),
            "reset_h": plain(reset_h),
            **noise.of_h,
            "candidate_share": noise.candidate_share,
        },
    )
    GRAPHS.run(loop, order)
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
    noise: StepNoise = NO_NOISE,
) -> tuple[Tensor, ...]:
    """Run ``lnrnn::ln_gru_backward``."""
    order, hidden, dtype = Steps(x, batch_sizes, reverse), h_0.shape[1], h_0.dtype
    wide, (programs, blocks) = widened(dtype), blocks_of(order.batch, hidden)
    before = order.before(order.handed_on(flat(output), cuts, reset_h), h_0)
    # Apart, so that what does not pass through the product is not narrowed at every step.
    d_h, d_direct = noise.d_states(d_h_n, dtype)
    d_direct = h_0.new_zeros(h_0.shape, dtype=wide) if d_direct is None else d_direct
    d_reset_h = zeros_of(reset_h)
    sums = h_0.new_zeros(programs, 6 * hidden, dtype=wide)
    d_x, d_side = x.new_empty(order.total, 3 * hidden), h_0.new_empty(order.total, 3 * hidden)
    read = {"d_output": flat(d_output), "x": flat(x), "before": before}
    loop = Loop(
        name="ln_gru_backward",
        step=then_product(gru_backward),
        constants=constants(dtype, hidden, SPANS=spans_of(spans), CENTERED=centered, blocks=blocks),
        read={
            **read,
            "side": side,
            "stats": stats,
            "cuts": byte_rows(cuts),
            **noise.rows("fresh_h", "kept_candidate"),
        },
        written={"d_x": d_x, "d_side": d_side},
        state={"d_h": d_h, "d_direct": d_direct, "sums": sums, "d_reset_h": d_reset_h},
        scratch={"d_product": h_0.new_empty(order.batch, 3 * hidden)},
        fixed={
            "weight": plain(weight_hh),
            "gain": plain(gain),
            "bias": plain(bias_hh),
            **noise.of_h,
            "candidate_share": noise.candidate_share,
        },
    )
    GRAPHS.run(loop, order, backward=True)
    return (
        d_x.view(x.shape),
        noise.d_h_0(d_h, d_direct),
        d_side.t().mm(noise.seen_before(before, order)),
        *summed(sums, [3 * hidden, 3 * hidden], [gain, bias_hh]),
        sum_of(d_reset_h, reset_h, x),
    )
