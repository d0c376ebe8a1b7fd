"""What the Triton kernels of the three cells share: rows in tiles, norms over gates, activations.

A program computes a tile of BB rows (sequences) and all H units of a gate, padded to the power of
two BH; a value is a tuple of such tiles, (BB, BH), one a gate. Every norm is thus taken inside one
program. Lanes past H or past the last row are masked: loaded as 0, left out of sums, never stored.

Storage may be float32, bfloat16, float16 or float64; arithmetic is in ACC, float32 but for float64
storage. Values are widened where they are loaded and narrowed where they are stored, nowhere else.

``SPANS`` says which gates share a norm: ((0, 4),) for all four, ((0, 2), (2, 3)) for two and one.
"""

# Inside @triton.jit it is Triton, not Python, that gives the names their types.
# pyright: reportMissingImports=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# pyright: reportOptionalOperand=false, reportReturnType=false, reportGeneralTypeIssues=false

from typing import Any

import torch
import triton
import triton.language as tl


def accumulator(dtype: torch.dtype) -> Any:
    """Return ACC, for hidden states stored in ``dtype``."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def constants(dtype: torch.dtype, hidden: int, **more: Any) -> dict[str, Any]:
    """Return what a kernel is compiled for: H, ACC and what else there is."""
    return {"H": hidden, "ACC": accumulator(dtype), **more}


@triton.jit
def units_of_tile(H: tl.constexpr, BH: tl.constexpr):
    """Return the columns of a tile, (1, BH), and which of them are units."""
    columns = tl.arange(0, BH)[None, :]
    return columns, columns < H


@triton.jit
def rows_of_tile(tile, first, live, alive, inside, BB: tl.constexpr):
    """Return a tile's sequences and rows, (BB, 1), in 64 bits; which exist; and its mask.

    Of the ``live`` sequences, all exist if ``alive`` is None, and else those whose row is not 0.
    """
    sequences = (tile * BB + tl.arange(0, BB))[:, None]
    exists = sequences < live
    sequences = sequences.to(tl.int64)
    rows = first + sequences
    if alive is not None:
        exists = exists & (tl.load(alive + rows, mask=exists, other=0) != 0)
    return sequences, rows, exists, exists & inside


@triton.jit
def handed_on(v, cuts, reset, rows, at, exists, mask):
    """Return what the next step finds of ``v``: the reset state in rows that are cut.

    Without a reset state, given at ``reset + at``, those are zeros.
    """
    if cuts is not None:
        cut = tl.load(cuts + rows, mask=exists, other=0) != 0
        if reset is None:
            v = tl.where(cut, 0.0, v)
        else:
            v = tl.where(cut, tl.load(reset + at, mask=mask, other=0.0).to(v.dtype), v)
    return v


@triton.jit
def taken_back(d, cuts, d_reset, rows, at, exists, mask):
    """Return the gradient of what a row left from that of what the next step found.

    In rows that are cut there is none: it is added to the reset state's, if that is wanted.
    """
    if cuts is not None:
        cut = tl.load(cuts + rows, mask=exists, other=0) != 0
        if d_reset is not None:
            before = tl.load(d_reset + at, mask=mask, other=0.0)
            tl.store(d_reset + at, before + tl.where(cut, d, 0.0), mask=mask)
        d = tl.where(cut, 0.0, d)
    return d


@triton.jit
def load_gates(base, at, mask, GATES: tl.constexpr, H: tl.constexpr, ACC: tl.constexpr):
    """Return the gates that lie H apart from ``base + at`` on; zeros if ``base`` is None."""
    gates = ()
    for q in tl.static_range(GATES):
        if base is None:
            gates = gates + (tl.zeros(mask.shape, ACC),)
        else:
            gates = gates + (tl.load(base + at + q * H, mask=mask, other=0.0).to(ACC),)
    return gates


@triton.jit
def gates_of(
    base,
    columns,
    inside,
    GATES: tl.constexpr,
    H: tl.constexpr,
    ACC: tl.constexpr,
    LOADED: tl.constexpr,
):
    """Return gains or biases: loaded here, so that no register holds them before, or given."""
    if LOADED:
        found = base
    else:
        found = load_gates(base, columns, inside, GATES, H, ACC)
    return found


@triton.jit
def store_gates(base, at, mask, gates, H: tl.constexpr):
    """Store the gates, H apart from ``base + at`` on."""
    for q in tl.static_range(len(gates)):
        tl.store(base + at + q * H, gates[q], mask=mask)


@triton.jit
def add_gates(a, b):
    """Return the sums of two tuples' members."""
    sums = ()
    for q in tl.static_range(len(a)):
        sums = sums + (a[q] + b[q],)
    return sums


