"""Published cells by name: which norm, where biases start, and what is held at zero.

"LN-LSTM" names many functions. A preset is one of them, as its source computes it, so that a layer
can be had by the source's name: ``lnrnn.LSTM.from_preset("haste_lstm", 10, 20)``.
"""

from typing import Any, ClassVar, Self

from torch import nn

from lnrnn.nn.norm import CellNorm
from lnrnn.nn.preset import Preset, Presets

_STATE = CellNorm(cell="state")
_GATES_STATE = CellNorm(inputs="joint", span="gate", cell="state")
_TORCHAUDIO = "pytorch/audio, src/torchaudio/models/rnnt.py"
_KIROS = "ryankiros/layer-norm, layers.py"
_ADDONS = "tensorflow/addons, tensorflow_addons/rnn/"
_SUPERCELL = "hardmaru/supercell, supercell.py, LayerNormLSTMCell"
_RETURNN = "rwth-i6/returnn, returnn/tf/layers/rec.py, LayerNormVariantsLSTMCell"

# In the notes: N is the norm without gain and shift; a gain multiplies it (g * N(v)); W reads the
# input and R the state; s is the logistic function. Versions are commits, or releases where dotted.
presets = Presets(
    Preset(
        name="ba2016_rnn",
        cell="rnn",
        norm=CellNorm(),
        source="arXiv:1607.06450, equation 4",
        version="v1",
        note="h' = f(g * N(W x + R h) + b)",
    ),
    Preset(
        name="ba2016_lstm",
        cell="lstm",
        norm=CellNorm(),
        source="arXiv:1607.06450, supplement; lmnt-com/haste, issue 1",
        version="v1",
        note="i, f, o, u = g1 * N(R h) + b1 + g2 * N(W x) + b2 + b; c' = s(f) c + s(i) tanh(u); "
        "h' = s(o) tanh(g3 * N(c') + b3)",
    ),
    Preset(
        name="ba2016_gru",
        cell="gru",
        norm=CellNorm(),
        source="arXiv:1607.06450, supplement",
        version="v1",
        note="z, r = g1 * N(R h) + b1 + g2 * N(W x) + b2; u = tanh(g3 * N(W_u x) + b3 + "
        "s(r) (g4 * N(R_u h) + b4)); h' = (1 - s(z)) h + s(z) u: its z is torch's -z",
    ),
    Preset(
        name="ba2016_draw",
        cell="lstm",
        norm=CellNorm(inputs=None),
        source="arXiv:1607.06450, section on DRAW; ryankiros/layer-norm, torch_modules",
        version="v1",
        note="i, f, o, g = W x + R h + b: no norm on the gates; h' = s(o) tanh(g_c * N(c') + b_c)",
    ),
    Preset(
        name="kiros_torch7",
        cell="lstm",
        norm=CellNorm(inputs=None),
        zeros=(),
        bias_start=None,
        source="ryankiros/layer-norm, torch_modules/LSTM_LN.lua",
        version="807656e",
        note="i, f, o, g = W x + b + R h + b'; h' = s(o) tanh(g_c * N(c') + b_c); its own N adds "
        "eps to the standard deviation, outside of the root",
    ),
    Preset(
        name="kiros_lnlstm",
        source=f"{_KIROS}, lnlstm_layer",
        version="d415153",
        cell="lstm",
        norm=CellNorm(),
        zeros=(),
        note="i, f, o, u = s2 * N(U h) + b2 + s1 * N(W x + b) + b1 + b: one b, inside and after; "
        "h' = s(o) tanh(s3 * N(c') + b3); its b starts at 0",
    ),
    Preset(
        name="kiros_lngru",
        source=f"{_KIROS}, lngru_layer",
        version="d415153",
        cell="gru",
        norm=CellNorm(),
        zeros=(),
        note="r, u = s3 * N(U h) + b3 + s1 * N(W x + b) + b1; n = tanh((s4 * N(Ux h) + b4) s(r) + "
        "s2 * N(Wx x + bx) + b2); h' = s(u) h + (1 - s(u)) n; b and bx start at 0",
    ),
    Preset(
        name="haste_lstm",
        cell="lstm",
        norm=CellNorm(),
        zeros=("bias_ih", "shift_ih"),
        forget_bias=1.0,
        source="lmnt-com/haste, frameworks/pytorch/layer_norm_lstm.py",
        version="440d57f",
        note="i, g, f, o = g0 * N(W x) + g1 * N(R h) + b; h' = s(o) tanh(g_h * N(c') + b_h)",
    ),
    Preset(
        name="haste_gru",
        cell="gru",
        norm=CellNorm(span="all"),
        source="lmnt-com/haste, frameworks/pytorch/layer_norm_gru.py",
        version="440d57f",
        note="z, r, n: a = g0 * N(W x) + b, u = g1 * N(R h) + b_r, each N over 3H; "
        "n = tanh(a_n + s(r) u_n); h' = s(z) h + (1 - s(z)) n",
    ),
    Preset(
        name="fastrnns",
        cell="lstm",
        norm=_STATE,
        source="pytorch/pytorch, benchmarks/fastrnns/custom_lstms.py, LayerNormLSTMCell",
        version="02ed725",
        note="i, f, g, o = LN(W x) + LN(R h); c' = LN(s(f) c + s(i) tanh(g)), carried; "
        "h' = s(o) tanh(c'); its weights are drawn from N(0, 1)",
    ),
    Preset(
        name="nemo",
        cell="lstm",
        norm=_STATE,
        bias_start=None,
        forget_bias=1.0,
        source="NVIDIA-NeMo/NeMo, nemo/collections/common/parts/rnn.py, LayerNormLSTMCell",
        version="32c0374",
        note="as fastrnns; its gains and shifts are drawn from U(-1/sqrt(H), 1/sqrt(H)) too",
    ),
    Preset(
        name="torchaudio",
        cell="lstm",
        norm=CellNorm(inputs="joint", cell="state"),
        source=f"{_TORCHAUDIO}, _CustomLSTM(layer_norm=True)",
        version="2.9.1",
        note="i, f, g, o = LN(W x + R h) over 4H; c' = LN(s(f) c + s(i) tanh(g)), carried; "
        "h' = s(o) tanh(c')",
    ),
    Preset(
        name="torchaudio_emformer",
        cell="lstm",
        norm=CellNorm(inputs="joint", cell="state"),
        eps=1e-3,
        source=f"{_TORCHAUDIO}, emformer_rnnt_base",
        version="2.9.1",
        note="as torchaudio, with the eps of emformer_rnnt_base",
    ),
    Preset(
        name="icefall_lstm",
        cell="lstm",
        norm=_GATES_STATE,
        zeros=(),
        source="k2-fsa/icefall, egs/librispeech/ASR/transducer/rnn.py, LayerNormLSTMCell",
        version="f46c436",
        note="i, f, g, o = LN(W x + b + R h + b'), one LN a gate; c' = LN(...), carried; its "
        "forget bias of 1 stands inside a gate's norm, which takes it away again",
    ),
    Preset(
        name="icefall_gru",
        cell="gru",
        norm=CellNorm(inputs="joint", span="gate"),
        zeros=(),
        source="k2-fsa/icefall, egs/librispeech/ASR/transducer/rnn.py, LayerNormGRUCell",
        version="f46c436",
        note="r, z = s(LN(a + u)), n = tanh(LN(a_n + r u_n)), one LN a gate, a = W x + b, "
        "u = R h + b'; its gains and shifts are drawn from U(-1/sqrt(H), 1/sqrt(H)) too",
    ),
    Preset(
        name="tf_contrib",
        cell="lstm",
        norm=_GATES_STATE,
        eps=1e-12,
        forget_bias=1.0,
        source="tensorflow/tensorflow, tensorflow/contrib/rnn/python/ops/rnn_cell.py, "
        "LayerNormBasicLSTMCell",
        version="000474b",
        note="i, j, f, o = LN([x; h] W), one LN a gate; c' = LN(s(f + 1) c + s(i) tanh(j)), "
        "carried; h' = s(o) tanh(c')",
    ),
    Preset(
        name="tfa_lstm",
        cell="lstm",
        norm=_STATE,
        eps=1e-3,
        forget_bias=1.0,
        source=f"{_ADDONS}layer_norm_lstm_cell.py, LayerNormLSTMCell",
        version="0.23",
        note="i, f, g, o = LN(W x) + LN(R h) + b; c' = LN(s(f) c + s(i) tanh(g)), carried",
    ),
    Preset(
        name="tfa_rnn",
        cell="rnn",
        norm=CellNorm(),
        source=f"{_ADDONS}layer_norm_simple_rnn_cell.py, LayerNormSimpleRNNCell",
        version="0.23",
        note="h' = tanh(g * N(W x + R h) + b)",
    ),
    Preset(
        name="supercell",
        cell="lstm",
        norm=CellNorm(inputs="joint", span="gate"),
        eps=1e-3,
        forget_bias=1.0,
        source=_SUPERCELL,
        version="cc34bd1",
        note="i, j, f, o = LN([x; h] W), one LN a gate; c' = s(f + 1) c + s(i) tanh(j); "
        "h' = s(o) tanh(LN(c')); also the cell inside Ha's hypernetworks",
    ),
    Preset(
        name="hypernetworks",
        cell="lstm",
        norm=CellNorm(inputs="joint", span="gate"),
        eps=1e-3,
        forget_bias=1.0,
        source=f"arXiv:1609.09106, layer norm LSTM, by its author's code: {_SUPERCELL}",
        version="cc34bd1",
        note="as supercell, without its recurrent dropout of 0.1; not the hypernetwork, another "
        "cell, around it",
    ),
    Preset(
        name="lingvo_simple",
        cell="lstm",
        norm=CellNorm(inputs="joint", span="gate", cell=None, cell_clip=10.0),
        eps=1e-8,
        source="tensorflow/lingvo, lingvo/core/rnn_cell.py, LayerNormalizedLSTMCellSimple",
        version="0.14.2",
        note="g, i, f, o = scale * N([x; h] wm) + b, one N a gate; c' = s(f) c + s(i) tanh(g), "
        "clipped to [-10, 10] (cell_value_cap); h' = s(o) tanh(c')",
    ),
    Preset(
        name="returnn",
        cell="lstm",
        norm=_STATE,
        eps=1e-12,
        zeros=("bias_ih", "shift_ih"),
        source=f"{_RETURNN}, its defaults",
        version="1.20261022",
        note="i, j, f, o = gamma_i * N(W x) + beta + gamma_s * N(R h); c' = LN(s(f) c + "
        "s(i) tanh(j)), carried; h' = s(o) tanh(c'); its forget bias, 0, is part of beta's start",
    ),
    Preset(
        name="returnn_rnmt_plus",
        cell="lstm",
        norm=CellNorm(inputs="joint", span="gate", cell="carried"),
        eps=1e-12,
        source=f"{_RETURNN}, as for RNMT+",
        version="1.20261022",
        note="i, j, f, o = LN(W x + R h), one LN a gate; v = s(f) c + s(i) tanh(j); c' = LN(v) is "
        "carried, and h' = s(o) tanh(v)",
    ),
    Preset(
        name="di_engine",
        cell="lstm",
        norm=CellNorm(cell=None),
        bias_start=None,
        source='opendilab/DI-engine, ding/torch_utils/network/rnn.py, LSTM(norm_type="LN")',
        version="0.5.3",
        note="i, f, o, u = LN(W x) + LN(R h) + b; h' = s(o) tanh(c')",
    ),
    Preset(
        name="dreamer_v2",
        cell="gru",
        norm=CellNorm(inputs="joint", span="all"),
        eps=1e-3,
        zeros=("bias_hh",),
        update_bias=1.0,
        source="danijar/dreamerv2, dreamerv2/common/nets.py, GRUCell(norm=True)",
        version="9f07732",
        note="r, n, u = LN([x; h] W + b) over 3H; u = s(u - 1); h' = u tanh(s(r) n) + (1 - u) h: "
        "its u is torch's 1 - z, so that its update bias of -1 is 1 here",
    ),
)


