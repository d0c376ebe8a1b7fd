"""Parameters by other libraries' names into ours, and back, for one direction of one layer.

Names and orders are those of the files that `lnrnn.presets` says were read.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lnrnn.ops.gates import GATES

Tensors = Mapping[str, Tensor]
Translation = Callable[[Tensors], dict[str, Tensor]]


def reorder(v: Tensor, found: str, wanted: str) -> Tensor:
    """Return ``v``, whose first axis is gates in the order ``found``, in the order ``wanted``."""
    blocks = dict(zip(found, v.chunk(len(found)), strict=True))
    return torch.cat([blocks[gate] for gate in wanted])


def renamed(names: Mapping[str, str]) -> tuple[Translation, Translation]:
    """Return the two directions of a translation that only renames: ours to the source's."""

    def read(p: Tensors) -> dict[str, Tensor]:
        return {ours: p[theirs] for ours, theirs in names.items()}

    def write(p: Tensors) -> dict[str, Tensor]:
        return {theirs: p[ours] for ours, theirs in names.items()}

    return read, write


# PyTorch's fastrnns, and NeMo, whose cell is a copy of it.

_FAST_NAMES = {
    "weight_ih": "weight_ih",
    "weight_hh": "weight_hh",
    "gain_ih": "layernorm_i.weight",
    "shift_ih": "layernorm_i.bias",
    "gain_hh": "layernorm_h.weight",
    "bias_hh": "layernorm_h.bias",
    "gain_c": "layernorm_c.weight",
    "shift_c": "layernorm_c.bias",
}
FAST_SHAPES = {
    "weight_ih": "4H I",
    "weight_hh": "4H H",
    "layernorm_i.weight": "4H",
    "layernorm_i.bias": "4H",
    "layernorm_h.weight": "4H",
    "layernorm_h.bias": "4H",
    "layernorm_c.weight": "H",
    "layernorm_c.bias": "H",
}
fast_read, fast_write = renamed(_FAST_NAMES)

# torchaudio

audio_read, audio_write = renamed(
    {
        "weight_ih": "x2g.weight",
        "weight_hh": "p2g.weight",
        "gain": "g_norm.weight",
        "bias_hh": "g_norm.bias",
        "gain_c": "c_norm.weight",
        "shift_c": "c_norm.bias",
    }
)

# icefall: a norm for each gate, by name; both biases are inside, where only their sum counts.

ICEFALL_GATES = ("layernorm_i", "layernorm_f", "layernorm_cx", "layernorm_o")


def icefall_read(p: Tensors) -> dict[str, Tensor]:
    """Return our parameters for those of icefall's LSTM."""
    ours = {name: p[name] for name in ("weight_ih", "weight_hh", "weight_hr") if name in p}
    if "bias_ih" in p:
        ours["bias_ih"] = p["bias_ih"] + p["bias_hh"]
    return ours | {
        "gain": torch.cat([p[f"{norm}.weight"] for norm in ICEFALL_GATES]),
        "bias_hh": torch.cat([p[f"{norm}.bias"] for norm in ICEFALL_GATES]),
        "gain_c": p["layernorm_cy.weight"],
        "shift_c": p["layernorm_cy.bias"],
    }


def icefall_write(p: Tensors) -> dict[str, Tensor]:
    """Return the parameters of icefall's LSTM for ours."""
    names = ("weight_ih", "weight_hh", "weight_hr", "bias_ih")
    theirs = {name: p[name] for name in names if name in p}
    theirs["bias_hh"] = torch.zeros_like(p["bias_ih"])
    gates = zip(ICEFALL_GATES, p["gain"].chunk(4), p["bias_hh"].chunk(4), strict=True)
    for norm, gain, shift in (*gates, ("layernorm_cy", p["gain_c"], p["shift_c"])):
        theirs |= {f"{norm}.weight": gain, f"{norm}.bias": shift}
    return theirs


ICEFALL_GRU_SHAPES = {"weight_ih": "3H I", "weight_hh": "3H H", "bias_ih": "3H", "bias_hh": "3H"}
ICEFALL_GRU_GATES = ("layernorm_r", "layernorm_i", "layernorm_n")


