"""CellNorm and the constructors: what is refused, and how the refusal helps."""

import copy
import dataclasses
import pickle
import re
from typing import Any

import pytest
import torch
from norm_cases import CELLS, LAYERS

from lnrnn import GRU, LSTM, RNN, CellNorm, LSTMCell, RNNCell

every_cell = pytest.mark.parametrize("cell", list(LAYERS))


def test_cell_norm_keeps_what_it_was_given() -> None:
    norm = CellNorm(inputs="joint", span="gate", cell=None, kind="rms", gain_init=0.1)
    assert dataclasses.asdict(norm) == {
        "inputs": "joint",
        "span": "gate",
        "cell": None,
        "kind": "rms",
        "gain_init": 0.1,
        "cell_clip": None,
    }
    assert pickle.loads(pickle.dumps(norm)) == norm == copy.deepcopy(norm)
    assert LSTM(3, 7, norm=norm).norm is norm
    assert LSTM(3, 7, norm="cell").norm == "cell"
    with pytest.raises(dataclasses.FrozenInstanceError):
        norm.kind = "layer"  # pyright: ignore[reportAttributeAccessIssue]


def test_the_word_cell_means_the_defaults() -> None:
    torch.manual_seed(0)
    word = LSTM(3, 7, norm="cell")
    torch.manual_seed(0)
    spelled = LSTM(3, 7, norm=CellNorm())
    x = torch.randn(4, 2, 3)
    assert torch.equal(word(x)[0], spelled(x)[0])


@pytest.mark.parametrize(
    ("field", "value"),
    [("inputs", "both"), ("span", "row"), ("cell", "input"), ("cell", "none"), ("kind", "batch")],
)
def test_bad_fields_list_the_choices(field: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"CellNorm's {field} must be one of .* got '{value}'"):
        CellNorm(**{field: value})  # pyright: ignore[reportArgumentType]


def test_bad_gain_init() -> None:
    for gain in ("1", True):
        with pytest.raises(TypeError, match="gain_init must be a number"):
            CellNorm(gain_init=gain)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="gain_init must be finite, got nan"):
        CellNorm(gain_init=float("nan"))


def refused(error: type[Exception], message: str, make: Any, *args: Any, **options: Any) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make(*args, **options)


@every_cell
def test_unknown_norms_list_the_choices(cell: str) -> None:
    for make in (LAYERS[cell], CELLS[cell]):
        choices = 'norm must be None, "output", "cell" or lnrnn.CellNorm(...)'
        refused(ValueError, f"{choices}, got 'layer'", make, 3, 7, norm="layer")
        refused(
            ValueError,
            "got 'none'; in a configuration None is written null",
            make,
            3,
            7,
            norm="none",
        )
        refused(TypeError, f"{choices}, got True", make, 3, 7, norm=True)
        refused(TypeError, choices, make, 3, 7, norm={"kind": "rms"})


@every_cell
def test_bad_eps(cell: str) -> None:
    for make in (LAYERS[cell], CELLS[cell]):
        for norm in (None, "cell"):
            for eps in (0.0, -1e-5, float("nan"), float("inf")):
                message = f"eps must be positive and finite, got {eps}"
                refused(ValueError, message, make, 3, 7, norm=norm, eps=eps)
            refused(TypeError, "eps must be a number", make, 3, 7, norm=norm, eps="1e-5")


@every_cell
def test_bad_sizes_and_switches(cell: str) -> None:
    for make in (LAYERS[cell], CELLS[cell]):
        refused(ValueError, "input_size must be at least 1, got 0", make, 0, 7)
        refused(ValueError, "hidden_size must be at least 1, got -7", make, 3, -7)
        refused(TypeError, "hidden_size must be a whole number, got 7.0", make, 3, 7.0)
        refused(TypeError, "bias must be True or False, got 1", make, 3, 7, bias=1)
        refused(TypeError, "fused must be None, True or False", make, 3, 7, fused="yes")
    layer = LAYERS[cell]
    refused(ValueError, "num_layers must be at least 1, got 0", layer, 3, 7, 0)
    refused(TypeError, "batch_first must be True or False", layer, 3, 7, batch_first=None)
    refused(ValueError, "dropout must be in [0, 1], got 1.5", layer, 3, 7, 2, dropout=1.5)
    refused(TypeError, "dropout must be a number", layer, 3, 7, 2, dropout=True)
    with pytest.warns(UserWarning, match="does nothing with num_layers=1") as caught:
        layer(3, 7, dropout=0.5)
    assert [warning.filename for warning in caught] == [__file__], "it points at the caller"


