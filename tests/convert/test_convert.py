"""Checkpoints from elsewhere: read, they compute what their source does, and they come back."""

from collections.abc import Callable
from typing import Any

import foreign_layers as foreign
import pytest
import torch
from norm_cases import LAYERS, randomized, run, states
from torch import Tensor, nn

import lnrnn
from lnrnn import convert, presets

I, H = 3, 7
Cells = list[list[nn.Module]]

# By source: how a cell of so many inputs and hidden units is made.
MAKE: dict[str, Callable[[int, int], nn.Module]] = {
    "fastrnns": foreign.FastCell,
    "nemo": foreign.FastCell,
    "torchaudio": lambda i, h: foreign.AudioCell(i, h, eps=1e-3),
    "icefall_lstm": foreign.IcefallCell,
    "icefall_gru": foreign.IcefallGRU,
    "haste_lstm": foreign.HasteLSTM,
    "haste_gru": foreign.HasteGRU,
    "tfa_lstm": foreign.AddonsLSTM,
    "tfa_rnn": foreign.AddonsRNN,
    "tf_contrib": foreign.ContribLSTM,
    "supercell": foreign.Supercell,
    "lingvo_simple": foreign.LingvoSimple,
}
EPS = {"torchaudio": 1e-3}
TF = "/.ATTRIBUTES/VARIABLE_VALUE"
# By source: before and behind the keys of one layer, and of layer {} of several.
PLACES = {
    "fastrnns": [("layers.{}.cell.", ""), ("{}.", "")],
    "nemo": [("layers.{}.cell.", "")],
    "torchaudio": [("lstm_layers.{}.", ""), ("{}.", "")],
    "icefall_lstm": [("layers.{}.cell.", "")],
    "icefall_gru": [("layers.{}.cell.", "")],
    "haste_lstm": [("{}.", "")],
    "haste_gru": [("{}.", "")],
    "tfa_lstm": [("layer_with_weights-{}/cell/", TF), ("cell/cells/{}/", TF)],
    "tfa_rnn": [("cell/cells/{}/", TF)],
    "tf_contrib": [("rnn/multi_rnn_cell/cell_{}/layer_norm_basic_lstm_cell/", "")],
    "supercell": [("RNN/MultiRNNCell/Cell{}/LayerNormLSTMCell/", "")],
    "lingvo_simple": [("{}/", "/var")],
}
ALONE = {
    "fastrnns": [("layers.0.cell.", ""), ("cell.", ""), ("", "")],
    "nemo": [("layers.0.cell.", ""), ("", "")],
    "torchaudio": [("", ""), ("lstm_layers.0.", "")],
    "icefall_lstm": [("layers.0.cell.", ""), ("", "")],
    "icefall_gru": [("layers.0.cell.", ""), ("", "")],
    "haste_lstm": [("", "")],
    "haste_gru": [("", "")],
    "tfa_lstm": [("cell/", TF), ("", ":0"), ("", "")],
    "tfa_rnn": [("cell/", TF)],
    "tf_contrib": [("rnn/layer_norm_basic_lstm_cell/", ""), ("", ":0")],
    "supercell": [("RNN/LayerNormLSTMCell/", ""), ("", ":0")],
    "lingvo_simple": [("", "/var"), ("", "")],
}
every_source = pytest.mark.parametrize("source", list(MAKE))


def state_of(cell: nn.Module, before: str = "", behind: str = "") -> dict[str, Tensor]:
    return {before + key + behind: value for key, value in cell.state_dict().items()}


def one_state(source: str, before: str = "", behind: str = "") -> dict[str, Tensor]:
    return state_of(MAKE[source](I, H), before, behind)


def assert_runs_alike(layer: Any, cells: Cells, size: int = H) -> None:
    x = torch.randn(6, 2, I, dtype=torch.float64)
    initial = states(layer, 2)
    expected, final = foreign.run(cells, x, initial)
    output, *after = run(layer, x, initial)
    assert output.shape[-1] == size * len(cells[0])
    for value, truth in zip([output, *after], [expected, *final], strict=True):
        torch.testing.assert_close(value, truth, rtol=0, atol=1e-12)


def test_every_source_is_tested() -> None:
    assert set(MAKE) == set(PLACES) == set(ALONE) == set(convert.SOURCES)


@every_source
def test_one_layer_computes_what_the_source_does(source: str) -> None:
    for before, behind in ALONE[source]:
        cell = MAKE[source](I, H)
        layer = convert.load(source, state_of(cell, before, behind), eps=EPS.get(source))
        assert type(layer) is LAYERS[presets[source].cell]
        assert (layer.num_layers, layer.bidirectional) == (1, False)
        assert layer.eps == EPS.get(source, presets[source].eps)
        assert_runs_alike(layer, [[cell]])


