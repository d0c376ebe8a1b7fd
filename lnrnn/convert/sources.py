"""How other libraries name, order and shape the parameters of their layer-normalized cells.

Names and orders are those of the files that `lnrnn.presets` says were read. Each source is read and
written for one direction of one layer; where layers and directions stand is its ``layouts``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lnrnn.ops.gates import GATES

Tensors = Mapping[str, Tensor]
Translation = Callable[[Tensors], dict[str, Tensor]]


@dataclass(frozen=True)
class Source:
    """One library's cell.

    Attributes:
        preset: The preset that computes the same.
        shapes: The shape behind each key of one direction, in I (input), H (hidden) and R (hidden
            state, where it may be projected); sizes are learned from the first keys that have them.
        layouts: What may stand before those keys, ``{layer}`` and ``{direction}`` counting from 0;
            the first one that holds the layer is written.
        read: From the source's keys to our names, without what the source lacks.
        write: From our names to the source's keys, or a sentence that says why it cannot be.
        optional: Groups of keys that are there together or not at all.
        endings: What each key may end in; the first is written.
        eps: Whether the source's eps is a "constant", an "argument" with a default, or "unknown",
            since it has no usual value.
    """

    preset: str
    shapes: Mapping[str, str]
    layouts: tuple[str, ...]
    read: Translation
    write: Translation | str
    optional: tuple[tuple[str, ...], ...] = ()
    endings: tuple[str, ...] = ("",)
    eps: Literal["constant", "argument", "unknown"] = "constant"


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
_FAST_SHAPES = {
    "weight_ih": "4H I",
    "weight_hh": "4H H",
    "layernorm_i.weight": "4H",
    "layernorm_i.bias": "4H",
    "layernorm_h.weight": "4H",
    "layernorm_h.bias": "4H",
    "layernorm_c.weight": "H",
    "layernorm_c.bias": "H",
}
_fast_read, _fast_write = renamed(_FAST_NAMES)

# torchaudio

_audio_read, _audio_write = renamed(
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

_ICEFALL_GATES = ("layernorm_i", "layernorm_f", "layernorm_cx", "layernorm_o")


def _icefall_read(p: Tensors) -> dict[str, Tensor]:
    ours = {name: p[name] for name in ("weight_ih", "weight_hh", "weight_hr") if name in p}
    if "bias_ih" in p:
        ours["bias_ih"] = p["bias_ih"] + p["bias_hh"]
    return ours | {
        "gain": torch.cat([p[f"{norm}.weight"] for norm in _ICEFALL_GATES]),
        "bias_hh": torch.cat([p[f"{norm}.bias"] for norm in _ICEFALL_GATES]),
        "gain_c": p["layernorm_cy.weight"],
        "shift_c": p["layernorm_cy.bias"],
    }


def _icefall_write(p: Tensors) -> dict[str, Tensor]:
    names = ("weight_ih", "weight_hh", "weight_hr", "bias_ih")
    theirs = {name: p[name] for name in names if name in p}
    theirs["bias_hh"] = torch.zeros_like(p["bias_ih"])
    gates = zip(_ICEFALL_GATES, p["gain"].chunk(4), p["bias_hh"].chunk(4), strict=True)
    for norm, gain, shift in (*gates, ("layernorm_cy", p["gain_c"], p["shift_c"])):
        theirs |= {f"{norm}.weight": gain, f"{norm}.bias": shift}
    return theirs


_ICEFALL_GRU_SHAPES = {"weight_ih": "3H I", "weight_hh": "3H H", "bias_ih": "3H", "bias_hh": "3H"}
_ICEFALL_GRU_GATES = ("layernorm_r", "layernorm_i", "layernorm_n")


def _icefall_gru_read(p: Tensors) -> dict[str, Tensor]:
    ours = {name: p[name] for name in _ICEFALL_GRU_SHAPES if name in p}
    ours["gain"] = torch.cat([p[f"{norm}.weight"] for norm in _ICEFALL_GRU_GATES])
    return ours | {"shift": torch.cat([p[f"{norm}.bias"] for norm in _ICEFALL_GRU_GATES])}


def _icefall_gru_write(p: Tensors) -> dict[str, Tensor]:
    theirs = {name: p[name] for name in _ICEFALL_GRU_SHAPES}
    gates = zip(_ICEFALL_GRU_GATES, p["gain"].chunk(3), p["shift"].chunk(3), strict=True)
    for norm, gain, shift in gates:
        theirs |= {f"{norm}.weight": gain, f"{norm}.bias": shift}
    return theirs


# haste: matrices read from the left, and both gains in one.


def _haste_read(p: Tensors, order: str) -> dict[str, Tensor]:
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


def _haste_write(p: Tensors, order: str) -> dict[str, Tensor]:
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


def _addons_lstm_read(p: Tensors) -> dict[str, Tensor]:
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


def _addons_lstm_write(p: Tensors) -> dict[str, Tensor]:
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


def _addons_rnn_read(p: Tensors) -> dict[str, Tensor]:
    ours = {"weight_ih": p["kernel"].T, "weight_hh": p["recurrent_kernel"].T}
    ours["gain"] = p["layernorm/gamma"]
    return ours | ({"bias_hh": p["bias"]} if "bias" in p else {})


def _addons_rnn_write(p: Tensors) -> dict[str, Tensor]:
    theirs = {"kernel": p["weight_ih"].T, "recurrent_kernel": p["weight_hh"].T}
    return theirs | {"layernorm/gamma": p["gain"], "bias": p["bias_hh"]}


# tf.contrib: one matrix for [x; h], gates i, j, f, o, and a forget bias that is no variable.

_CONTRIB_GATES = dict(zip("igfo", ("input", "transform", "forget", "output"), strict=True))
CONTRIB_FORGET_BIAS = 1.0


def _contrib_read(p: Tensors) -> dict[str, Tensor]:
    hidden_size = len(p["state/gamma"])
    weight = reorder(p["kernel"].T, "igfo", GATES["lstm"])
    ours = {"weight_ih": weight[:, :-hidden_size], "weight_hh": weight[:, -hidden_size:]}
    for name, key in {"gain": "gamma", "bias_hh": "beta"}.items():
        ours[name] = torch.cat([p[f"{_CONTRIB_GATES[gate]}/{key}"] for gate in GATES["lstm"]])
    ours["bias_hh"][hidden_size : 2 * hidden_size] += CONTRIB_FORGET_BIAS
    return ours | {"gain_c": p["state/gamma"], "shift_c": p["state/beta"]}


_CONSTANT_FORGET_BIAS = (
    "its forget bias is a constant outside of its variables, so that what is written would come "
    "back rounded"
)

# supercell: as tf.contrib, with a matrix for each side and one scope a norm.


def _supercell_read(p: Tensors) -> dict[str, Tensor]:
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


def _lingvo_read(p: Tensors) -> dict[str, Tensor]:
    weight = reorder(p["wm"].T, "gifo", GATES["lstm"])
    hidden_size = len(weight) // 4
    ours = {"weight_ih": weight[:, :-hidden_size], "weight_hh": weight[:, -hidden_size:]}
    for name, key in {"gain": "ln_scale", "bias_hh": "b"}.items():
        if key in p:
            ours[name] = reorder(p[key], "gifo", GATES["lstm"])
    return ours


def _lingvo_write(p: Tensors) -> dict[str, Tensor]:
    ours = {"wm": torch.cat([p["weight_ih"], p["weight_hh"]], 1)}
    ours |= {"b": p["bias_hh"], "ln_scale": p["gain"]}
    theirs = {key: reorder(value, GATES["lstm"], "gifo") for key, value in ours.items()}
    return theirs | {"wm": theirs["wm"].T}


_CELL = "layer_norm_basic_lstm_cell/"
_KERAS_ENDINGS = ("/.ATTRIBUTES/VARIABLE_VALUE", "", ":0")
_KERAS = ("cell/", "cell/cells/{layer}/", "layer_with_weights-{layer}/cell/", "")
_FAST = ("layers.{layer}.cell.", "cell.", "{layer}.", "")
_FAST_BOTH_WAYS = ("layers.{layer}.directions.{direction}.cell.", "directions.{direction}.cell.")

SOURCES: dict[str, Source] = {
    "fastrnns": Source(
        "fastrnns", _FAST_SHAPES, (*_FAST, *_FAST_BOTH_WAYS), _fast_read, _fast_write
    ),
    "nemo": Source("nemo", _FAST_SHAPES, _FAST, _fast_read, _fast_write),
    "torchaudio": Source(
        "torchaudio",
        {
            "x2g.weight": "4H I",
            "p2g.weight": "4H H",
            "g_norm.weight": "4H",
            "g_norm.bias": "4H",
            "c_norm.weight": "H",
            "c_norm.bias": "H",
        },
        ("lstm_layers.{layer}.", "{layer}.", ""),
        _audio_read,
        _audio_write,
        eps="unknown",
    ),
    "icefall_lstm": Source(
        "icefall_lstm",
        {
            "weight_ih": "4H I",
            "weight_hh": "4H R",
            "bias_ih": "4H",
            "bias_hh": "4H",
            "weight_hr": "R H",
            **{
                f"{norm}.{kind}": "H"
                for norm in (*_ICEFALL_GATES, "layernorm_cy")
                for kind in ("weight", "bias")
            },
        },
        _FAST,
        _icefall_read,
        _icefall_write,
        optional=(("bias_ih", "bias_hh"), ("weight_hr",)),
    ),
    "icefall_gru": Source(
        "icefall_gru",
        _ICEFALL_GRU_SHAPES
        | {f"{norm}.{kind}": "H" for norm in _ICEFALL_GRU_GATES for kind in ("weight", "bias")},
        _FAST,
        _icefall_gru_read,
        _icefall_gru_write,
        optional=(("bias_ih", "bias_hh"),),
    ),
    "haste_lstm": Source(
        "haste_lstm",
        {
            "kernel": "I 4H",
            "recurrent_kernel": "H 4H",
            "bias": "4H",
            "gamma": "2 4H",
            "gamma_h": "H",
            "beta_h": "H",
        },
        ("", "{layer}."),
        lambda p: _haste_read(p, "igfo"),
        lambda p: _haste_write(p, "igfo"),
    ),
    "haste_gru": Source(
        "haste_gru",
        {
            "kernel": "I 3H",
            "recurrent_kernel": "H 3H",
            "bias": "3H",
            "recurrent_bias": "3H",
            "gamma": "2 3H",
        },
        ("", "{layer}."),
        lambda p: _haste_read(p, "zrn"),
        lambda p: _haste_write(p, "zrn"),
    ),
    "tfa_lstm": Source(
        "tfa_lstm",
        {
            "kernel": "I 4H",
            "recurrent_kernel": "H 4H",
            "bias": "4H",
            "kernel_norm/gamma": "4H",
            "kernel_norm/beta": "4H",
            "recurrent_norm/gamma": "4H",
            "recurrent_norm/beta": "4H",
            "state_norm/gamma": "H",
            "state_norm/beta": "H",
        },
        _KERAS,
        _addons_lstm_read,
        _addons_lstm_write,
        optional=(("bias",),),
        endings=_KERAS_ENDINGS,
        eps="argument",
    ),
    "tfa_rnn": Source(
        "tfa_rnn",
        {"kernel": "I H", "recurrent_kernel": "H H", "layernorm/gamma": "H", "bias": "H"},
        _KERAS,
        _addons_rnn_read,
        _addons_rnn_write,
        optional=(("bias",),),
        endings=_KERAS_ENDINGS,
        eps="argument",
    ),
    "tf_contrib": Source(
        "tf_contrib",
        {
            "state/gamma": "H",
            "state/beta": "H",
            "kernel": "I+H 4H",
            **{
                f"{gate}/{kind}": "H"
                for gate in _CONTRIB_GATES.values()
                for kind in ("gamma", "beta")
            },
        },
        (f"rnn/{_CELL}", f"rnn/multi_rnn_cell/cell_{{layer}}/{_CELL}", _CELL, ""),
        _contrib_read,
        _CONSTANT_FORGET_BIAS,
        endings=("", ":0"),
    ),
    "supercell": Source(
        "supercell",
        {
            "W_hh": "H 4H",
            "W_xh": "I 4H",
            **{
                f"ln_{norm}/layer_norm_{kind}": "H"
                for norm in "ijfoc"
                for kind in ("alpha", "bias")
            },
        },
        (
            "RNN/LayerNormLSTMCell/",
            "RNN/MultiRNNCell/Cell{layer}/LayerNormLSTMCell/",
            "LayerNormLSTMCell/",
            "",
        ),
        _supercell_read,
        _CONSTANT_FORGET_BIAS,
        endings=("", ":0"),
    ),
    "lingvo_simple": Source(
        "lingvo_simple",
        {"ln_scale": "4H", "wm": "I+H 4H", "b": "4H"},
        ("", "{layer}/"),
        _lingvo_read,
        _lingvo_write,
        optional=(("b",),),
        endings=("/var", "", "/var:0"),
        eps="argument",
    ),
}
