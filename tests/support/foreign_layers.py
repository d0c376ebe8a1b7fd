"""Other libraries' layer-normalized cells: their names for parameters, and loops of ours.

Each is written from the formula of its source. A cell is one step; `run` loops over time, layers
and directions as the source does. Parameters are random numbers that hide no mistake.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]


def random(*shape: int, about: float = 0.0) -> nn.Parameter:
    return nn.Parameter(about + 0.4 * torch.randn(*shape, dtype=torch.float64))


def norm(v: Tensor, gain: Any = 1.0, shift: Any = 0.0, eps: float = 1e-5) -> Tensor:
    centered = v - v.mean(-1, keepdim=True)
    return gain * centered / (centered.square().mean(-1, keepdim=True) + eps).sqrt() + shift


class Affine(nn.Module):
    """A layer norm with the names of torch's."""

    def __init__(self, size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = random(size, about=1.0), random(size), eps

    def forward(self, v: Tensor) -> Tensor:
        return norm(v, self.weight, self.bias, self.eps)


class FastCell(nn.Module):
    """PyTorch's fastrnns, and NeMo."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.weight_ih, self.weight_hh = random(4 * hidden, inputs), random(4 * hidden, hidden)
        self.layernorm_i, self.layernorm_h = Affine(4 * hidden), Affine(4 * hidden)
        self.layernorm_c = Affine(hidden)

    def forward(self, x: Tensor, state: State) -> State:
        h, c = state
        gates = self.layernorm_i(x @ self.weight_ih.T) + self.layernorm_h(h @ self.weight_hh.T)
        i, f, g, o = gates.chunk(4, -1)
        c = self.layernorm_c(f.sigmoid() * c + i.sigmoid() * g.tanh())
        return o.sigmoid() * c.tanh(), c


class AudioCell(nn.Module):
    """torchaudio."""

    def __init__(self, inputs: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.x2g, self.p2g = (
            nn.Linear(inputs, 4 * hidden, False),
            nn.Linear(hidden, 4 * hidden, False),
        )
        self.x2g.weight, self.p2g.weight = random(4 * hidden, inputs), random(4 * hidden, hidden)
        self.c_norm, self.g_norm = Affine(hidden, eps), Affine(4 * hidden, eps)

    def forward(self, x: Tensor, state: State) -> State:
        h, c = state
        i, f, g, o = self.g_norm(self.x2g(x) + self.p2g(h)).chunk(4, -1)
        c = self.c_norm(f.sigmoid() * c + i.sigmoid() * g.tanh())
        return o.sigmoid() * c.tanh(), c


class IcefallCell(nn.Module):
    """icefall's LSTM."""

    def __init__(self, inputs: int, hidden: int, bias: bool = True, projected: int = 0) -> None:
        super().__init__()
        self.weight_ih = random(4 * hidden, inputs)
        self.weight_hh = random(4 * hidden, projected or hidden)
        self.bias_ih = random(4 * hidden) if bias else None
        self.bias_hh = random(4 * hidden) if bias else None
        self.weight_hr = random(projected, hidden) if projected else None
        for name in ("i", "f", "cx", "cy", "o"):
            self.add_module(f"layernorm_{name}", Affine(hidden))

    def forward(self, x: Tensor, state: State) -> State:
        h, c = state
        gates = x @ self.weight_ih.T + h @ self.weight_hh.T
        if self.bias_ih is not None and self.bias_hh is not None:
            gates = gates + self.bias_ih + self.bias_hh
        names = ("layernorm_i", "layernorm_f", "layernorm_cx", "layernorm_o")
        normed = [self.get_submodule(n)(v) for n, v in zip(names, gates.chunk(4, -1), strict=True)]
        i, f, g, o = normed
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        c = self.get_submodule("layernorm_cy")(c)
        h = o.sigmoid() * c.tanh()
        return (h if self.weight_hr is None else h @ self.weight_hr.T), c


class IcefallGRU(nn.Module):
    def __init__(self, inputs: int, hidden: int, bias: bool = True) -> None:
        super().__init__()
        self.weight_ih, self.weight_hh = random(3 * hidden, inputs), random(3 * hidden, hidden)
        if bias:
            self.bias_ih, self.bias_hh = random(3 * hidden), random(3 * hidden)
        self.layernorm_r, self.layernorm_i = Affine(hidden), Affine(hidden)
        self.layernorm_n = Affine(hidden)

    def forward(self, x: Tensor, state: State) -> State:
        (h,) = state
        b_i, b_h = getattr(self, "bias_ih", 0.0), getattr(self, "bias_hh", 0.0)
        x_r, x_i, x_n = (x @ self.weight_ih.T + b_i).chunk(3, -1)
        h_r, h_i, h_n = (h @ self.weight_hh.T + b_h).chunk(3, -1)
        reset = self.layernorm_r(x_r + h_r).sigmoid()
        kept = self.layernorm_i(x_i + h_i).sigmoid()
        new = self.layernorm_n(x_n + reset * h_n).tanh()
        return ((1 - kept) * new + kept * h,)


class HasteLSTM(nn.Module):
    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.kernel, self.recurrent_kernel = random(inputs, 4 * hidden), random(hidden, 4 * hidden)
        self.bias, self.gamma = random(4 * hidden), random(2, 4 * hidden, about=1.0)
        self.gamma_h, self.beta_h = random(hidden, about=1.0), random(hidden)

    def forward(self, x: Tensor, state: State) -> State:
        h, c = state
        v = norm(x @ self.kernel, self.gamma[0]) + norm(h @ self.recurrent_kernel, self.gamma[1])
        i, g, f, o = (v + self.bias).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * norm(c, self.gamma_h, self.beta_h).tanh(), c


class HasteGRU(nn.Module):
    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.kernel, self.recurrent_kernel = random(inputs, 3 * hidden), random(hidden, 3 * hidden)
        self.bias, self.recurrent_bias = random(3 * hidden), random(3 * hidden)
        self.gamma = random(2, 3 * hidden, about=1.0)

    def forward(self, x: Tensor, state: State) -> State:
        (h,) = state
        wx = norm(x @ self.kernel, self.gamma[0]) + self.bias
        rh = norm(h @ self.recurrent_kernel, self.gamma[1]) + self.recurrent_bias
        (zx, rx, gx), (zh, rh, gh) = wx.chunk(3, -1), rh.chunk(3, -1)
        z, g = (zx + zh).sigmoid(), (gx + (rx + rh).sigmoid() * gh).tanh()
        return (z * h + (1 - z) * g,)


class Named(nn.Module):
    """Parameters by names with slashes, as TensorFlow's are."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            about = 1.0 if name.endswith("gamma") else 0.0
            self.register_parameter(name, random(*shape, about=about))

    def affine(self, v: Tensor, name: str, eps: float) -> Tensor:
        gamma, beta = self._parameters[f"{name}/gamma"], self._parameters.get(f"{name}/beta")
        return norm(v, gamma, 0.0 if beta is None else beta, eps)


class AddonsLSTM(Named):
    """TensorFlow Addons; the bias may be absent."""

    def __init__(self, inputs: int, hidden: int, bias: bool = True, eps: float = 1e-3) -> None:
        shapes: dict[str, tuple[int, ...]] = {
            "kernel": (inputs, 4 * hidden),
            "recurrent_kernel": (hidden, 4 * hidden),
        }
        shapes |= {"bias": (4 * hidden,)} if bias else {}
        for name, size in {"kernel": 4, "recurrent": 4, "state": 1}.items():
            for kind in ("gamma", "beta"):
                shapes[f"{name}_norm/{kind}"] = (size * hidden,)
        super().__init__(**shapes)
        self.eps = eps

    def forward(self, x: Tensor, state: State) -> State:
        h, c = state
        p: Any = self._parameters
        z = self.affine(x @ p["kernel"], "kernel_norm", self.eps)
        z = z + self.affine(h @ p["recurrent_kernel"], "recurrent_norm", self.eps)
        i, f, g, o = (z + p["bias"] if "bias" in p else z).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        c = self.affine(c, "state_norm", self.eps)
        return o.sigmoid() * c.tanh(), c


class AddonsRNN(Named):
    def __init__(self, inputs: int, hidden: int, bias: bool = True, eps: float = 1e-5) -> None:
        shapes: dict[str, tuple[int, ...]] = {
            "kernel": (inputs, hidden),
            "recurrent_kernel": (hidden, hidden),
            "layernorm/gamma": (hidden,),
        }
        super().__init__(**shapes, **({"bias": (hidden,)} if bias else {}))
        self.eps = eps

    def forward(self, x: Tensor, state: State) -> State:
        p: Any = self._parameters
        net = self.affine(x @ p["kernel"] + state[0] @ p["recurrent_kernel"], "layernorm", self.eps)
        return ((net + p["bias"] if "bias" in p else net).tanh(),)


class ContribLSTM(Named):
    """tf.contrib; its forget bias is a constant."""

    def __init__(self, inputs: int, hidden: int) -> None:
        shapes: dict[str, tuple[int, ...]] = {"kernel": (inputs + hidden, 4 * hidden)}
        for name in ("input", "transform", "forget", "output", "state"):
            shapes |= {f"{name}/{kind}": (hidden,) for kind in ("gamma", "beta")}
        super().__init__(**shapes)

    def forward(self, x: Tensor, state: State) -> State:
        h, c = state
        parts = (torch.cat([x, h], -1) @ self.get_parameter("kernel")).chunk(4, -1)
        names = ("input", "transform", "forget", "output")
        i, j, f, o = (self.affine(v, n, 1e-12) for v, n in zip(parts, names, strict=True))
        c = c * (f + 1.0).sigmoid() + i.sigmoid() * j.tanh()
        c = self.affine(c, "state", 1e-12)
        return c.tanh() * o.sigmoid(), c


class Supercell(Named):
    """hardmaru/supercell; its forget bias is a constant."""

    def __init__(self, inputs: int, hidden: int) -> None:
        shapes: dict[str, tuple[int, ...]] = {"W_xh": (inputs, 4 * hidden)}
        shapes["W_hh"] = (hidden, 4 * hidden)
        for name in "ijfoc":
            shapes |= {f"ln_{name}/layer_norm_{kind}": (hidden,) for kind in ("alpha", "bias")}
        super().__init__(**shapes)

    def forward(self, x: Tensor, state: State) -> State:
        h, c = state
        p: Any = self._parameters

        def layer_norm(v: Tensor, name: str) -> Tensor:
            alpha, bias = (p[f"ln_{name}/layer_norm_{kind}"] for kind in ("alpha", "bias"))
            return norm(v, alpha, bias, eps=1e-3)

        parts = (x @ p["W_xh"] + h @ p["W_hh"]).chunk(4, -1)
        i, j, f, o = (layer_norm(v, n) for v, n in zip(parts, "ijfo", strict=True))
        c = c * (f + 1.0).sigmoid() + i.sigmoid() * j.tanh()
        return layer_norm(c, "c").tanh() * o.sigmoid(), c


class LingvoSimple(Named):
    """Lingvo's LayerNormalizedLSTMCellSimple."""

    def __init__(self, inputs: int, hidden: int, bias: bool = True) -> None:
        shapes: dict[str, tuple[int, ...]] = {"wm": (inputs + hidden, 4 * hidden)}
        shapes["ln_scale"] = (4 * hidden,)
        super().__init__(**shapes, **({"b": (4 * hidden,)} if bias else {}))

    def forward(self, x: Tensor, state: State) -> State:
        m, c = state
        p: Any = self._parameters
        gates = (torch.cat([x, m], -1) @ p["wm"]).unflatten(-1, (4, -1))
        gates = norm(gates, eps=1e-8).flatten(-2) * p["ln_scale"]
        i_i, i_g, f_g, o_g = (gates + p["b"] if "b" in p else gates).chunk(4, -1)
        c = (f_g.sigmoid() * c + i_g.sigmoid() * i_i.tanh()).clamp(-10.0, 10.0)
        return o_g.sigmoid() * c.tanh(), c


def run_cell(
    cell: nn.Module, x: Tensor, state: State, reverse: bool = False
) -> tuple[Tensor, State]:
    """Run one direction over (T, B, I)."""
    outputs = []
    for x_t in x.flip(0) if reverse else x:
        state = cell(x_t, state)
        outputs.append(state[0])
    output = torch.stack(outputs)
    return (output.flip(0) if reverse else output), state


def run(
    cells: Sequence[Sequence[nn.Module]], x: Tensor, initial: State
) -> tuple[Tensor, list[Tensor]]:
    """Run layers of one or two directions from states (L * D, B, ...); return output and states."""
    final = []
    for layer, ways in enumerate(cells):
        outputs = []
        for way, cell in enumerate(ways):
            row = layer * len(ways) + way
            output, state = run_cell(cell, x, tuple(s[row] for s in initial), way == 1)
            outputs.append(output)
            final.append(state)
        x = torch.cat(outputs, -1)
    return x, [torch.stack(s) for s in zip(*final, strict=True)]
