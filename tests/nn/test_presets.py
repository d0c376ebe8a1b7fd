"""Presets: each computes what its source does, holds at zero what it lacks, starts as it says."""

import copy
import dataclasses
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import published_cells
import pytest
import torch
from norm_cases import CELLS, LAYERS, run, states
from numpy.typing import NDArray

import lnrnn
from lnrnn import GRU, LSTM, RNN, CellNorm, LSTMCell, Preset, presets

every_preset = pytest.mark.parametrize("name", list(presets))


class Noting(dict[str, NDArray[np.float64]]):
    """Parameters that note which of them are read."""

    def __init__(self, values: Mapping[str, NDArray[np.float64]]) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        self.read.add(name)
        return super().__getitem__(name)


def randomize(module: Any) -> None:
    """Give every parameter that is not held numbers that hide no mistake."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                parameter.uniform_(0.5, 1.5) if "gain" in name else parameter.normal_(std=0.6)


def parameters_of(module: Any, suffix: str) -> Noting:
    named = dict(module.named_parameters())
    return Noting(
        {
            name.removesuffix(suffix): value.detach().numpy()
            for name, value in named.items()
            if name.endswith(suffix)
        }
    )


@every_preset
def test_a_preset_computes_what_its_source_does(name: str) -> None:
    preset = presets[name]
    layer = LAYERS[preset.cell].from_preset(name, 3, 7, dtype=torch.float64)
    randomize(layer)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    state: Any = states(layer, 2)
    output, *final = run(layer, x, state)
    p = parameters_of(layer, "_l0")
    for row in range(2):
        h = state[0][0, row].numpy()
        c = state[1][0, row].numpy() if len(state) > 1 else h
        for t in range(6):
            h, c = published_cells.STEPS[name](p, x[t, row].numpy(), h, c, preset.eps)
            np.testing.assert_allclose(output[t, row].detach().numpy(), h, rtol=0, atol=1e-12)
        if len(final) > 1:
            np.testing.assert_allclose(final[1][0, row].detach().numpy(), c, rtol=0, atol=1e-12)
    # The source has these parameters, no fewer and no more.
    trained = {n.removesuffix("_l0") for n, q in layer.named_parameters() if q.requires_grad}
    assert p.read == trained


@every_preset
def test_a_cell_runs_as_the_layer_does(name: str) -> None:
    preset = presets[name]
    cell = CELLS[preset.cell].from_preset(name, 3, 7, dtype=torch.float64)
    randomize(cell)
    layer = LAYERS[preset.cell].from_preset(name, 3, 7, dtype=torch.float64)
    layer.load_state_dict({f"{n}_l0": value for n, value in cell.state_dict().items()})
    x = torch.randn(2, 3, dtype=torch.float64)
    after = cell(x)
    assert torch.equal(after[0] if preset.cell == "lstm" else after, layer(x[None])[0][0])
    assert {n for n, p in cell.named_parameters() if not p.requires_grad} == set(preset.zeros)


@every_preset
def test_what_is_held_is_zero_and_gets_no_gradient(name: str) -> None:
    preset = presets[name]
    layer = LAYERS[preset.cell].from_preset(name, 3, 7, num_layers=2, bidirectional=True)
    output = run(layer, torch.randn(4, 2, 3))[0]
    output.backward(torch.randn_like(output))
    held = [n for n, p in layer.named_parameters() if not p.requires_grad]
    suffixes = ("_l0", "_l0_reverse", "_l1", "_l1_reverse")
    assert sorted(held) == sorted(z + suffix for z in preset.zeros for suffix in suffixes)
    for n, p in layer.named_parameters():
        assert (p.grad is None) == (n in held), n
        if n in held:
            assert not p.any(), n


def test_biases_start_as_the_source_has_them() -> None:
    lstm: Any = LSTM.from_preset("haste_lstm", 3, 7, num_layers=2)
    for bias in (lstm.bias_hh_l0, lstm.bias_hh_l1):
        assert torch.equal(bias, torch.tensor([0.0] * 7 + [1.0] * 7 + [0.0] * 14))
    nemo: Any = LSTMCell.from_preset("nemo", 3, 7)
    i, f, g, o = nemo.bias_hh.chunk(4)
    assert torch.equal(f, torch.ones(7))
    assert all(part.any() and (part.abs() <= 7**-0.5).all() for part in (i, g, o))
    update = dataclasses.replace(presets["haste_gru"], update_bias=-1.0)
    gru: Any = GRU.from_preset(update, 3, 7)
    assert torch.equal(gru.bias_hh_l0, torch.tensor([0.0] * 7 + [-1.0] * 7 + [0.0] * 7))


def test_starting_again_keeps_the_preset() -> None:
    layer = LSTM.from_preset("tf_contrib", 3, 7)
    randomize(layer)
    layer = pickle.loads(pickle.dumps(copy.deepcopy(layer)))
    torch.manual_seed(1)
    layer.reset_parameters()
    torch.manual_seed(1)
    fresh = LSTM.from_preset("tf_contrib", 3, 7)
    for (name, value), other in zip(layer.named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(value, other), name
        assert value.requires_grad == other.requires_grad, name


def test_weights_are_drawn_as_without_a_preset() -> None:
    torch.manual_seed(1)
    plain = torch.nn.LSTM(3, 7, 2)
    torch.manual_seed(1)
    layer = LSTM.from_preset("fastrnns", 3, 7, 2)
    for name, value in plain.named_parameters():
        if name.startswith("weight"):
            assert torch.equal(layer.get_parameter(name), value), name


def test_other_arguments_are_those_of_the_constructor() -> None:
    layer = LSTM.from_preset("icefall_lstm", 3, 7, 2, batch_first=True, proj_size=5, fused=False)
    assert layer(torch.randn(4, 6, 3))[0].shape == (4, 6, 5)
    assert layer.fused is False
    assert (layer.norm, layer.eps) == (presets["icefall_lstm"].norm, 1e-5)
    rnn = RNN.from_preset("ba2016_rnn", 3, 7, nonlinearity="relu")
    assert (rnn(torch.randn(4, 6, 3))[0] >= 0).all()
    with pytest.raises(TypeError, match="num_layer"):
        LSTM.from_preset("fastrnns", 3, 7, num_layer=2)


@pytest.mark.parametrize("option", ["norm", "eps"])
def test_norm_and_eps_come_from_the_preset_alone(option: str) -> None:
    value = {"norm": presets["fastrnns"].norm, "eps": 1e-5}[option]
    with pytest.raises(TypeError, match=f"'fastrnns' sets norm and eps, and {option} was given"):
        LSTM.from_preset("fastrnns", 3, 7, **{option: value})


@pytest.mark.parametrize("cls", [*LAYERS.values(), *CELLS.values()])
def test_a_preset_of_another_cell_is_refused_by_name(cls: Any) -> None:
    for preset in presets.values():
        if cls.__name__.lower().removesuffix("cell") != preset.cell:
            with pytest.raises(ValueError, match=f"'{preset.name}' is for {preset.cell.upper()}"):
                cls.from_preset(preset.name, 3, 7)


def test_a_subclass_builds_itself() -> None:
    class Mine(LSTM):
        pass

    assert type(Mine.from_preset("haste_lstm", 3, 7)) is Mine


def test_presets_need_their_biases() -> None:
    with pytest.raises(ValueError, match=r"'haste_gru' says where biases start .* bias=True"):
        GRU.from_preset("haste_gru", 3, 7, bias=False)


def test_an_unknown_name_is_answered_with_close_ones() -> None:
    with pytest.raises(KeyError, match="no preset 'haste'; close to it: haste_gru, haste_lstm"):
        lnrnn.LSTM.from_preset("haste", 3, 7)
    with pytest.raises(KeyError, match="no preset 'qqq'; there are: ba2016_rnn, "):
        presets["qqq"]
    assert presets.get("haste") is None
    with pytest.raises(TypeError, match=r"a name in lnrnn.presets or a Preset, got None"):
        LSTM.from_preset(None, 3, 7)  # pyright: ignore[reportArgumentType]


def test_presets_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        presets["mine"] = presets["nemo"]  # pyright: ignore[reportIndexIssue]
    with pytest.raises(dataclasses.FrozenInstanceError):
        presets["nemo"].eps = 1.0  # pyright: ignore[reportAttributeAccessIssue]
    assert set(published_cells.STEPS) == set(presets)
    assert all(presets[name].name == name for name in presets)
    assert all(p.source and p.version and p.note for p in presets.values())


@pytest.mark.parametrize(
    ("error", "message", "fields"),
    [
        (ValueError, "a preset's cell must be one of", {"cell": "lnlstm"}),
        (ValueError, "only the LSTM has a cell state", {"cell": "gru"}),
        (TypeError, "norm must be a lnrnn.CellNorm, got 'cell'", {"norm": "cell"}),
        (ValueError, "eps must be positive", {"eps": 0.0}),
        (ValueError, "holds at zero must be one of .* got 'gain_c'", {"zeros": ("gain_c",)}),
        (ValueError, "update_bias is for a preset of 'gru', got 'lstm'", {"update_bias": 1.0}),
        (TypeError, "bias_start must be a number", {"bias_start": "0"}),
    ],
)
def test_a_preset_that_makes_no_sense(error: type[Exception], message: str, fields: Any) -> None:
    with pytest.raises(error, match=message):
        dataclasses.replace(presets["fastrnns"], **fields)


def test_a_preset_of_ones_own() -> None:
    mine = Preset(
        name="mine",
        cell="gru",
        norm=CellNorm(kind="rms", gain_init=0.1),
        zeros=("shift_ih",),
        update_bias=1.0,
        source="here",
        version="1",
        note="",
    )
    gru: Any = GRU.from_preset(mine, 3, 7)
    assert torch.equal(gru.gain_hh_l0, torch.full((21,), 0.1))
    assert not gru.shift_ih_l0.requires_grad


def test_a_preset_is_refused_that_could_not_be_kept():
    joint = CellNorm(inputs="joint")
    with pytest.raises(ValueError, match="what a preset holds at zero must be"):
        dataclasses.replace(presets["haste_lstm"], norm=joint)
    with pytest.raises(ValueError, match="bias_hh at zero cannot say its start"):
        dataclasses.replace(presets["fastrnns"], zeros=("bias_hh",), forget_bias=1.0)


def test_kiros_torch7_file_differs_in_where_its_eps_stands() -> None:
    """Its N divides by std + eps: close to ours wherever the deviation is well above eps."""
    v = np.random.default_rng(0).normal(size=7)
    centered = v - v.mean()
    theirs = centered / (np.sqrt((centered**2).mean()) + 1e-5)
    np.testing.assert_allclose(published_cells.N(v, 1e-5), theirs, rtol=2e-5)


def test_lingvo_clips_its_cell_state() -> None:
    layer: Any = LSTM.from_preset("lingvo_simple", 3, 7)
    c_0 = torch.full((1, 2, 7), 50.0)
    torch.nn.init.constant_(layer.bias_hh_l0, 20.0)  # every gate is open
    _, (_, c_n) = layer(torch.randn(4, 2, 3), (torch.zeros(1, 2, 7), c_0))
    assert torch.equal(c_n, torch.full((1, 2, 7), 10.0))