@every_source
def test_layers_on_top_of_one_another(source: str) -> None:
    for before, behind in PLACES[source]:
        cells = [MAKE[source](size, H) for size in (I, H, H)]
        state: dict[str, Tensor] = {}
        for number, cell in enumerate(cells):
            state |= state_of(cell, "model/" + before.format(number), behind)
        state["other.weight"] = torch.zeros(3)
        layer = convert.load(source, state, prefix="model/", eps=EPS.get(source))
        assert layer.num_layers == 3
        assert_runs_alike(layer, [[cell] for cell in cells])


def test_both_directions() -> None:
    cells = [[foreign.FastCell(size, H) for _ in range(2)] for size in (I, 2 * H)]
    place = "layers.{}.directions.{}.cell."
    state: dict[str, Tensor] = {}
    for number, ways in enumerate(cells):
        for way, cell in enumerate(ways):
            state |= state_of(cell, place.format(number, way))
    layer = convert.load("fastrnns", state)
    assert (layer.num_layers, layer.bidirectional) == (2, True)
    assert_runs_alike(layer, [list(ways) for ways in cells])
    written = convert.save("fastrnns", layer)
    assert set(written) == set(state)
    assert all(torch.equal(written[key], state[key]) for key in state)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("projected", [0, 5])
def test_icefall_with_and_without_biases_and_projection(bias: bool, projected: int) -> None:
    cells = [foreign.IcefallCell(size, H, bias, projected) for size in (I, projected or H)]
    state = state_of(cells[0], "layers.0.cell.") | state_of(cells[1], "layers.1.cell.")
    layer = convert.load("icefall_lstm", state)
    assert layer.proj_size == projected
    assert layer.get_parameter("bias_ih_l0").requires_grad is bias
    assert_runs_alike(layer, [[cell] for cell in cells], projected or H)


@pytest.mark.parametrize(
    ("source", "make"), [("tfa_lstm", foreign.AddonsLSTM), ("tfa_rnn", foreign.AddonsRNN)]
)
def test_addons_without_bias_and_with_another_eps(source: str, make: Any) -> None:
    cell = make(I, H, bias=False, eps=1e-2)
    assert_runs_alike(convert.load(source, state_of(cell), eps=1e-2), [[cell]])


def test_icefalls_gru_without_biases() -> None:
    cell = foreign.IcefallGRU(I, H, bias=False)
    layer = convert.load("icefall_gru", state_of(cell))
    held = [name for name, p in layer.named_parameters() if not p.requires_grad]
    assert held == ["bias_ih_l0", "bias_hh_l0"]
    assert_runs_alike(layer, [[cell]])


def test_a_layer_can_be_batch_first() -> None:
    state = one_state("haste_gru")
    layer = convert.load("haste_gru", state, batch_first=True)
    x = torch.randn(2, 6, I, dtype=torch.float64)
    expected = convert.load("haste_gru", state)(x.transpose(0, 1))[0].transpose(0, 1)
    assert torch.equal(layer(x)[0], expected)


@every_source
def test_what_the_source_lacks_is_held_at_zero(source: str) -> None:
    layer = convert.load(source, one_state(source), eps=EPS.get(source))
    held = {name for name, p in layer.named_parameters() if not p.requires_grad}
    assert held == {f"{name}_l0" for name in presets[source].zeros}


@every_source
def test_arrays_and_their_dtype(source: str) -> None:
    state = {key: value.float() for key, value in one_state(source).items()}
    frozen = {}
    for key, value in state.items():
        frozen[key] = value.numpy()
        frozen[key].flags.writeable = False
    layer = convert.load(source, frozen, eps=EPS.get(source))
    assert {p.dtype for p in layer.parameters()} == {torch.float32}
    same = convert.load(source, state, eps=EPS.get(source))
    for name, value in same.state_dict().items():
        assert torch.equal(layer.state_dict()[name], value), name


@pytest.mark.parametrize("source", [s for s in MAKE if s not in ("tf_contrib", "supercell")])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_what_is_written_comes_back_bit_for_bit(source: str, num_layers: int) -> None:
    cell, eps = presets[source].cell, EPS.get(source)
    layer = LAYERS[cell].from_preset(source, I, H, num_layers, dtype=torch.float64)
    zeros = {n for n, p in layer.named_parameters() if not p.requires_grad}
    randomized(layer)
    with torch.no_grad():
        for name in zeros:
            layer.get_parameter(name).zero_()
    written = convert.save(source, layer, prefix="a.")
    assert all(key.startswith("a.") and value.is_contiguous() for key, value in written.items())
    back = convert.load(source, written, prefix="a.", eps=eps)
    for name, value in layer.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name
    again = convert.save(source, back, prefix="a.")
    assert list(again) == list(written)
    assert all(torch.equal(again[key], written[key]) for key in written)


