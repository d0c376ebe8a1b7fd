"""One-step cells: the numbers of the layers, the names of torch's cells."""

import copy
import pickle
from typing import Any

import pytest
import torch
from norm_cases import CELLS, FEW, LAYERS, TORCH_CELLS, Case, randomized, run, states
from numerics import assert_close, assert_equal, cotangents
from torch import Tensor

from lnrnn import CellNorm

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
