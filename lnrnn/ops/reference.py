"""Layer-normalized recurrences, written one time step at a time.

These functions define what `lnrnn` computes: every kernel is tested against them. They favor
legibility over speed, accept any floating dtype on any device, and leave their gradients, and the
gradients of those, to autograd. Arguments are checked in `lnrnn.ops.functional`, not here.

Each call runs one direction of one layer over whole sequences. The input side has been projected
and, where it has a norm of its own, normalized for all steps at once (`project_input`).

Precision: norms, gates and the LSTM's cell state are computed in float32 or better. Matrix products
run in the dtype of the weights (under autocast, in autocast's), and the hidden state, which is what
they read and what comes out, is stored in it.

Dimensions: T time steps, B sequences, N time steps of all packed sequences together, I input
features, H hidden units, R recurrent features (H, or the size it is projected to), G gate entries
(H for the RNN, 4H for the LSTM, 3H for the GRU).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lnrnn.ops.noise import NO_NOISE, Drawn, Masks
from lnrnn.ops.time_loop import State, run_steps


def widen(v: Tensor) -> Tensor:
    """Return ``v`` in the dtype for statistics: float64 as it is, everything else in float32."""
    return v if v.dtype in (torch.float32, torch.float64) else v.float()


def norm_widths(span: str, gates: int, hidden_size: int) -> list[int]:
    """Return how many neighboring gate entries each norm covers.

    Args:
        span: "all" for one norm over every gate, "gate" for one norm a gate, "paper" for what Ba et
            al. do: the GRU's reset and update gates together and its candidate apart, else all.
        gates: Gates of the cell: 1 for the RNN, 4 for the LSTM, 3 for the GRU.
        hidden_size: H, the entries of one gate.

    Example:
        >>> norm_widths("paper", 3, 5), norm_widths("all", 3, 5), norm_widths("gate", 3, 5)
        ([10, 5], [15], [5, 5, 5])
    """
    if span == "gate":
        return [hidden_size] * gates
    if span == "paper" and gates == 3:
        return [2 * hidden_size, hidden_size]
    return [gates * hidden_size]


def normalize(
    v: Tensor, gain: Tensor, shift: Tensor | None, *, widths: list[int], kind: str, eps: float
) -> Tensor:
    r"""Return ``gain * N(v) + shift``, each norm over its own neighboring entries.

    Over one span, with its mean :math:`\mu` and biased variance :math:`\sigma^2`,

    .. math:: N(v) = (v - \mu) / \sqrt{\sigma^2 + \epsilon} \quad\text{or, if kind is "rms",}\quad
              N(v) = v / \sqrt{\overline{v^2} + \epsilon}

    Args:
        v: Values, (..., G).
        gain: Scale after the norm, (G,).
        shift: Added last, (G,), or None.
        widths: Sizes of the spans, from left to right; their sum is G.
        kind: "layer" or "rms".
        eps: Added inside the root, in squared units of ``v``.

    Returns:
        (..., G), in float32 or better.

    Reference:
        Ba, Kiros and Hinton, "Layer Normalization", arXiv:1607.06450, equation 4;
        Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv:1910.07467, equation 4.
    """
    v, gain = widen(v), widen(gain)
    shift = None if shift is None else widen(shift)
    if len(widths) == 1:  # splitting would cost the backward a copy of everything
        return _normalize_span(v, gain, shift, kind, eps)
    shifts = [None] * len(widths) if shift is None else shift.split(widths)
    parts = zip(v.split(widths, dim=-1), gain.split(widths), shifts, strict=True)
    return torch.cat([_normalize_span(part, g, b, kind, eps) for part, g, b in parts], dim=-1)


def _normalize_span(v: Tensor, gain: Tensor, shift: Tensor | None, kind: str, eps: float) -> Tensor:
    if kind == "layer":
        return F.layer_norm(v, gain.shape, gain, shift, eps)
    normalized = F.rms_norm(v, gain.shape, gain, eps)
    return normalized if shift is None else normalized + shift


def recurrent_side(
    product: Tensor,
    gain: Tensor | None,
    shift: Tensor | None,
    *,
    widths: list[int],
    kind: str,
    eps: float,
) -> Tensor:
    """Return a product with its bias, normalized before that if there is a gain, as `normalize`."""
    if gain is not None:
        return normalize(product, gain, shift, widths=widths, kind=kind, eps=eps)
    return widen(product) if shift is None else widen(product) + widen(shift)


def project_input(
    x: Tensor,
    weight_ih: Tensor,
    bias_ih: Tensor | None,
    gain_ih: Tensor | None,
    shift_ih: Tensor | None,
    *,
    widths: list[int],
    kind: str,
    eps: float,
) -> Tensor:
    """Project the input of all steps and, if ``gain_ih`` is given, normalize it for all steps.

    ``bias_ih`` is inside the norm: without it the norm of a one-feature input would keep only the
    input's sign.

    Args:
        x: Input, (..., I).
        weight_ih: Input-to-hidden weight, (G, I).
        bias_ih: Added before the norm, (G,), or None.
        gain_ih: Scale after the norm, (G,), or None for no norm.
        shift_ih: Added after the norm, (G,), or None.
        widths: Sizes of the spans, as in `normalize`.
        kind: "layer" or "rms".
        eps: Added inside the root.

    Returns:
        The input side of every step, (..., G).
    """
    projected = F.linear(x, weight_ih, bias_ih)
    if gain_ih is None:
        return projected
    return normalize(projected, gain_ih, shift_ih, widths=widths, kind=kind, eps=eps)


def ln_rnn(
    x: Tensor,
    h_0: Tensor,
    weight_hh: Tensor,
    gain: Tensor | None,
    bias_hh: Tensor | None,
    reset_h: Tensor | None,
    *,
    batch_sizes: list[int] | None,
    cuts: Tensor | None,
    reverse: bool,
    joint: bool,
    nonlinearity: str,
    kind: str,
    eps: float,
    drawn: Drawn = NO_NOISE,
) -> tuple[Tensor, Tensor]:
    r"""Run an Elman RNN with a norm inside the step.

    .. math::
        \text{joint:}\quad & h' = \tanh(g \odot N(x + W_{hh} h) + b_{hh}) \\
        \text{separate:}\quad & h' = \tanh(x + g \odot N(W_{hh} h) + b_{hh})

    Args:
        x: Projected input, (T, B, H), or packed, (N, H).
        h_0: Hidden state before the first step, (B, H).
        weight_hh: Hidden-to-hidden weight, (H, H).
        gain: Scale after the norm, (H,), or None for no norm on the recurrent side.
        bias_hh: Added after the norm, (H,), or None.
        reset_h: Hidden state after a reset, (B, H), or None for zeros.
        batch_sizes: Live sequences at each step of a packed ``x``; None if ``x`` is padded.
        cuts: Where the state that a step leaves is replaced by the reset state, (T, B) or (N,).
        reverse: Whether to run from each sequence's last step to its first.
        joint: Whether one norm covers the sum of both sides, rather than the recurrent side alone.
        nonlinearity: "tanh" or "relu".
        kind: "layer" or "rms".
        eps: Added inside the root.
        drawn: What is random inside the steps.

    Returns:
        The hidden states, laid out as ``x``, and the final one, (B, H).

    Reference:
        Ba, Kiros and Hinton, "Layer Normalization", arXiv:1607.06450, equation 4 (joint).
    """
    activation = torch.tanh if nonlinearity == "tanh" else torch.relu
    widths = [weight_hh.shape[0]]

    def step(x_t: Tensor, state: State, masks: Masks) -> State:
        product = F.linear(drawn.read(state[0]), weight_hh)  # (rows, H)
        side = x_t + widen(product) if joint else product
        total = recurrent_side(side, gain, bias_hh, widths=widths, kind=kind, eps=eps)
        total = total if joint else x_t + total
        return (drawn.hidden(activation(total), state[0], masks).to(product.dtype),)

    loop = (batch_sizes, reverse, cuts, (reset_h,), drawn.masks)
    output, (h_n,) = run_steps(step, widen(x), (h_0,), *loop)
    return output, h_n


def ln_lstm(
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weight_hh: Tensor,
    gain: Tensor | None,
    bias_hh: Tensor | None,
    gain_c: Tensor | None,
    shift_c: Tensor | None,
    weight_hr: Tensor | None,
    reset_h: Tensor | None,
    reset_c: Tensor | None,
    *,
    batch_sizes: list[int] | None,
    cuts: Tensor | None,
    reverse: bool,
    joint: bool,
    span: str,
    cell: str | None,
    kind: str,
    eps: float,
    cell_clip: float | None = None,
    drawn: Drawn = NO_NOISE,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Run an LSTM with norms inside the step; gates in torch's order i, f, g, o.

    .. math::
        \text{separate:}\quad & z = x + g \odot N(W_{hh} h) + b_{hh} \\
        \text{joint:}\quad & z = g \odot N(x + W_{hh} h) + b_{hh} \\
        & c' = \sigma(z_f) c + \sigma(z_i) \tanh(z_g), \qquad
        h' = W_{hr} (\sigma(z_o) \tanh(\hat c))

    With ``cell="output"``, :math:`\hat c = g_c \odot N(c') + b_c` and c' itself is carried. With
    "state", c' is replaced by that and carried normalized; with "carried" too, and
    :math:`\hat c = c'` is what it was before. With None, :math:`\hat c = c'`. Before all that, c'
    is clipped to [-cell_clip, cell_clip], if that is given.

    Args:
        x: Projected input, (T, B, 4H), or packed, (N, 4H).
        h_0: Hidden state before the first step, (B, R).
        c_0: Cell state before the first step, (B, H).
        weight_hh: Hidden-to-hidden weight, (4H, R).
        gain: Scale after the recurrent (or joint) norm, (4H,), or None for no such norm.
        bias_hh: Added after the recurrent (or joint) norm, (4H,), or None.
        gain_c: Scale after the cell's norm, (H,); None if ``cell`` is None.
        shift_c: Added after the cell's norm, (H,); None if ``cell`` is None.
        weight_hr: Projection of the hidden state, (R, H), or None.
        reset_h: Hidden state after a reset, (B, R), or None for zeros.
        reset_c: Cell state after a reset, (B, H), or None for zeros.
        batch_sizes: Live sequences at each step of a packed ``x``; None if ``x`` is padded.
        cuts: Where the state that a step leaves is replaced by the reset state, (T, B) or (N,).
        reverse: Whether to run from each sequence's last step to its first.
        joint: Whether one norm covers the sum of both sides, rather than the recurrent side alone.
        span: "paper" or "all" for one norm over the four gates, "gate" for one a gate.
        cell: "output", "state", "carried" or None.
        kind: "layer" or "rms".
        eps: Added inside the root.
        cell_clip: What the new cell state is clipped to, on both sides of 0, or None.
        drawn: What is random inside the steps.

    Returns:
        The hidden states, laid out as ``x``; the final hidden state, (B, R); the final cell state,
        (B, H), in float32 or better.

    Reference:
        Ba, Kiros and Hinton, "Layer Normalization", arXiv:1607.06450, supplement, LSTM
        (separate, "output"). "carried": the code of rwth-i6/returnn; clipping: tensorflow/lingvo's.
    """
    hidden_size = c_0.shape[-1]
    widths = norm_widths(span, 4, hidden_size)

    def normalize_cell(c: Tensor) -> Tensor:
        assert gain_c is not None
        return normalize(c, gain_c, shift_c, widths=[hidden_size], kind=kind, eps=eps)

    def step(x_t: Tensor, state: State, masks: Masks) -> State:
        product = F.linear(drawn.read(state[0]), weight_hh)  # (rows, 4H)
        side = x_t + widen(product) if joint else product
        z = recurrent_side(side, gain, bias_hh, widths=widths, kind=kind, eps=eps)
        i, f, g, o = (z if joint else x_t + z).chunk(4, dim=-1)
        g = drawn.candidate(torch.tanh(g), masks)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * g
        c = c if cell_clip is None else c.clamp(-cell_clip, cell_clip)
        seen = c if cell in ("carried", None) else normalize_cell(c)
        c = normalize_cell(c) if cell == "carried" else seen if cell == "state" else c
        h = torch.sigmoid(o) * torch.tanh(seen)
        h = h if weight_hr is None else F.linear(h.to(product.dtype), weight_hr)
        h = drawn.hidden(h, state[0], masks).to(product.dtype)
        return h, drawn.cell(c, state[1], masks)

    initial = h_0, widen(c_0)
    resets = reset_h, None if reset_c is None else widen(reset_c)
    loop = (batch_sizes, reverse, cuts, resets, drawn.masks)
    output, (h_n, c_n) = run_steps(step, widen(x), initial, *loop)
    return output, h_n, c_n


