"""How other libraries name, order and shape the parameters of their layer-normalized cells.

Names and orders are those of the files that `lnrnn.presets` says were read. Each source is read and
written for one direction of one layer; where layers and directions stand is its ``layouts``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lnrnn.convert import translations
from lnrnn.convert.translations import Translation


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
        zoneout: Whether its cell has zoneout of h, which acts in evaluation too.
    """

    preset: str
    shapes: Mapping[str, str]
    layouts: tuple[str, ...]
    read: Translation
    write: Translation | str
    optional: tuple[tuple[str, ...], ...] = ()
    endings: tuple[str, ...] = ("",)
    eps: Literal["constant", "argument", "unknown"] = "constant"
    zoneout: bool = False


_CELL = "layer_norm_basic_lstm_cell/"
_KERAS_ENDINGS = ("/.ATTRIBUTES/VARIABLE_VALUE", "", ":0")
_KERAS = ("cell/", "cell/cells/{layer}/", "layer_with_weights-{layer}/cell/", "")
_FAST = ("layers.{layer}.cell.", "cell.", "{layer}.", "")
_FAST_BOTH_WAYS = ("layers.{layer}.directions.{direction}.cell.", "directions.{direction}.cell.")

SOURCES: dict[str, Source] = {
    "fastrnns": Source(
        "fastrnns",
        translations.FAST_SHAPES,
        (*_FAST, *_FAST_BOTH_WAYS),
        translations.fast_read,
        translations.fast_write,
    ),
    "nemo": Source(
        "nemo", translations.FAST_SHAPES, _FAST, translations.fast_read, translations.fast_write
    ),
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
        translations.audio_read,
        translations.audio_write,
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
                for norm in (*translations.ICEFALL_GATES, "layernorm_cy")
                for kind in ("weight", "bias")
            },
        },
        _FAST,
        translations.icefall_read,
        translations.icefall_write,
        optional=(("bias_ih", "bias_hh"), ("weight_hr",)),
    ),
    "icefall_gru": Source(
        "icefall_gru",
        translations.ICEFALL_GRU_SHAPES
        | {
            f"{norm}.{kind}": "H"
            for norm in translations.ICEFALL_GRU_GATES
            for kind in ("weight", "bias")
        },
        _FAST,
        translations.icefall_gru_read,
        translations.icefall_gru_write,
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
        lambda p: translations.haste_read(p, "igfo"),
        lambda p: translations.haste_write(p, "igfo"),
        zoneout=True,
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
        lambda p: translations.haste_read(p, "zrn"),
        lambda p: translations.haste_write(p, "zrn"),
        zoneout=True,
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
        translations.addons_lstm_read,
        translations.addons_lstm_write,
        optional=(("bias",),),
        endings=_KERAS_ENDINGS,
        eps="argument",
    ),
    "tfa_rnn": Source(
        "tfa_rnn",
        {"kernel": "I H", "recurrent_kernel": "H H", "layernorm/gamma": "H", "bias": "H"},
        _KERAS,
        translations.addons_rnn_read,
        translations.addons_rnn_write,
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
                for gate in translations.CONTRIB_GATES.values()
                for kind in ("gamma", "beta")
            },
        },
        (f"rnn/{_CELL}", f"rnn/multi_rnn_cell/cell_{{layer}}/{_CELL}", _CELL, ""),
        translations.contrib_read,
        translations.CONSTANT_FORGET_BIAS,
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
        translations.supercell_read,
        translations.CONSTANT_FORGET_BIAS,
        endings=("", ":0"),
    ),
    "lingvo_simple": Source(
        "lingvo_simple",
        {"ln_scale": "4H", "wm": "I+H 4H", "b": "4H"},
        ("", "{layer}/"),
        translations.lingvo_read,
        translations.lingvo_write,
        optional=(("b",),),
        endings=("/var", "", "/var:0"),
        eps="argument",
    ),
}