def icefall_gru_read(p: Tensors) -> dict[str, Tensor]:
    """Return our parameters for those of icefall's GRU."""
    ours = {name: p[name] for name in ICEFALL_GRU_SHAPES if name in p}
    ours["gain"] = torch.cat([p[f"{norm}.weight"] for norm in ICEFALL_GRU_GATES])
    return ours | {"shift": torch.cat([p[f"{norm}.bias"] for norm in ICEFALL_GRU_GATES])}


def icefall_gru_write(p: Tensors) -> dict[str, Tensor]:
    """Return the parameters of icefall's GRU for ours."""
    theirs = {name: p[name] for name in ICEFALL_GRU_SHAPES}
    gates = zip(ICEFALL_GRU_GATES, p["gain"].chunk(3), p["shift"].chunk(3), strict=True)
    for norm, gain, shift in gates:
        theirs |= {f"{norm}.weight": gain, f"{norm}.bias": shift}
    return theirs


# haste: matrices read from the left, and both gains in one.


def haste_read(p: Tensors, order: str) -> dict[str, Tensor]:
    """Return our parameters for those of haste's cells, by the order of its gates."""

    def gates(v: Tensor) -> Tensor:
        return reorder(v, order, GATES["lstm" if len(order) == 4 else "gru"])

    ours = {
        "weight_ih": gates(p["kernel"].T),
        "weight_hh": gates(p["recurrent_kernel"].T),
        "gain_ih": gates(p["gamma"][0]),
        "gain_hh": gates(p["gamma"][1]),
    }
    if "recurrent_bias" in p:
        return ours | {"shift_ih": gates(p["bias"]), "bias_hh": gates(p["recurrent_bias"])}
    return ours | {"bias_hh": gates(p["bias"]), "gain_c": p["gamma_h"], "shift_c": p["beta_h"]}


def haste_write(p: Tensors, order: str) -> dict[str, Tensor]:
    """Return the parameters of haste's cells, by the order of its gates for ours."""

    def gates(v: Tensor) -> Tensor:
        return reorder(v, GATES["lstm" if len(order) == 4 else "gru"], order)

    theirs = {
        "kernel": gates(p["weight_ih"]).T,
        "recurrent_kernel": gates(p["weight_hh"]).T,
        "gamma": torch.stack([gates(p["gain_ih"]), gates(p["gain_hh"])]),
    }
    if "gain_c" in p:
        return theirs | {
            "bias": gates(p["bias_hh"]),
            "gamma_h": p["gain_c"],
            "beta_h": p["shift_c"],
        }
    return theirs | {"bias": gates(p["shift_ih"]), "recurrent_bias": gates(p["bias_hh"])}


# TensorFlow Addons: gates i, f, c, o, which is torch's order; a bias besides the norms' shifts.


def addons_lstm_read(p: Tensors) -> dict[str, Tensor]:
    """Return our parameters for those of TensorFlow Addons' LSTM."""
    shift = p["recurrent_norm/beta"]
    return {
        "weight_ih": p["kernel"].T,
        "weight_hh": p["recurrent_kernel"].T,
        "gain_ih": p["kernel_norm/gamma"],
        "shift_ih": p["kernel_norm/beta"],
        "gain_hh": p["recurrent_norm/gamma"],
        "bias_hh": shift + p["bias"] if "bias" in p else shift,
        "gain_c": p["state_norm/gamma"],
        "shift_c": p["state_norm/beta"],
    }


def addons_lstm_write(p: Tensors) -> dict[str, Tensor]:
    """Return the parameters of TensorFlow Addons' LSTM for ours."""
    return {
        "kernel": p["weight_ih"].T,
        "recurrent_kernel": p["weight_hh"].T,
        "bias": torch.zeros_like(p["bias_hh"]),
        "kernel_norm/gamma": p["gain_ih"],
        "kernel_norm/beta": p["shift_ih"],
        "recurrent_norm/gamma": p["gain_hh"],
        "recurrent_norm/beta": p["bias_hh"],
        "state_norm/gamma": p["gain_c"],
        "state_norm/beta": p["shift_c"],
    }