def ln_gru(
    x: Tensor,
    h_0: Tensor,
    weight_hh: Tensor,
    gain: Tensor | None,
    bias_hh: Tensor | None,
    reset_h: Tensor | None,
    *,
    batch_sizes: list[int] | None,
    cuts: Tensor | None,
    reverse: bool,
    span: str,
    kind: str,
    eps: float,
    joint: bool = False,
    shift: Tensor | None = None,
    drawn: Drawn = NO_NOISE,
) -> tuple[Tensor, Tensor]:
    r"""Run a GRU with norms inside the step; gates in torch's order r, z, n.

    .. math::
        u &= g \odot N(W_{hh} h) + b_{hh} \\
        r, z &= \sigma(x_{r,z} + u_{r,z}), \qquad n = \tanh(x_n + r \odot u_n) \\
        h' &= (1 - z) \odot n + z \odot h

    Joint, a norm covers a sum of both sides, :math:`u = W_{hh} h + b_{hh}`, and is written LN with
    its gain and shift. The candidate's sum has the reset in it; over all gates at once, where that
    cannot be, the reset scales what comes out of the norm:

    .. math::
        r, z &= \sigma(LN(x_{r,z} + u_{r,z})), \qquad n = \tanh(LN(x_n + r \odot u_n)) \\
        \text{all:}\quad r, z, a &= LN(x + u), \qquad n = \tanh(\sigma(r) \odot a)

    Args:
        x: Projected and, unless joint, normalized input, (T, B, 3H), or packed, (N, 3H).
        h_0: Hidden state before the first step, (B, H).
        weight_hh: Hidden-to-hidden weight, (3H, H).
        gain: Scale after the recurrent (or joint) norm, (3H,), or None for no such norm.
        bias_hh: Added after the recurrent norm, or to the product if joint, (3H,), or None.
        reset_h: Hidden state after a reset, (B, H), or None for zeros.
        batch_sizes: Live sequences at each step of a packed ``x``; None if ``x`` is padded.
        cuts: Where the state that a step leaves is replaced by the reset state, (T, B) or (N,).
        reverse: Whether to run from each sequence's last step to its first.
        span: "paper" for one norm over r and z and one over n, "all" for one over the three gates,
            "gate" for one a gate.
        kind: "layer" or "rms".
        eps: Added inside the root.
        joint: Whether norms cover the sum of both sides, rather than the recurrent side alone.
        shift: Added after a joint norm, (3H,), or None.
        drawn: What is random inside the steps.

    Returns:
        The hidden states, laid out as ``x``, and the final one, (B, H).

    Reference:
        Ba, Kiros and Hinton, "Layer Normalization", arXiv:1607.06450, supplement, GRU. Joint: the
        code of k2-fsa/icefall (a norm a gate) and of danijar/dreamerv2 (all).
    """
    hidden_size = h_0.shape[-1]
    widths = norm_widths(span, 3, hidden_size)

    def separate(x_t: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
        u = recurrent_side(product, gain, bias_hh, widths=widths, kind=kind, eps=eps)
        x_r, x_z, x_n = x_t.chunk(3, dim=-1)
        u_r, u_z, u_n = u.chunk(3, dim=-1)
        r = torch.sigmoid(x_r + u_r)
        z = torch.sigmoid(x_z + u_z)
        return z, torch.tanh(x_n + r * u_n)

    def summed(x_t: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
        assert gain is not None
        u = widen(product) if bias_hh is None else widen(product) + widen(bias_hh)
        settings: dict[str, Any] = {"kind": kind, "eps": eps}
        if span == "all":
            r, z, a = normalize(x_t + u, gain, shift, widths=widths, **settings).chunk(3, dim=-1)
            return torch.sigmoid(z), torch.tanh(torch.sigmoid(r) * a)
        sizes = [2 * hidden_size, hidden_size]  # r and z, whose norms come first, and n
        (x_rz, x_n), (u_rz, u_n) = x_t.split(sizes, dim=-1), u.split(sizes, dim=-1)
        shift_rz, shift_n = (None, None) if shift is None else shift.split(sizes)
        gain_rz, gain_n = gain.split(sizes)
        rz = normalize(x_rz + u_rz, gain_rz, shift_rz, widths=widths[:-1], **settings)
        r, z = torch.sigmoid(rz).chunk(2, dim=-1)
        a = normalize(x_n + r * u_n, gain_n, shift_n, widths=widths[-1:], **settings)
        return z, torch.tanh(a)

    def step(x_t: Tensor, state: State, masks: Masks) -> State:
        (h,) = state
        product = F.linear(drawn.read(h), weight_hh)  # (rows, 3H)
        z, n = summed(x_t, product) if joint else separate(x_t, product)
        new = (1 - z) * drawn.candidate(n, masks) + z * h
        return (drawn.hidden(new, h, masks).to(product.dtype),)

    loop = (batch_sizes, reverse, cuts, (reset_h,), drawn.masks)
    output, (h_n,) = run_steps(step, widen(x), (h_0,), *loop)
    return output, h_n
