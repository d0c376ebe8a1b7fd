"""One-step cells: the numbers of the layers, the names of torch's cells."""

import copy
import pickle
from typing import Any

import pytest
import torch
from norm_cases import CELLS, FEW, LAYERS, TORCH_CELLS, Case, randomized, run, states
from numerics import assert_close, assert_equal, cotangents
from torch import Tensor

import lnrnn
from lnrnn import CellNorm
from lnrnn.nn.regularizers import Regularizers

every_cell = pytest.mark.parametrize("cell", list(CELLS))


def step(module: Any, x: Tensor, state: tuple[Tensor, ...] | None) -> tuple[Tensor, ...]:
    """Run a cell of any kind and return its states."""
    result = module(x, state[0] if state is not None and len(state) == 1 else state)
    return (result,) if isinstance(result, Tensor) else tuple(result)


def cell_of(case: Case) -> tuple[Any, Any]:
    """Return a layer of the case and a cell with the same parameters."""
    layer = case.layer()
    options = {name: value for name, value in case.options().items() if name != "proj_size"}
    cell = CELLS[case.cell](3, 7, eps=layer.eps, dtype=torch.float64, **options)
    cell.load_state_dict(
        {name.removesuffix("_l0"): value for name, value in layer.state_dict().items()}
    )
    return layer, cell


@pytest.mark.parametrize("case", [case for case in FEW if not case.proj_size], ids=str)
def test_steps_equal_the_layer(case: Case) -> None:
    layer, cell = cell_of(case)
    x, initial = torch.randn(5, 2, 3, dtype=torch.float64), states(layer, 2)
    output, *final = run(layer, x, initial)
    state = tuple(s[0] for s in initial)
    outputs = []
    for x_t in x:
        state = step(cell, x_t, state)
        outputs.append(state[0])
    assert_close(torch.stack(outputs), output)
    for value, truth in zip(state, final, strict=True):
        assert_close(value, truth[0])
    grads = torch.autograd.grad(torch.stack(outputs), list(cell.parameters()), cotangents([output]))
    expected = torch.autograd.grad(output, list(layer.parameters()), cotangents([output]))
    for value, truth in zip(grads, expected, strict=True):
        assert_close(value, truth)


@every_cell
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "nobias"])
def test_without_a_norm_equals_torch(cell: str, bias: bool) -> None:
    for options in [{}, {"nonlinearity": "relu"}] if cell == "rnn" else [{}]:
        torch.manual_seed(1)
        theirs = TORCH_CELLS[cell](3, 7, bias, **options)
        torch.manual_seed(1)
        ours = CELLS[cell](3, 7, bias, **options)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        ours.load_state_dict(theirs.state_dict())
        for parameter, truth in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert_equal(parameter, truth)
        x = torch.randn(2, 3)
        state = tuple(torch.randn(2, 7) for _ in range(1 + (cell == "lstm")))
        for given in (None, state):
            for value, truth in zip(step(ours, x, given), step(theirs, x, given), strict=True):
                assert_equal(value, truth)


@every_cell
@pytest.mark.parametrize("norm", [None, "cell"])
def test_one_row_alone(cell: str, norm: str | None) -> None:
    module = randomized(CELLS[cell](3, 7, norm=norm, dtype=torch.float64))
    x = torch.randn(2, 3, dtype=torch.float64)
    state = tuple(torch.randn(2, 7, dtype=torch.float64) for _ in range(1 + (cell == "lstm")))
    for given in (None, state):
        truth = step(module, x, given)
        alone = step(module, x[0], given and tuple(s[0] for s in given))
        for value, expected in zip(alone, truth, strict=True):
            assert value.shape == (7,)
            assert_close(value, expected[0])


@every_cell
def test_equal_seeds_draw_what_torch_draws(cell: str) -> None:
    torch.manual_seed(1)
    theirs = TORCH_CELLS[cell](3, 7)
    torch.manual_seed(1)
    ours = CELLS[cell](3, 7, norm=CellNorm(gain_init=0.5))
    for name, parameter in theirs.named_parameters():
        assert_equal(ours.get_parameter(name), parameter)
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not unexpected
    assert missing
    for name in missing:
        start = 0.5 if name.startswith("gain") else 0.0
        assert_equal(ours.get_parameter(name), torch.full_like(ours.get_parameter(name), start))


