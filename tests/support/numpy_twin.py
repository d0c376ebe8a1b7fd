"""The recurrences once more, from the equations alone: NumPy, one sequence, one step, one row.

Nothing here is shared with the package, and nothing is arranged as it is there: gates are rows of a
matrix, norms are written out, layers and directions are loops over time.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Parameters = Mapping[str, Array]


def sigmoid(v: Array) -> Array:
    return 1 / (1 + np.exp(-v))


def norm_of(v: Array, kind: str, eps: float) -> Array:
    """N(v) over one vector."""
    if kind == "rms":
        return v / np.sqrt(np.sum(v**2) / v.size + eps)
    mean = np.sum(v) / v.size
    variance = np.sum((v - mean) ** 2) / v.size
    return (v - mean) / np.sqrt(variance + eps)


class Twin:
    """One direction of one layer.

    ``p`` holds its parameters without suffix; ``settings`` has ``inputs``, ``span``, ``cell`` and
    ``kind``; ``norm_of`` may be replaced by what is not ours.
    """

    def __init__(
        self,
        cell: str,
        p: Parameters,
        settings: Any,
        eps: float,
        nonlinearity: str = "tanh",
        norm_of: Callable[[Array, str, float], Array] = norm_of,
    ) -> None:
        self.cell, self.p, self.s, self.eps = cell, p, settings, eps
        self.nonlinearity, self.norm_of = nonlinearity, norm_of
        self.gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell]
        self.hidden = p["weight_ih"].shape[0] // self.gates
        inputs = settings.inputs
        self.joint = inputs == "joint" or (inputs == "paper" and cell == "rnn")
        self.of_input = not self.joint and inputs in ("paper", "separate", "input")
        self.of_state = not self.joint and inputs in ("paper", "separate", "recurrent")

    def n(self, v: Array) -> Array:
        return self.norm_of(v, self.s.kind, self.eps)

    def gate_norm(self, v: Array) -> Array:
        """N over the gates, as the span says."""
        rows = v.reshape(self.gates, self.hidden)
        span = self.s.span
        if span == "gate":
            return np.concatenate([self.n(row) for row in rows])
        if span == "paper" and self.cell == "gru":
            return np.concatenate([self.n(np.concatenate([rows[0], rows[1]])), self.n(rows[2])])
        return self.n(v)

    def step(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        p, zero = self.p, np.zeros(self.gates * self.hidden)
        wx = p["weight_ih"] @ x + p.get("bias_ih", zero)
        wh = p["weight_hh"] @ h
        b_hh = p.get("bias_hh", zero)
        if self.joint and self.cell == "gru":
            return self.joint_gru(wx.reshape(3, -1), (wh + b_hh).reshape(3, -1), h), c
        if self.joint:
            z = p["gain"] * self.gate_norm(wx + wh) + b_hh
        else:
            a = p["gain_ih"] * self.gate_norm(wx) + p["shift_ih"] if self.of_input else wx
            u = (p["gain_hh"] * self.gate_norm(wh) if self.of_state else wh) + b_hh
            if self.cell == "gru":
                return self.gru(a.reshape(3, -1), u.reshape(3, -1), h), c
            z = a + u
        if self.cell == "lstm":
            return self.lstm(z.reshape(4, -1), c)
        return (np.maximum(z, 0) if self.nonlinearity == "relu" else np.tanh(z)), c

    def gru(self, a: Array, u: Array, h: Array) -> Array:
        r, z = sigmoid(a[0] + u[0]), sigmoid(a[1] + u[1])
        n = np.tanh(a[2] + r * u[2])
        return (1 - z) * n + z * h

    def joint_gru(self, a: Array, u: Array, h: Array) -> Array:
        gain, shift = self.p["gain"].reshape(3, -1), self.p["shift"].reshape(3, -1)
        if self.s.span == "all":
            r, z, n = self.n((a + u).ravel()).reshape(3, -1) * gain + shift
            z, n = sigmoid(z), np.tanh(sigmoid(r) * n)
        else:
            if self.s.span == "gate":
                rz = np.stack([self.n(a[0] + u[0]), self.n(a[1] + u[1])])
            else:
                rz = self.n((a[:2] + u[:2]).ravel()).reshape(2, -1)
            r, z = sigmoid(rz * gain[:2] + shift[:2])
            n = np.tanh(self.n(a[2] + r * u[2]) * gain[2] + shift[2])
        return (1 - z) * n + z * h

    def lstm(self, z: Array, c: Array) -> tuple[Array, Array]:
        cell = self.s.cell
        c = sigmoid(z[1]) * c + sigmoid(z[0]) * np.tanh(z[2])
        if self.s.cell_clip is not None:
            c = np.minimum(np.maximum(c, -self.s.cell_clip), self.s.cell_clip)
        inner = c
        if cell is not None:
            inner = self.p["gain_c"] * self.n(c) + self.p["shift_c"]
        h = sigmoid(z[3]) * np.tanh(c if cell == "carried" else inner)
        if "weight_hr" in self.p:
            h = self.p["weight_hr"] @ h
        return h, (inner if cell in ("state", "carried") else c)

    def run(self, xs: Array, h: Array, c: Array, reverse: bool) -> tuple[Array, Array, Array]:
        """Run over (T, I) and return (T, R) and the final states."""
        outputs: dict[int, Array] = {}
        times = range(len(xs))
        for t in reversed(times) if reverse else times:
            h, c = self.step(xs[t], h, c)
            outputs[t] = h
        return np.stack([outputs[t] for t in times]), h, c


def run_layer(
    cell: str,
    parameters: Parameters,
    xs: Array,
    h_0: Array,
    c_0: Array,
    *,
    settings: Any,
    eps: float,
    num_layers: int,
    bidirectional: bool,
    nonlinearity: str = "tanh",
    norm_of: Callable[[Array, str, float], Array] = norm_of,
) -> tuple[Array, Array, Array]:
    """Run a stack over one sequence, (T, I), from states (L * D, R) and (L * D, H)."""
    h_n, c_n, index = [], [], 0
    for layer in range(num_layers):
        outputs = []
        for suffix in (f"_l{layer}", f"_l{layer}_reverse")[: 1 + bidirectional]:
            p = {
                name.removesuffix(suffix): value
                for name, value in parameters.items()
                if name.endswith(suffix)
            }
            twin = Twin(cell, p, settings, eps, nonlinearity, norm_of)
            output, h, c = twin.run(xs, h_0[index], c_0[index], suffix.endswith("reverse"))
            outputs.append(output)
            h_n.append(h)
            c_n.append(c)
            index += 1
        xs = np.concatenate(outputs, axis=-1)
    return xs, np.stack(h_n), np.stack(c_n)