@triton.jit
def _add_pairs(a, b, c, d):
    return a + c, b + d


@triton.jit
def sum_both(a, b):
    """Return the sums of two tiles over their units, (BB, 1) each, in one reduction.

    A reduction across warps waits for all of them.
    """
    total_a, total_b = tl.reduce((a, b), 1, _add_pairs)
    return total_a[:, None], total_b[:, None]


@triton.jit
def _measure_span(v, mask, H: tl.constexpr, CENTERED: tl.constexpr, EPS: tl.constexpr):
    # The gates are summed first and reduced once.
    if CENTERED:
        total = v[0]
        for q in tl.static_range(1, len(v)):
            total = total + v[q]
        mean = tl.sum(total, 1)[:, None] / (len(v) * H)
    else:
        mean = tl.zeros([v[0].shape[0], 1], v[0].dtype)
    squares = tl.zeros_like(v[0])
    for q in tl.static_range(len(v)):
        difference = tl.where(mask, v[q] - mean, 0.0)
        squares = squares + difference * difference
    scale = 1.0 / tl.sqrt(tl.sum(squares, 1)[:, None] / (len(v) * H) + EPS)
    means = ()
    scales = ()
    for _ in tl.static_range(len(v)):
        means = means + (mean,)
        scales = scales + (scale,)
    return means, scales


@triton.jit
def _measure_around(v, mask, around, H: tl.constexpr, EPS: tl.constexpr):
    # In one pass. What is lost to cancellation is the square of how many standard deviations the
    # mean lies from ``around``, in units of the last place.
    total = tl.zeros_like(v[0])
    squares = tl.zeros_like(v[0])
    for q in tl.static_range(len(v)):
        difference = tl.where(mask, v[q] - around, 0.0)
        total = total + difference
        squares = squares + difference * difference
    shift, second = sum_both(total, squares)
    shift = shift / (len(v) * H)
    variance = second / (len(v) * H) - shift * shift
    variance = tl.where(variance < 0, 0.0, variance)  # not a maximum: NaN has to stay NaN
    means = ()
    scales = ()
    for _ in tl.static_range(len(v)):
        means = means + (around + shift,)
        scales = scales + (1.0 / tl.sqrt(variance + EPS),)
    return means, scales


@triton.jit
def measure(
    v,
    mask,
    around,
    H: tl.constexpr,
    SPANS: tl.constexpr,
    CENTERED: tl.constexpr,
    EPS: tl.constexpr,
):
    """Return each gate's mean and scale, (BB, 1): N(v) = (v - mean) * scale.

    In one pass where means are given that the new ones are near, such as those of the step before;
    in two where they are None, so that values that differ little keep their variance.
    """
    means = ()
    scales = ()
    for s in tl.static_range(len(SPANS)):
        span = v[SPANS[s][0] : SPANS[s][1]]
        if CENTERED and around is not None:
            mean, scale = _measure_around(span, mask, around[SPANS[s][0]], H, EPS)
        else:
            mean, scale = _measure_span(span, mask, H, CENTERED, EPS)
        means = means + mean
        scales = scales + scale
    return means, scales


@triton.jit
def normalized(v, mask, means, scales):
    """Return N(v), zero where masked."""
    hats = ()
    for q in tl.static_range(len(v)):
        hats = hats + (tl.where(mask, (v[q] - means[q]) * scales[q], 0.0),)
    return hats


@triton.jit
def affine(hats, gains, biases):
    """Return gain * N(v) + bias."""
    values = ()
    for q in tl.static_range(len(hats)):
        values = values + (hats[q] * gains[q] + biases[q],)
    return values


@triton.jit
def _span_backward(d_hats, hats, scales, H: tl.constexpr, CENTERED: tl.constexpr):
    total = tl.zeros_like(d_hats[0])
    along = tl.zeros_like(d_hats[0])
    for q in tl.static_range(len(d_hats)):
        total = total + d_hats[q]
        along = along + d_hats[q] * hats[q]
    d_v = ()
    if CENTERED:
        slope, mean = sum_both(along, total)
        slope = slope / (len(d_hats) * H)
        mean = mean / (len(d_hats) * H)
        for q in tl.static_range(len(d_hats)):
            d_v = d_v + ((d_hats[q] - mean - hats[q] * slope) * scales[q],)
    else:
        slope = tl.sum(along, 1)[:, None] / (len(d_hats) * H)
        for q in tl.static_range(len(d_hats)):
            d_v = d_v + ((d_hats[q] - hats[q] * slope) * scales[q],)
    return d_v