def test_bad_projections_and_nonlinearities() -> None:
    refused(ValueError, "proj_size=7 and hidden_size=7", LSTM, 3, 7, proj_size=7)
    refused(ValueError, "proj_size=-1", LSTM, 3, 7, proj_size=-1)
    refused(TypeError, "proj_size must be a whole number", LSTM, 3, 7, proj_size=2.0)
    for make in (RNN, RNNCell):
        message = "nonlinearity must be one of ('tanh', 'relu'), got 'gelu'"
        refused(ValueError, message, make, 3, 7, nonlinearity="gelu")
    with pytest.raises(TypeError, match="proj_size"):
        GRU(3, 7, proj_size=5)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_only_the_lstm_carries_a_normalized_cell_state(cell: str) -> None:
    norm = CellNorm(cell="state", inputs="separate")
    for make in (LAYERS[cell], CELLS[cell]):
        refused(ValueError, "only the LSTM has a cell state", make, 3, 7, norm=norm)
        make(3, 7, norm=CellNorm(cell=None))


@pytest.mark.parametrize(
    ("cell", "norm"),
    [
        ("rnn", CellNorm()),
        ("rnn", CellNorm(kind="rms")),
        ("lstm", CellNorm()),
        ("lstm", CellNorm(inputs="joint", span="gate", cell=None)),
        ("gru", CellNorm()),
        ("gru", CellNorm(span="gate")),
    ],
)
def test_a_norm_over_a_single_value(cell: str, norm: CellNorm) -> None:
    for make in (LAYERS[cell], CELLS[cell]):
        refused(ValueError, "a norm over a single value", make, 3, 1, norm=norm)


@every_cell
def test_an_output_norm_over_a_single_value(cell: str) -> None:
    message = "a layer norm over a single value is always 0"
    refused(ValueError, message, LAYERS[cell], 3, 1, norm="output")
    LAYERS[cell](3, 1, norm="output", bidirectional=True)
    LAYERS[cell](3, 1)


def test_an_output_norm_over_a_single_projected_value() -> None:
    refused(ValueError, "over a single value", LSTM, 3, 7, proj_size=1, norm="output")


@every_cell
def test_a_one_feature_input_needs_its_bias(cell: str) -> None:
    separate = CellNorm(inputs="separate")
    for make in (LAYERS[cell], CELLS[cell]):
        message = "keeps only the input's sign unless a bias is added first"
        refused(ValueError, message, make, 1, 7, bias=False, norm=separate)
        make(1, 7, norm=separate)
        make(1, 7, bias=False)
        if cell == "rnn":
            make(1, 7, bias=False, norm="cell")  # one norm over the sum
        else:
            refused(ValueError, message, make, 1, 7, bias=False, norm="cell")
        if cell != "gru":
            make(1, 7, bias=False, norm=CellNorm(inputs="joint"))
    LAYERS[cell](1, 7, bias=False, norm="output")


def test_a_one_feature_hidden_state_has_only_a_sign() -> None:
    message = "keeps only the state's sign"
    refused(ValueError, message, LSTM, 3, 7, proj_size=1, norm="cell")
    refused(ValueError, message, LSTMCell, 3, 1, norm=CellNorm(cell=None))
    refused(ValueError, message, GRU, 3, 1, norm=CellNorm(span="all"))
    LSTM(3, 7, proj_size=1, norm=CellNorm(inputs="joint"))