def addons_rnn_read(p: Tensors) -> dict[str, Tensor]:
    """Return our parameters for those of TensorFlow Addons' RNN."""
    ours = {"weight_ih": p["kernel"].T, "weight_hh": p["recurrent_kernel"].T}
    ours["gain"] = p["layernorm/gamma"]
    return ours | ({"bias_hh": p["bias"]} if "bias" in p else {})


def addons_rnn_write(p: Tensors) -> dict[str, Tensor]:
    """Return the parameters of TensorFlow Addons' RNN for ours."""
    theirs = {"kernel": p["weight_ih"].T, "recurrent_kernel": p["weight_hh"].T}
    return theirs | {"layernorm/gamma": p["gain"], "bias": p["bias_hh"]}


# tf.contrib: one matrix for [x; h], gates i, j, f, o, and a forget bias that is no variable.

CONTRIB_GATES = dict(zip("igfo", ("input", "transform", "forget", "output"), strict=True))
CONTRIB_FORGET_BIAS = 1.0


def contrib_read(p: Tensors) -> dict[str, Tensor]:
    """Return our parameters for those of tf.contrib's LSTM."""
    hidden_size = len(p["state/gamma"])
    weight = reorder(p["kernel"].T, "igfo", GATES["lstm"])
    ours = {"weight_ih": weight[:, :-hidden_size], "weight_hh": weight[:, -hidden_size:]}
    for name, key in {"gain": "gamma", "bias_hh": "beta"}.items():
        ours[name] = torch.cat([p[f"{CONTRIB_GATES[gate]}/{key}"] for gate in GATES["lstm"]])
    ours["bias_hh"][hidden_size : 2 * hidden_size] += CONTRIB_FORGET_BIAS
    return ours | {"gain_c": p["state/gamma"], "shift_c": p["state/beta"]}


CONSTANT_FORGET_BIAS = (
    "its forget bias is a constant outside of its variables, so that what is written would come "
    "back rounded"
)

# supercell: as tf.contrib, with a matrix for each side and one scope a norm.


def supercell_read(p: Tensors) -> dict[str, Tensor]:
    """Return our parameters for those of supercell's LSTM."""
    hidden_size = len(p["W_hh"])
    ours = {
        name: reorder(p[key].T, "igfo", GATES["lstm"])
        for name, key in {"weight_ih": "W_xh", "weight_hh": "W_hh"}.items()
    }
    for name, key in {"gain": "alpha", "bias_hh": "bias"}.items():
        ours[name] = torch.cat([p[f"ln_{gate}/layer_norm_{key}"] for gate in "ifjo"])
    ours["bias_hh"][hidden_size : 2 * hidden_size] += CONTRIB_FORGET_BIAS
    gain_c, shift_c = (p[f"ln_c/layer_norm_{key}"] for key in ("alpha", "bias"))
    return ours | {"gain_c": gain_c, "shift_c": shift_c}


# Lingvo: one matrix for [x; h], gates g, i, f, o. A forget_gate_bias is no variable: 0 by default.


def lingvo_read(p: Tensors) -> dict[str, Tensor]:
    """Return our parameters for those of Lingvo's LSTM."""
    weight = reorder(p["wm"].T, "gifo", GATES["lstm"])
    hidden_size = len(weight) // 4
    ours = {"weight_ih": weight[:, :-hidden_size], "weight_hh": weight[:, -hidden_size:]}
    for name, key in {"gain": "ln_scale", "bias_hh": "b"}.items():
        if key in p:
            ours[name] = reorder(p[key], "gifo", GATES["lstm"])
    return ours


def lingvo_write(p: Tensors) -> dict[str, Tensor]:
    """Return the parameters of Lingvo's LSTM for ours."""
    ours = {"wm": torch.cat([p["weight_ih"], p["weight_hh"]], 1)}
    ours |= {"b": p["bias_hh"], "ln_scale": p["gain"]}
    theirs = {key: reorder(value, GATES["lstm"], "gifo") for key, value in ours.items()}
    return theirs | {"wm": theirs["wm"].T}