@triton.jit
def norm_backward(
    d_u, gains, hats, scales, H: tl.constexpr, SPANS: tl.constexpr, CENTERED: tl.constexpr
):
    """Pass the gradient of u = gain * N(v) + bias back to v."""
    d_hats = ()
    for q in tl.static_range(len(d_u)):
        d_hats = d_hats + (d_u[q] * gains[q],)
    d_v = ()
    for s in tl.static_range(len(SPANS)):
        d_v = d_v + _span_backward(
            d_hats[SPANS[s][0] : SPANS[s][1]],
            hats[SPANS[s][0] : SPANS[s][1]],
            scales[SPANS[s][0] : SPANS[s][1]],
            H,
            CENTERED,
        )
    return d_v


@triton.jit
def save_moments(stats, at, mask, means, scales):
    """Store each gate's mean and scale side by side, from ``stats + at`` on."""
    for q in tl.static_range(len(means)):
        tl.store(stats + at + 2 * q, means[q], mask=mask)
        tl.store(stats + at + 2 * q + 1, scales[q], mask=mask)


@triton.jit
def load_moments(stats, at, mask, FIRST: tl.constexpr, GATES: tl.constexpr, ACC: tl.constexpr):
    """Return what `save_moments` stored for GATES gates from gate FIRST on."""
    means = ()
    scales = ()
    for q in tl.static_range(GATES):
        place = stats + at + 2 * (FIRST + q)
        means = means + (tl.load(place, mask=mask, other=0.0).to(ACC),)
        scales = scales + (tl.load(place + 1, mask=mask, other=0.0).to(ACC),)
    return means, scales


@triton.jit
def no_sums(GATES: tl.constexpr, BH: tl.constexpr, ACC: tl.constexpr):
    """Return zeros to add up the rows of GATES gates in."""
    sums = ()
    for _ in tl.static_range(GATES):
        sums = sums + (tl.zeros([BH], ACC),)
    return sums


@triton.jit
def sum_rows(sums, d_u, hats):
    """Add the rows of a tile to the gradients of the gains, then of the biases."""
    gains = ()
    biases = ()
    for q in tl.static_range(len(d_u)):
        gains = gains + (sums[q] + tl.sum(d_u[q] * hats[q], 0),)
        biases = biases + (sums[len(d_u) + q] + tl.sum(d_u[q], 0),)
    return gains + biases


@triton.jit
def add_to_own_row(base, at, columns, sums, H: tl.constexpr):
    """Add this program's sums to a row of ``base`` that no other program touches.

    So nothing is atomic, and the gradients repeat bit for bit.
    """
    mask = columns < H
    for q in tl.static_range(len(sums)):
        place = base + at + q * H + columns
        tl.store(place, tl.load(place, mask=mask, other=0.0) + sums[q], mask=mask)


@triton.jit
def sigmoid(v, FAST: tl.constexpr = False):
    """Return the logistic function; no exponent overflows, and a small result keeps its digits.

    Fast, for results that are stored in 16 bits, it is 0 from v = -88 on.
    """
    if FAST:
        found = 1.0 / (1.0 + tl.exp(-v))
    else:
        small = tl.exp(-tl.abs(v))
        found = tl.where(v < 0, small, 1.0) / (1.0 + small)
    return found


@triton.jit
def tanh(v, FAST: tl.constexpr = False):
    """Return tanh from ``exp``, which the interpreter has too (it lacks libdevice's tanh).

    Near zero, float32 takes the polynomial of Cephes' tanhf: the difference of two numbers close to
    1 would lose every digit of a small result. Both are good to 3 units in the last place. Fast,
    for results that are stored in 16 bits, it is good to 5e-6 of the result.
    """
    if FAST:
        far = 2.0 / (1.0 + tl.exp(-2.0 * v)) - 1.0
        found = tl.where(tl.abs(v) < 0.03, v - v * v * v * 0.33333333, far)
    else:
        small = tl.exp(-2.0 * tl.abs(v))
        far = (1.0 - small) / (1.0 + small)
        found = tl.where(v < 0, -far, far)
        if v.dtype != tl.float64:
            square = v * v
            series = -5.70498872745e-3 * square + 2.06390887954e-2
            series = series * square - 5.37397155531e-2
            series = series * square + 1.33314422036e-1
            series = series * square - 3.33332819422e-1
            found = tl.where(tl.abs(v) < 0.625, series * square * v + v, found)
    return found