@every_cell
@pytest.mark.parametrize("norm", [None, "output", "cell"])
def test_bad_input_of_a_layer(cell: str, norm: Any) -> None:
    layer = LAYERS[cell](3, 7, norm=norm)
    refused(ValueError, "input_size=3 features", layer, torch.randn(4, 2, 5))
    refused(ValueError, "must be (T, B, I) or (T, I), got shape (3,)", layer, torch.randn(3))
    refused(ValueError, "at least one time step", layer, torch.randn(0, 2, 3))
    refused(ValueError, "model.to(torch.float64)", layer, torch.randn(4, 2, 3).double())
    refused(TypeError, "the input must be a tensor", layer, [1.0])
    with torch.autocast("cpu", torch.bfloat16):  # it converts neither
        for x in (torch.ones(4, 2, 3).double(), torch.ones(4, 2, 3).long()):
            refused(ValueError, f"({x.dtype}) does not match weight dtype", layer, x)
    layer.batch_first = True
    refused(ValueError, "must be (B, T, I) or (T, I)", layer, torch.randn(1, 4, 2, 3))
    refused(ValueError, "at least one time step", layer, torch.randn(2, 0, 3))


@every_cell
@pytest.mark.parametrize("norm", [None, "output", "cell"])
def test_bad_states_of_a_layer(cell: str, norm: Any) -> None:
    layer, x = LAYERS[cell](3, 7, 2, norm=norm), torch.randn(4, 5, 3)

    def hx(*shape: int, dtype: torch.dtype = torch.float32) -> Any:
        h = torch.randn(shape).to(dtype)
        return (h, h) if cell == "lstm" else h

    expected = "h_0 must be (2, 5, 7) for this input"
    refused(ValueError, f"{expected}, got (1, 5, 7)", layer, x, hx(1, 5, 7))
    refused(ValueError, f"{expected}, got (2, 7)", layer, x, hx(2, 7))
    refused(ValueError, "h_0 must be (2, 7) for this input", layer, x[:, 0], hx(2, 1, 7))
    refused(ValueError, "h_0 must be torch.float32", layer, x, hx(2, 5, 7, dtype=torch.float64))
    with torch.autocast("cpu", torch.bfloat16):
        refused(ValueError, "h_0 must be torch.float32", layer, x, hx(2, 5, 7, dtype=torch.int64))
    wrong: Any = torch.randn(2, 5, 7) if cell == "lstm" else (torch.randn(2, 5, 7),)
    article = "a" if cell == "gru" else "an"
    refused(TypeError, f"the state of {article} {cell.upper()} is", layer, x, wrong)


def test_bad_cell_state_of_a_projected_lstm() -> None:
    layer = LSTM(3, 7, proj_size=5, norm="cell")
    state = torch.randn(1, 2, 5), torch.randn(1, 2, 5)
    refused(ValueError, "c_0 must be (1, 2, 7) for this input", layer, torch.randn(4, 2, 3), state)


def test_only_the_cell_state_may_be_wider_than_the_weights() -> None:
    x, h, c = torch.randn(4, 2, 3), torch.randn(1, 2, 7), torch.randn(1, 2, 7)
    x, narrow = x.bfloat16(), h.bfloat16()
    for norm, name in ((None, "c_0"), ("output", "c_0"), ("cell", "h_0")):
        layer = LSTM(3, 7, norm=norm, dtype=torch.bfloat16)
        cell = LSTMCell(3, 7, norm=None if norm == "output" else norm, dtype=torch.bfloat16)
        wrong = (narrow, c) if name == "c_0" else (h, c)
        message = f"{name} must be torch.bfloat16, got torch.float32"
        refused(ValueError, message, layer, x, wrong)
        refused(ValueError, message, cell, x[0], tuple(s[0] for s in wrong))
    message = "c_0 must be torch.bfloat16 or torch.float32, got torch.float64"
    refused(ValueError, message, LSTM(3, 7, norm="cell", dtype=x.dtype), x, (narrow, c.double()))