class FromPreset:
    """What gives layers and one-step cells `from_preset`; a class says which ``cell`` it runs."""

    _cell: ClassVar[str]
    _preset: Preset | None = None

    def __init_subclass__(cls, cell: str | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cell is not None:
            cls._cell = cell

    @classmethod
    def from_preset(cls, preset: str | Preset, *args: Any, **options: Any) -> Self:
        """Build the cell that a preset describes.

        Args:
            preset: A name in `lnrnn.presets`, or a `Preset`.
            *args: As for the constructor: input and hidden size, ...
            **options: As for the constructor, except ``norm`` and ``eps``, which the preset has.

        Returns:
            A layer (or cell) whose parameters start as the preset says. What the preset holds at
            zero is zero and does not require a gradient.

        Raises:
            KeyError: If there is no preset of that name.
            ValueError: If the preset is for another cell, or biases are left out.
            TypeError: If ``norm``, ``eps`` or a start of biases is given too.

        Example:
            >>> from lnrnn import LSTM
            >>> lstm = LSTM.from_preset("fastrnns", 10, 20)
            >>> [name for name, p in lstm.named_parameters() if not p.requires_grad]
            ['bias_ih_l0']
        """
        chosen = presets[preset] if isinstance(preset, str) else preset
        if not isinstance(chosen, Preset):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a preset is a name in lnrnn.presets or a Preset, got {preset!r}")
        if chosen.cell != cls._cell:
            fitting = ", ".join(p.name for p in presets.values() if p.cell == cls._cell)
            raise ValueError(
                f"preset {chosen.name!r} is for {chosen.cell.upper()}, not for {cls.__name__}; "
                f"those for it are: {fitting}"
            )
        twice = sorted({"norm", "eps"} & set(options))
        if twice:
            raise TypeError(
                f"the preset {chosen.name!r} sets norm and eps, and {' and '.join(twice)} was "
                "given too; leave it out, or change the preset with dataclasses.replace"
            )
        of_biases = ("forget_bias", "update_bias", "chrono")
        starts = [name for name in of_biases if options.get(name) is not None]
        if starts:
            raise TypeError(
                f"the preset {chosen.name!r} says where biases start, and {starts[0]} was given "
                "too; leave it out, or change the preset with dataclasses.replace"
            )
        module: Any = cls(*args, norm=chosen.norm, eps=chosen.eps, **options)  # pyright: ignore
        if not module.bias:
            raise ValueError(
                f"the preset {chosen.name!r} says where biases start and which are zero, so it "
                "needs bias=True"
            )
        module._preset = chosen
        module._start_preset()
        return module

    def _suffixes_of_directions(self) -> list[str]:
        """Return what the names of each direction's parameters end in."""
        raise NotImplementedError

    def _start_preset(self) -> None:
        """Start the parameters as the preset says, if there is one."""
        if self._preset is not None:
            assert isinstance(self, nn.Module)
            for suffix in self._suffixes_of_directions():
                self._preset.start(self, suffix)
