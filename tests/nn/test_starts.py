"""Where parameters start that do not start as torch's: biases of gates, orthogonal weights."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from norm_cases import LAYERS
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import lnrnn
from lnrnn import CellNorm

I, H = 3, 7
SUFFIXES = ("_l0", "_l0_reverse", "_l1", "_l1_reverse")


def build(cell: str, norm: Any, **options: Any) -> Any:
    torch.manual_seed(5)
    return LAYERS[cell](I, H, 2, bidirectional=True, norm=norm, **options)


def gate(bias: torch.Tensor, cell: str, letter: str) -> torch.Tensor:
    order = {"lstm": "ifgo", "gru": "rzn"}[cell]
    return bias.detach().chunk(len(order))[order.index(letter)]


def changed(layer: Any, plain: Any) -> set[str]:
    """Return which parameters differ."""
    pairs = zip(layer.named_parameters(), plain.parameters(), strict=True)
    return {name for (name, value), other in pairs if not torch.equal(value, other)}


BIASES = [("lstm", "f", {"forget_bias": 1.5}), ("gru", "z", {"update_bias": 1.5})]
JOINT, INPUT = CellNorm(inputs="joint"), CellNorm(inputs="input")


@pytest.mark.parametrize("norm", [None, "output", "cell", JOINT, CellNorm(inputs="recurrent")])
@pytest.mark.parametrize(("cell", "letter", "options"), BIASES)
def test_a_gate_starts_with_its_bias(
    cell: str, letter: str, options: dict[str, float], norm: Any
) -> None:
    layer, plain = build(cell, norm, **options), build(cell, norm)
    inside = isinstance(norm, CellNorm) and norm.is_joint(cell)
    inside = inside or norm == "cell"
    behind = "shift" if (cell, norm) == ("gru", JOINT) else "bias_hh"
    for suffix in SUFFIXES:
        assert (gate(getattr(layer, behind + suffix), cell, letter) == 1.5).all()
        other = gate(getattr(layer, f"bias_ih{suffix}"), cell, letter)
        assert bool(other.any()) == inside  # behind a norm it would be added to the start
    names = {behind} if inside else {behind, "bias_ih"}
    assert changed(layer, plain) == {n + suffix for n in names for suffix in SUFFIXES}
    for k in "igo" if cell == "lstm" else "rn":
        assert torch.equal(gate(layer.bias_ih_l0, cell, k), gate(plain.bias_ih_l0, cell, k))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("norm", [None, "cell"])
def test_chrono_covers_the_times_up_to_its_own(cell: str, norm: Any) -> None:
    torch.manual_seed(5)
    layer = LAYERS[cell](I, 400, norm=norm, chrono=50)
    kept = gate(layer.bias_hh_l0, cell, "f" if cell == "lstm" else "z")
    assert 0 <= float(kept.min()) < math.log(3)
    assert math.log(45) < float(kept.max()) <= math.log(49)
    assert float(kept.exp().mean()) == pytest.approx(25, abs=2.2)  # U(1, 49): sd 14 / sqrt(400)
    if cell == "lstm":
        assert torch.equal(gate(layer.bias_hh_l0, cell, "i"), -kept)
        total = gate(layer.bias_ih_l0, cell, "f")
        assert bool(total.any()) == (norm == "cell")


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_chrono_init_starts_now_and_at_every_reset(cell: str) -> None:
    layer, plain = build(cell, "cell", recurrent_init="orthogonal"), build(cell, "cell")
    weight = layer.weight_hh_l0.detach().clone()
    layer.chrono_init(30)
    assert torch.equal(layer.weight_hh_l0, weight)
    letter = "f" if cell == "lstm" else "z"
    assert (gate(layer.bias_hh_l1_reverse, cell, letter) >= 0).all()
    assert changed(layer, plain) == {n + s for n in ("bias_hh", "weight_hh") for s in SUFFIXES}
    torch.manual_seed(5)
    layer.reset_parameters()
    assert not changed(layer, build(cell, "cell", recurrent_init="orthogonal", chrono=30))
    assert "chrono=30" in repr(layer)


@pytest.mark.parametrize("norm", [None, "cell"])
@pytest.mark.parametrize("cell", list(LAYERS))
def test_each_gates_recurrent_weight_starts_orthogonal(cell: str, norm: Any) -> None:
    layer, plain = build(cell, norm, recurrent_init="orthogonal"), build(cell, norm)
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell]
    for suffix in SUFFIXES:
        for part in getattr(layer, f"weight_hh{suffix}").detach().chunk(gates):
            torch.testing.assert_close(part @ part.T, torch.eye(H), rtol=0, atol=1e-5)
    assert changed(layer, plain) == {f"weight_hh{suffix}" for suffix in SUFFIXES}


def test_a_projected_states_weight_has_orthogonal_columns() -> None:
    layer = lnrnn.LSTM(I, H, proj_size=4, recurrent_init="orthogonal")
    for part in layer.weight_hh_l0.detach().chunk(4):
        torch.testing.assert_close(part.T @ part, torch.eye(4), rtol=0, atol=1e-5)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"recurrent_init must be one of \('orthogonal', None\)"):
        lnrnn.RNN(I, H, recurrent_init="identity")
    with pytest.raises(TypeError, match="RNN got an unexpected keyword argument 'forget_bias'"):
        lnrnn.RNN(I, H, forget_bias=1.0)  # pyright: ignore
    with pytest.raises(TypeError, match="GRU got an unexpected keyword argument 'forget_bias'"):
        lnrnn.GRU(I, H, forget_bias=1.0)  # pyright: ignore
    with pytest.raises(TypeError, match="forget_bias must be a number, got '1'"):
        lnrnn.LSTM(I, H, forget_bias="1")  # pyright: ignore
    with pytest.raises(ValueError, match="forget_bias says where a bias starts and needs bias=Tr"):
        lnrnn.LSTM(I, H, bias=False, forget_bias=1.0)
    with pytest.raises(ValueError, match="chrono starts the same bias as update_bias does"):
        lnrnn.GRU(I, H, chrono=10, update_bias=1.0)
    for layer in (lnrnn.LSTM(I, H), lnrnn.GRU(I, H)):
        with pytest.raises(ValueError, match="so at least 3, got 2"):
            layer.chrono_init(2)
        with pytest.raises(TypeError, match=r"chrono must be a whole number of steps, got 2\.5"):
            layer.chrono_init(2.5)  # pyright: ignore
    with pytest.raises(ValueError, match="an RNN has none"):
        lnrnn.RNN(I, H).chrono_init(10)


def test_a_preset_has_the_last_word_on_biases() -> None:
    with pytest.raises(TypeError, match="'haste_lstm' says where biases start, and forget_bias"):
        lnrnn.LSTM.from_preset("haste_lstm", I, H, forget_bias=2.0)
    layer = lnrnn.LSTM.from_preset("supercell", I, H, recurrent_dropout=0.1, zoneout=0.1)
    assert layer.regularizers.recurrent_dropout == 0.1
    orthogonal = lnrnn.LSTM.from_preset("supercell", I, H, recurrent_init="orthogonal")
    part = orthogonal.weight_hh_l0.detach()[:H]
    torch.testing.assert_close(part @ part.T, torch.eye(H), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="chrono_init would start what the preset 'supercell'"):
        orthogonal.chrono_init(10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_an_orthogonal_start_in_every_dtype(dtype: torch.dtype) -> None:
    layer = lnrnn.GRU(I, H, dtype=dtype, recurrent_init="orthogonal")
    for part in layer.weight_hh_l0.detach().double().chunk(3):
        within = 8 * torch.finfo(dtype).eps
        torch.testing.assert_close(part @ part.T, torch.eye(H).double(), rtol=0, atol=within)


def test_chrono_init_of_a_layer_whose_weight_is_computed() -> None:
    layer: Any = lnrnn.LSTM(I, H)
    nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    layer.chrono_init(30)
    assert (gate(layer.bias_hh_l0, "lstm", "f") >= 0).all()
    assert layer.starts.chrono == 30


def test_starts_stay_as_they_were_where_they_cannot_be_set() -> None:
    layer = lnrnn.LSTM(I, H)
    nn.utils.parametrizations.weight_norm(layer, "bias_hh_l0")
    with pytest.raises(AttributeError):
        layer.chrono_init(30)
    assert layer.starts.chrono is None


def test_chrono_is_drawn_where_the_bias_is() -> None:
    made: list[torch.device] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            result = func(*args, **(kwargs or {}))
            if func is torch.ops.aten.uniform_.default:
                made.append(result.device)
            return result

    with Watch():
        lnrnn.LSTM(I, H, chrono=30, device="meta")
    assert made
    assert {device.type for device in made} == {"meta"}


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400], ids=["nan", "inf", "huge"])
def test_a_start_is_finite(value: float) -> None:
    with pytest.raises(ValueError, match="forget_bias must be finite, got"):
        lnrnn.LSTM(I, H, forget_bias=value)
    with pytest.raises(ValueError, match="CellNorm's gain_init must be finite, got"):
        CellNorm(gain_init=value)
    with pytest.raises(ValueError, match="a preset's forget_bias must be finite, got"):
        dataclasses.replace(lnrnn.presets["nemo"], forget_bias=value)
    if isinstance(value, int):
        with pytest.raises(ValueError, match="chrono must be finite, got a whole number beyond"):
            lnrnn.GRU(I, H, chrono=value)


def test_a_preset_goes_with_starts_that_say_nothing() -> None:
    layer: Any = lnrnn.LSTM.from_preset("nemo", I, H, forget_bias=None, chrono=None)
    assert (gate(layer.bias_hh_l0, "lstm", "f") == 1).all()