@pytest.mark.parametrize(
    "source",
    [
        *("fastrnns", "nemo", "torchaudio", "icefall_gru", "haste_lstm", "haste_gru", "tfa_rnn"),
        "lingvo_simple",
    ],
)
def test_a_checkpoint_comes_back_bit_for_bit(source: str) -> None:
    """Those whose parameters and ours correspond one to one."""
    state = one_state(source, *ALONE[source][0])
    layer = convert.load(source, state, eps=EPS.get(source))
    written = convert.save(source, layer, prefix="")
    keys = dict(zip(sorted(state), sorted(written), strict=True))
    assert all(torch.equal(state[a], written[b]) for a, b in keys.items())


def test_what_is_written_is_a_copy() -> None:
    layer = lnrnn.LSTM.from_preset("fastrnns", I, H)
    written = convert.save("fastrnns", layer)
    written["layers.0.cell.weight_hh"].zero_()
    assert layer.weight_hh_l0.any()
    assert not any(value.requires_grad for value in written.values())


def test_a_layer_without_biases_is_written_with_zeros() -> None:
    norm = presets["fastrnns"].norm
    layer = randomized(lnrnn.LSTM(I, H, bias=False, norm=norm, dtype=torch.float64))
    back = convert.load("fastrnns", convert.save("fastrnns", layer))
    x = torch.randn(6, 2, I, dtype=torch.float64)
    assert torch.equal(back(x)[0], layer(x)[0])


# What does not fit is refused by name.


def refused(message: str, source: str, state: dict[str, Any], **options: Any) -> None:
    with pytest.raises(ValueError, match=message):
        convert.load(source, state, **options)


@every_source
def test_a_missing_and_an_unexpected_key_are_named(source: str) -> None:
    eps = EPS.get(source)
    optional = {key for group in convert.SOURCES[source].optional for key in group}
    anchor = next(iter(convert.SOURCES[source].shapes))
    for key in set(convert.SOURCES[source].shapes) - optional - {anchor}:
        state = one_state(source)
        del state[key]
        refused(f"not one of {source} .*missing '{key}'", source, state, eps=eps)
    state = one_state(source) | {"extra.weight": torch.zeros(2)}
    refused("unexpected 'extra.weight'", source, state, eps=eps)


@every_source
def test_a_wrong_shape_is_named(source: str) -> None:
    for key, dims in convert.SOURCES[source].shapes.items():
        state = one_state(source)
        if key not in state:  # an optional one
            continue
        axis = next(a for a, dim in enumerate(dims.split()) if "H" in dim and "I" not in dim)
        state[key] = torch.cat([state[key], state[key].narrow(axis, 0, 1)], axis)
        with pytest.raises(ValueError, match=r" must be \(.* got \(") as error:
            convert.load(source, state, eps=EPS.get(source))
        assert str(error.value).split(" must be")[0] in state
        state[key] = state[key][None]
        refused(rf"{key} must be .* got \(1, ", source, state, eps=EPS.get(source))


def test_half_of_an_optional_pair_is_missing() -> None:
    state = one_state("icefall_lstm")
    del state["bias_hh"]
    refused("missing 'bias_hh'", "icefall_lstm", state)


def test_a_layer_that_does_not_follow_the_one_before() -> None:
    state = one_state("fastrnns", "layers.0.cell.") | one_state("fastrnns", "layers.1.cell.")
    refused(r"layers.1.cell.weight_ih must be \(4H, I\) = \(28, 7\)", "fastrnns", state)


def test_a_gap_between_layers() -> None:
    state = one_state("fastrnns", "layers.0.cell.") | one_state("fastrnns", "layers.2.cell.")
    refused("with 1 layer.*unexpected 'layers.2.cell.weight_ih'", "fastrnns", state)


def test_a_projection_that_is_missing() -> None:
    state = state_of(foreign.IcefallCell(I, H, projected=5))
    del state["weight_hr"]
    refused("reads 5 features of 7 hidden units", "icefall_lstm", state)


def test_nothing_is_where_it_should_be() -> None:
    message = r"haste_gru's state dict has one of 'enc\.kernel', 'enc\.0\.kernel', .*got 'enc\.'"
    refused(message, "haste_gru", one_state("haste_gru"), prefix="enc.")


def test_torchaudio_without_its_norms() -> None:
    state = {"x2g.weight": torch.zeros(28, 3), "x2g.bias": torch.zeros(28)}
    state["p2g.weight"] = torch.zeros(28, 7)
    message = "missing 'g_norm.weight', 'g_norm.bias'.*; unexpected 'x2g.bias'"
    refused(message, "torchaudio", state, eps=1e-3)


def test_torchaudio_needs_an_eps() -> None:
    refused("torchaudio has no usual eps.*pass eps=", "torchaudio", one_state("torchaudio"))