@every_cell
def test_copies_autocast_and_repr(cell: str) -> None:
    module, x = randomized(CELLS[cell](3, 7, norm="cell")), torch.randn(2, 3)
    truth = step(module, x, None)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert_equal(step(other, x, None)[0], truth[0])
    with torch.autocast("cpu", torch.bfloat16):
        state = step(module, x, step(module, x, None))
    assert [s.dtype for s in state] == [torch.bfloat16] + [torch.float32] * (cell == "lstm")
    assert repr(module).endswith("Cell(3, 7, norm='cell', eps=1e-05)")


@every_cell
def test_bfloat16_takes_back_the_states_it_gives(cell: str) -> None:
    module = randomized(CELLS[cell](3, 7, norm="cell", dtype=torch.bfloat16))
    x = torch.randn(2, 3, dtype=torch.bfloat16)
    state = step(module, x, step(module, x, None))
    assert {s.dtype for s in state} == {torch.bfloat16}


@every_cell
def test_a_cell_has_no_output_norm(cell: str) -> None:
    with pytest.raises(ValueError, match=r"apply torch\.nn\.LayerNorm to the output yourself"):
        CELLS[cell](3, 7, norm="output")


@every_cell
def test_the_fused_argument(cell: str) -> None:
    module = CELLS[cell](3, 7, norm="cell", fused=True)
    module(torch.randn(2, 3))
    with pytest.raises(NotImplementedError, match="fused=None"):
        module.to("meta")(torch.randn(2, 3, device="meta"))


@every_cell
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.randn(2, 4), r"input_size=3 features .* got shape \(2, 4\)"),
        (torch.randn(5, 2, 3), r"must be \(B, I\) or \(I,\), got shape \(5, 2, 3\)"),
        (torch.randn(2, 3).double(), r"\(torch.float64\) does not match weight dtype"),
    ],
)
def test_bad_input(cell: str, x: Tensor, message: str) -> None:
    for norm in (None, "cell"):
        with pytest.raises(ValueError, match=message):
            CELLS[cell](3, 7, norm=norm)(x)


@every_cell
def test_bad_states(cell: str) -> None:
    module, x = CELLS[cell](3, 7, norm="cell"), torch.randn(2, 3)
    good = torch.randn(2, 7)
    wrong: Any = good if cell == "lstm" else (good, good)
    with pytest.raises(TypeError, match=r"the state of an? "):
        module(x, wrong)
    with pytest.raises(ValueError, match=r"h_0 must be \(2, 7\) for this input, got \(1, 7\)"):
        step(module, x, tuple(good[:1] for _ in range(1 + (cell == "lstm"))))


@every_cell
def test_names_are_the_layers_without_their_suffix(cell: str) -> None:
    for norm in (None, "cell", CellNorm(inputs="separate", cell=None)):
        names = [name for name, _ in CELLS[cell](3, 7, norm=norm).named_parameters()]
        layer = LAYERS[cell](3, 7, norm=norm)
        assert names == [name.removesuffix("_l0") for name, _ in layer.named_parameters()]


OPTIONS: dict[str, dict[str, Any]] = {
    "rnn": {"zoneout": 0.3},
    "lstm": {"zoneout": 0.3, "zoneout_c": 0.2, "recurrent_dropout": 0.4},
    "gru": {"zoneout": 0.3, "recurrent_dropout": 0.4},
}


def twins(cell: str, norm: Any, dtype: torch.dtype = torch.float64) -> tuple[Any, Any]:
    """Return a layer and a cell with its parameters, both with all that is random in a step."""
    options = {"norm": norm, "dtype": dtype, **OPTIONS[cell]}
    layer = randomized(LAYERS[cell](3, 7, **options))
    alone = CELLS[cell](3, 7, **options)
    values = {name.removesuffix("_l0"): value for name, value in layer.state_dict().items()}
    alone.load_state_dict(values)
    return layer, alone


