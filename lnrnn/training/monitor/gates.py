"""What happens inside the recurrent step, computed for all steps at once.

The hidden state before a step and the step's input are known once a sequence has been run, so what
a norm reads, and what a gate's activation reads, follow without stepping.

Dimensions: N rows, one a step of a sequence; I input features, H hidden units, G gate entries.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lnrnn.nn import RNN
from lnrnn.nn.direction import Direction, recurrent_gain
from lnrnn.nn.norm import CellNorm, as_cell_norm
from lnrnn.ops.gates import GATES
from lnrnn.ops.reference import norm_widths, normalize, recurrent_side, widen
from lnrnn.training.monitor.cuts import Layer

SIGMOIDS = "iforz"
SATURATED = 0.95  # of the way from the middle of an activation's range to its end


class Inside(NamedTuple):
    """What activations and norms read at some steps.

    Attributes:
        gates: What each gate's activation reads, (N, H), by torch's letter; "h" for the RNN.
        normed: What each norm inside the step reads, (N, G), by CellNorm's names but "cell".
    """

    gates: dict[str, Tensor]
    normed: dict[str, Tensor]


def look_inside(layer: Layer, x: Tensor, h: Tensor) -> Inside:
    """Compute what gates and norms read.

    Args:
        layer: One layer of one direction.
        x: What the steps read, (N, I).
        h: The hidden states before them, (N, R).
    """
    weights, letters = Direction.of(layer, "_l0"), GATES[cell_of(layer)]
    norm = cell_norm_of(layer)
    projected = widen(F.linear(x, weights.weight_ih, weights.bias_ih))
    product = widen(F.linear(h, weights.weight_hh))
    normed: dict[str, Tensor] = {}
    if norm is None:
        bias = 0.0 if weights.bias_hh is None else widen(weights.bias_hh)
        from_input, from_state = projected, product + bias
    elif cell_of(layer) == "gru" and norm.is_joint("gru"):
        return _inside_joint_gru(layer, norm, weights, projected, product)
    else:
        if norm.is_joint(cell_of(layer)):
            normed = {"joint": projected + product}
        else:
            read = {"input": ("ih", projected), "recurrent": ("hh", product)}
            normed = dict(read[side] for side in norm.sides(cell_of(layer)))
        from_input, from_state = _normalize(layer, norm, weights, projected, product)
    a, u = (part.chunk(len(letters), dim=-1) for part in (from_input, from_state))
    gates = {letter: a_k + u_k for letter, a_k, u_k in zip(letters, a, u, strict=True)}
    if "n" in gates:  # the GRU's reset gate scales what its candidate sees of the state
        gates["n"] = a[2] + torch.sigmoid(gates["r"]) * u[2]
    return Inside(gates, normed)


def _normalize(
    layer: Layer, norm: CellNorm, weights: Direction, projected: Tensor, product: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what the input's side and the state's add up to; a joint norm's is all on the one."""
    settings: dict[str, Any] = {"widths": widths_of(layer, norm), "kind": norm.kind}
    settings["eps"] = layer.eps
    if norm.is_joint(cell_of(layer)):
        projected, product = torch.zeros_like(projected), projected + product
    from_state = recurrent_side(product, recurrent_gain(weights), weights.bias_hh, **settings)
    if weights.gain_ih is None:
        return projected, from_state
    return normalize(projected, weights.gain_ih, weights.shift_ih, **settings), from_state


def _inside_joint_gru(
    layer: Layer, norm: CellNorm, weights: Direction, projected: Tensor, product: Tensor
) -> Inside:
    """Return what is read where norms cover a GRU's sum, which has the reset in it or before it."""
    gain = weights.gain
    assert gain is not None
    widths = widths_of(layer, norm)
    bias = 0.0 if weights.bias_hh is None else widen(weights.bias_hh)

    def normalized(v: Tensor) -> list[Tensor]:
        settings = {"widths": widths, "kind": norm.kind, "eps": layer.eps}
        return list(normalize(v, gain, weights.shift, **settings).chunk(3, -1))

    read = projected + product + bias
    r, z, n = normalized(read)
    if norm.span == "all":
        n = torch.sigmoid(r) * n
    else:  # a norm of its own, of a sum that only the reset, known now, completes
        *_, u_n = (product + bias).chunk(3, -1)
        read_r, read_z, _ = read.chunk(3, -1)
        x_n = projected.chunk(3, -1)[2]
        read = torch.cat([read_r, read_z, x_n + torch.sigmoid(r) * u_n], dim=-1)
        n = normalized(read)[2]
    return Inside(dict(zip("rzn", (r, z, n), strict=True)), {"joint": read})


def next_cell_state(inside: Inside, c: Tensor, clip: float | None) -> Tensor:
    """Return the LSTM's cell state after steps, before its norm, from that before them, (N, H)."""
    i, f, g = (inside.gates[letter] for letter in "ifg")
    c = torch.sigmoid(f) * widen(c) + torch.sigmoid(i) * torch.tanh(g)
    return c if clip is None else c.clamp(-clip, clip)


def saturation(layer: Layer, inside: Inside) -> dict[str, Tensor]:
    """Return the share of each gate's activations that are beyond SATURATED of their range.

    Beyond is |tanh| > 0.95, and for a sigmoid below 0.025 or above 0.975. ReLU has no range.
    """
    if isinstance(layer, RNN) and layer.nonlinearity == "relu":
        return {}
    bound = math.atanh(SATURATED)
    return {
        letter: share_of(v.abs() > (2 * bound if letter in SIGMOIDS else bound))
        for letter, v in inside.gates.items()
    }


def variances(v: Tensor, widths: list[int], kind: str) -> Tensor:
    """Return the biased variance (for "rms" the mean square) of every span of every row."""
    spans = [widen(span) for span in v.split(widths, dim=-1)]
    if kind == "layer":  # torch.var does it in one pass, and takes five times as long
        spans = [span - span.mean(-1, keepdim=True) for span in spans]
    return torch.cat([span.square().mean(-1) for span in spans])


def share_of(found: Tensor) -> Tensor:
    """Return the share of True, scalar, float64."""
    return torch.count_nonzero(found).double() / found.numel()


def cell_of(layer: Layer) -> str:
    """Return "rnn", "lstm" or "gru"."""
    return layer.mode.partition("_")[0].lower()


def cell_norm_of(layer: Layer) -> CellNorm | None:
    """Return the norm inside the step, if there is one."""
    return as_cell_norm(layer.norm, cell_of(layer))


def widths_of(layer: Layer, norm: CellNorm) -> list[int]:
    """Return how many gate entries each norm inside the step covers."""
    return norm_widths(norm.span, len(GATES[cell_of(layer)]), layer.hidden_size)