def test_dtypes_that_differ_or_cannot_be() -> None:
    state = one_state("haste_lstm")
    state["gamma"] = state["gamma"].float()
    refused(
        "one floating dtype between them, got torch.float32, torch.float64", "haste_lstm", state
    )
    state = {key: value.long() for key, value in one_state("haste_lstm").items()}
    refused("one floating dtype between them, got torch.int64", "haste_lstm", state)
    with pytest.raises(TypeError, match=r"holds tensors, or arrays .*, got str for 'bias'"):
        convert.load("haste_lstm", one_state("haste_lstm") | {"bias": "zero"})


def test_an_unknown_source() -> None:
    with pytest.raises(KeyError, match="known from 'haste'; close to it: haste_gru, haste_lstm"):
        convert.load("haste", {})
    with pytest.raises(KeyError, match="known from 'qqq'; there are: fastrnns, "):
        convert.save("qqq", lnrnn.LSTM(I, H))


@pytest.mark.parametrize(
    ("source", "make", "message"),
    [
        ("tf_contrib", lambda: lnrnn.LSTM.from_preset("tf_contrib", I, H), "can be read and not"),
        ("supercell", lambda: lnrnn.LSTM.from_preset("supercell", I, H), "can be read and not"),
        (
            "lingvo_simple",
            lambda: lnrnn.LSTM(I, H, norm=lnrnn.CellNorm("joint", "gate", None)),
            "lingvo_simple is LSTM with norm=.*cell_clip=10.0",
        ),
        ("haste_gru", lambda: lnrnn.LSTM.from_preset("haste_lstm", I, H), "haste_gru is GRU with"),
        ("fastrnns", lambda: lnrnn.LSTM.from_preset("haste_lstm", I, H), "fastrnns is LSTM with"),
        ("fastrnns", lambda: lnrnn.LSTM(I, H), "got LSTM with norm=None"),
        ("haste_lstm", lambda: lnrnn.LSTM(I, H, norm="output"), "got LSTM with norm='output'"),
        (
            "haste_lstm",
            lambda: lnrnn.LSTM(I, H, norm=lnrnn.CellNorm(kind="rms")),
            "haste_lstm is LSTM with norm=.*kind='rms'",
        ),
        ("haste_lstm", lambda: lnrnn.LSTM(I, H, norm="cell"), "has nothing for bias_ih_l0"),
        (
            "haste_lstm",
            lambda: lnrnn.LSTM(I, H, bias=False, norm="cell", eps=1e-3),
            "haste_lstm's eps is always 1e-05, and the layer's is 0.001",
        ),
        (
            "haste_lstm",
            lambda: lnrnn.LSTM.from_preset("haste_lstm", I, H, bidirectional=True),
            "haste_lstm has no bidirectional layer",
        ),
        (
            "fastrnns",
            lambda: lnrnn.LSTM.from_preset("fastrnns", I, H, proj_size=5),
            "projects no hidden state, got proj_size=5",
        ),
        (
            "tfa_rnn",
            lambda: lnrnn.RNN.from_preset("tfa_rnn", I, H, nonlinearity="relu"),
            "applies tanh, got nonlinearity='relu'",
        ),
    ],
)
def test_a_layer_that_a_source_cannot_hold(source: str, make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert.save(source, make())


def test_only_layers_are_written() -> None:
    cell: Any = lnrnn.LSTMCell.from_preset("fastrnns", I, H)
    with pytest.raises(TypeError, match="an RNN, LSTM or GRU of lnrnn, got LSTMCell"):
        convert.save("fastrnns", cell)


def test_the_word_cell_is_the_norm_it_stands_for() -> None:
    layer = lnrnn.LSTM(I, H, norm="cell")
    with torch.no_grad():
        layer.get_parameter("bias_ih_l0").zero_()
    assert "kernel" in convert.save("haste_lstm", layer)


def test_zoneout_is_written_for_a_cell_that_has_it() -> None:
    for name, cell in (("haste_lstm", lnrnn.LSTM), ("haste_gru", lnrnn.GRU)):
        plain = convert.save(name, cell.from_preset(name, I, H))
        assert convert.save(name, cell.from_preset(name, I, H, zoneout=0.1)).keys() == plain.keys()
    trained = lnrnn.LSTM.from_preset("nemo", I, H, recurrent_dropout=0.1, weight_drop=0.1)
    convert.save("nemo", trained)  # nothing that acts once it is trained
    with pytest.raises(ValueError, match=r"nemo has no zoneout, .* got zoneout=0\.1; if its param"):
        convert.save("nemo", lnrnn.LSTM.from_preset("nemo", I, H, zoneout=0.1))
    with pytest.raises(ValueError, match=r"haste_lstm has no zoneout_c, which acts in evaluation"):
        convert.save("haste_lstm", lnrnn.LSTM.from_preset("haste_lstm", I, H, zoneout_c=0.1))
