"""One step of every published cell, in NumPy, written from the formula of its source.

``p`` holds a layer's parameters by their names without suffix; a cell reads only what its source
has. Gates are taken by name, in the order in which the source writes them.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Parameters = Mapping[str, Array]
States = tuple[Array, Array]  # hidden and cell state; the latter means nothing to RNN and GRU

ROWS = {4: {"i": 0, "f": 1, "g": 2, "o": 3}, 3: {"r": 0, "z": 1, "n": 2}}  # torch's order


def s(v: Array) -> Array:
    return 1 / (1 + np.exp(-v))


def N(v: Array, eps: float) -> Array:
    centered = v - v.mean()
    return centered / np.sqrt((centered**2).mean() + eps)


def take(v: Array, gates: str) -> list[Array]:
    """Cut a vector or matrix over all gates into those named, in that order."""
    rows = ROWS[3 if set(gates) <= set("rzn") else 4]
    blocks = np.split(v, len(rows))
    return [blocks[rows[gate]] for gate in gates]


def ba2016_rnn(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    a = p["weight_hh"] @ h + p["weight_ih"] @ x
    return np.tanh(p["gain"] * N(a, eps) + p["bias_hh"]), c


def tfa_rnn(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    net = x @ p["weight_ih"].T + h @ p["weight_hh"].T
    return np.tanh(N(net, eps) * p["gain"] + p["bias_hh"]), c


def ba2016_lstm(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    gates = p["gain_hh"] * N(p["weight_hh"] @ h, eps) + p["shift_ih"]
    gates = gates + p["gain_ih"] * N(p["weight_ih"] @ x, eps) + p["bias_hh"]
    f, i, o, g = take(gates, "fiog")
    c = s(f) * c + s(i) * np.tanh(g)
    return s(o) * np.tanh(p["gain_c"] * N(c, eps) + p["shift_c"]), c


def ba2016_gru(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    # Their z lets the new state in: the pre-activation is the negative of ours.
    gain_x, gain_h = p["gain_ih"], p["gain_hh"]
    from_h = N(np.concatenate(take(p["weight_hh"], "zr")) @ h, eps)
    from_x = N(np.concatenate(take(p["weight_ih"], "zr")) @ x, eps)
    gz, gr = take(gain_h, "zr")
    ez, er = take(gain_x, "zr")
    shift_z, shift_r = (a + b for a, b in zip(*(take(p[k], "zr") for k in SHIFTS), strict=True))
    z = np.concatenate([-gz, gr]) * from_h + np.concatenate([-ez, er]) * from_x
    z, r = np.split(z + np.concatenate([-shift_z, shift_r]), 2)
    from_x = take(gain_x, "n")[0] * N(take(p["weight_ih"], "n")[0] @ x, eps)
    from_h = take(gain_h, "n")[0] * N(take(p["weight_hh"], "n")[0] @ h, eps)
    candidate = np.tanh(
        from_x + take(p["shift_ih"], "n")[0] + s(r) * (from_h + take(p["bias_hh"], "n")[0])
    )
    return (1 - s(z)) * h + s(z) * candidate, c


SHIFTS = ("shift_ih", "bias_hh")


def kiros_lnlstm(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    below = p["gain_ih"] * N(p["weight_ih"] @ x + p["bias_ih"], eps) + p["shift_ih"]
    b2 = p["bias_hh"] - p["bias_ih"]  # its one bias is added once more after the norms
    before = p["gain_hh"] * N(p["weight_hh"] @ h, eps) + b2
    i, f, o, u = take(before + below + p["bias_ih"], "ifog")
    c = s(f) * c + s(i) * np.tanh(u)
    return s(o) * np.tanh(p["gain_c"] * N(c, eps) + p["shift_c"]), c


def kiros_lngru(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    sides = []
    for weight, gain, shift, bias, v in (
        ("weight_ih", "gain_ih", "shift_ih", "bias_ih", x),
        ("weight_hh", "gain_hh", "bias_hh", None, h),
    ):
        product = p[weight] @ v + (0 if bias is None else p[bias])
        ru, new = np.concatenate(take(product, "rz")), take(product, "n")[0]
        ru = np.concatenate(take(p[gain], "rz")) * N(ru, eps) + np.concatenate(take(p[shift], "rz"))
        sides.append((ru, take(p[gain], "n")[0] * N(new, eps) + take(p[shift], "n")[0]))
    (x_, xx_), (preact, preactx) = sides
    r, u = np.split(s(preact + x_), 2)
    return u * h + (1 - u) * np.tanh(preactx * r + xx_), c


def haste_lstm(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    wx, rh = p["weight_ih"] @ x, p["weight_hh"] @ h
    v = p["gain_hh"] * N(rh, eps) + p["gain_ih"] * N(wx, eps) + p["bias_hh"]
    i, g, f, o = take(v, "igfo")
    c = s(f) * c + s(i) * np.tanh(g)
    return s(o) * np.tanh(p["gain_c"] * N(c, eps) + p["shift_c"]), c


def haste_gru(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    wx = take(p["gain_ih"] * N(p["weight_ih"] @ x, eps) + p["shift_ih"], "zrn")
    rh = take(p["gain_hh"] * N(p["weight_hh"] @ h, eps) + p["bias_hh"], "zrn")
    z, r = s(wx[0] + rh[0]), s(wx[1] + rh[1])
    return z * h + (1 - z) * np.tanh(wx[2] + r * rh[2]), c


def fastrnns(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    igates = p["gain_ih"] * N(p["weight_ih"] @ x, eps) + p["shift_ih"]
    hgates = p["gain_hh"] * N(p["weight_hh"] @ h, eps) + p["bias_hh"]
    i, f, g, o = take(igates + hgates, "ifgo")
    c = p["gain_c"] * N(s(f) * c + s(i) * np.tanh(g), eps) + p["shift_c"]
    return s(o) * np.tanh(c), c


def torchaudio(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    gates = p["gain"] * N(p["weight_ih"] @ x + p["weight_hh"] @ h, eps) + p["bias_hh"]
    i, f, g, o = take(gates, "ifgo")
    c = p["gain_c"] * N(s(f) * c + s(i) * np.tanh(g), eps) + p["shift_c"]
    return s(o) * np.tanh(c), c


def gate_by_gate(p: Parameters, product: Array, gates: str, eps: float) -> list[Array]:
    """A norm with gain and shift for each gate."""
    parts = zip(*(take(v, gates) for v in (product, p["gain"], p["bias_hh"])), strict=True)
    return [gain * N(part, eps) + shift for part, gain, shift in parts]


def icefall_lstm(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    product = p["weight_ih"] @ x + p["bias_ih"] + p["weight_hh"] @ h
    i, f, g, o = gate_by_gate(p, product, "ifgo", eps)
    c = p["gain_c"] * N(s(f) * c + s(i) * np.tanh(g), eps) + p["shift_c"]
    return s(o) * np.tanh(c), c


def icefall_gru(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    i_r, i_i, i_n = take(p["weight_ih"] @ x + p["bias_ih"], "rzn")
    h_r, h_i, h_n = take(p["weight_hh"] @ h + p["bias_hh"], "rzn")
    (g_r, g_i, g_n), (b_r, b_i, b_n) = take(p["gain"], "rzn"), take(p["shift"], "rzn")
    reset = s(g_r * N(i_r + h_r, eps) + b_r)
    kept = s(g_i * N(i_i + h_i, eps) + b_i)
    new = np.tanh(g_n * N(i_n + reset * h_n, eps) + b_n)
    return new + kept * (h - new), c


def dreamer_v2(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    kernel = np.concatenate([p["weight_ih"], p["weight_hh"]], axis=1)
    parts = N(kernel @ np.concatenate([x, h]) + p["bias_ih"], eps)
    reset, cand, update = take(parts * p["gain"] + p["shift"], "rnz")
    cand = np.tanh(s(reset) * cand)
    update = s(-update)  # its update lets the new state in; its bias of -1 is part of ours
    return update * cand + (1 - update) * h, c


def tf_contrib(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    kernel = np.concatenate([p["weight_ih"], p["weight_hh"]], axis=1)
    i, j, f, o = gate_by_gate(p, kernel @ np.concatenate([x, h]), "igfo", eps)
    forget = (f - 1.0) + 1.0  # its constant forget bias is part of ours
    c = p["gain_c"] * N(c * s(forget) + s(i) * np.tanh(j), eps) + p["shift_c"]
    return np.tanh(c) * s(o), c


def tfa_lstm(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    z = N(x @ p["weight_ih"].T, eps) * p["gain_ih"] + p["shift_ih"]
    z = z + N(h @ p["weight_hh"].T, eps) * p["gain_hh"] + p["bias_hh"]
    i, f, g, o = take(z, "ifgo")
    c = N(s(f) * c + s(i) * np.tanh(g), eps) * p["gain_c"] + p["shift_c"]
    return s(o) * np.tanh(c), c


def supercell(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    product = np.concatenate([x, h]) @ np.concatenate([p["weight_ih"].T, p["weight_hh"].T])
    i, j, f, o = gate_by_gate(p, product, "igfo", eps)
    c = c * s(f) + s(i) * np.tanh(j)
    return np.tanh(p["gain_c"] * N(c, eps) + p["shift_c"]) * s(o), c


def di_engine(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    gate = p["gain_ih"] * N(x @ p["weight_ih"].T, eps) + p["shift_ih"]
    gate = gate + p["gain_hh"] * N(h @ p["weight_hh"].T, eps) + p["bias_hh"]
    i, f, o, u = take(gate, "ifog")
    c = s(f) * c + s(i) * np.tanh(u)
    return s(o) * np.tanh(c), c


def ba2016_draw(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    z = p["weight_ih"] @ x + p["weight_hh"] @ h + p["bias_hh"]
    i, f, o, g = take(z, "ifog")
    c = s(f) * c + s(i) * np.tanh(g)
    return s(o) * np.tanh(p["gain_c"] * N(c, eps) + p["shift_c"]), c


def kiros_torch7(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    i2h = take(p["weight_ih"] @ x + p["bias_ih"], "ifog")
    h2h = take(p["weight_hh"] @ h + p["bias_hh"], "ifog")
    in_gate, forget_gate, out_gate = (s(a + b) for a, b in zip(i2h[:3], h2h[:3], strict=True))
    c = forget_gate * c + in_gate * np.tanh(i2h[3] + h2h[3])
    return out_gate * np.tanh(p["gain_c"] * N(c, eps) + p["shift_c"]), c


def lingvo_simple(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    xmw = np.concatenate([x, h]) @ np.concatenate([p["weight_ih"].T, p["weight_hh"].T])
    i_i, i_g, f_g, o_g = gate_by_gate(p, xmw, "gifo", eps)
    c = np.clip(s(f_g) * c + s(i_g) * np.tanh(i_i), -10.0, 10.0)
    return s(o_g) * np.tanh(c), c


def returnn(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    lstm_in = N(p["weight_ih"] @ x, eps) * p["gain_ih"] + p["bias_hh"]  # its beta_input_below
    lstm_in = lstm_in + N(p["weight_hh"] @ h, eps) * p["gain_hh"]
    i, j, f, o = take(lstm_in, "igfo")
    c = N(s(f) * c + s(i) * np.tanh(j), eps) * p["gain_c"] + p["shift_c"]
    return s(o) * np.tanh(c), c


def returnn_rnmt_plus(p: Parameters, x: Array, h: Array, c: Array, eps: float) -> States:
    i, j, f, o = gate_by_gate(p, p["weight_ih"] @ x + p["weight_hh"] @ h, "igfo", eps)
    new_c = s(f) * c + s(i) * np.tanh(j)
    return s(o) * np.tanh(new_c), N(new_c, eps) * p["gain_c"] + p["shift_c"]


STEPS: dict[str, Callable[[Parameters, Array, Array, Array, float], States]] = {
    "ba2016_rnn": ba2016_rnn,
    "ba2016_lstm": ba2016_lstm,
    "ba2016_gru": ba2016_gru,
    "ba2016_draw": ba2016_draw,
    "kiros_torch7": kiros_torch7,
    "kiros_lnlstm": kiros_lnlstm,
    "kiros_lngru": kiros_lngru,
    "haste_lstm": haste_lstm,
    "haste_gru": haste_gru,
    "fastrnns": fastrnns,
    "nemo": fastrnns,
    "torchaudio": torchaudio,
    "torchaudio_emformer": torchaudio,
    "icefall_lstm": icefall_lstm,
    "icefall_gru": icefall_gru,
    "tf_contrib": tf_contrib,
    "tfa_lstm": tfa_lstm,
    "tfa_rnn": tfa_rnn,
    "supercell": supercell,
    "hypernetworks": supercell,
    "lingvo_simple": lingvo_simple,
    "returnn": returnn,
    "returnn_rnmt_plus": returnn_rnmt_plus,
    "di_engine": di_engine,
    "dreamer_v2": dreamer_v2,
}