@pytest.mark.parametrize("norm", [None, "cell"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_trained_layer_with_zoneout_runs_step_by_step(cell: str, norm: Any) -> None:
    layer, alone = twins(cell, norm)
    layer.eval(), alone.eval()
    x, state = torch.randn(5, 2, 3, dtype=torch.float64), None
    output = layer(x)[0]
    for x_t, expected in zip(x, output, strict=True):
        state = alone(x_t, state)
        torch.testing.assert_close(state[0] if cell == "lstm" else state, expected)
    plain = CELLS[cell](3, 7, norm=norm, dtype=torch.float64)
    plain.load_state_dict(alone.state_dict())
    assert not torch.allclose(plain(x[0])[0], alone(x[0])[0])


@pytest.mark.parametrize("norm", [None, "cell"])
@pytest.mark.parametrize("cell", CELLS)
def test_in_training_a_cell_draws_what_a_layer_draws_for_one_step(cell: str, norm: Any) -> None:
    layer, alone = twins(cell, norm)
    x = torch.randn(1, 4, 3, dtype=torch.float64)
    results = []
    for call in (lambda: layer(x)[0][0], lambda: alone(x[0]), lambda: alone(x[0])):
        torch.manual_seed(5)
        result = call()
        results.append(result[0] if isinstance(result, tuple) else result)
    torch.testing.assert_close(results[0], results[1])
    assert torch.equal(results[1], results[2])
    later = alone(x[0])
    assert not torch.equal(later[0] if cell == "lstm" else later, results[2])
    results[1].sum().backward()
    assert all(p.grad is not None for n, p in alone.named_parameters() if "ih" not in n)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("norm", [None, "cell"])
@pytest.mark.parametrize("cell", CELLS)
def test_zoneout_changes_no_dtype(cell: str, norm: Any, dtype: torch.dtype) -> None:
    _, alone = twins(cell, norm, dtype)
    x, state = torch.randn(2, 3, dtype=dtype), None
    for _ in range(2):
        state = alone(x, state)
        for value in state if isinstance(state, tuple) else (state,):
            assert value.dtype == dtype


def test_gates_of_cells_start_as_those_of_layers() -> None:
    lstm = lnrnn.LSTMCell(3, 7, norm="cell", forget_bias=1.0)
    assert lstm.bias_hh is not None
    assert lstm.bias_hh[7:14].eq(1).all()
    gru = lnrnn.GRUCell(3, 7, update_bias=-1.0, recurrent_init="orthogonal")
    assert gru.bias_hh is not None
    assert gru.bias_hh[7:14].eq(-1).all()
    part = gru.weight_hh.detach()[:7]
    torch.testing.assert_close(part @ part.T, torch.eye(7), rtol=0, atol=1e-5)
    with pytest.raises(TypeError, match="'haste_lstm' says where biases start, and forget_bias"):
        lnrnn.LSTMCell.from_preset("haste_lstm", 3, 7, forget_bias=2.0)
    haste = lnrnn.LSTMCell.from_preset("haste_lstm", 3, 7, zoneout=0.1)
    assert repr(haste).endswith("zoneout=0.1)")


def test_cells_refuse_masks_of_whole_sequences_and_what_they_do_not_have() -> None:
    make: Any = lnrnn.LSTMCell
    for name in ("variational_dropout", "weight_drop"):
        with pytest.raises(ValueError, match=rf"LSTMCell takes no {name}, .* train a lnrnn\.LSTM"):
            make(3, 7, **{name: 0.1})
    gru: Any = lnrnn.GRUCell
    with pytest.raises(TypeError, match="GRUCell got an unexpected keyword argument 'zoneout_c'"):
        gru(3, 7, zoneout_c=0.1)
    cell = lnrnn.GRUCell(3, 7)
    cell.regularizers = Regularizers(zoneout=0.5)
    with pytest.raises(ValueError, match="takes no weight_drop"):
        cell.regularizers = Regularizers(weight_drop=0.1)


def test_a_cell_pickled_without_them_still_runs() -> None:
    cell = lnrnn.LSTMCell(3, 7)
    for name in ("regularizers", "starts"):
        del cell.__dict__[name]
    cell(torch.randn(2, 3))
    cell.reset_parameters()
    assert repr(cell) == "LSTMCell(3, 7)"
