"""Whole layers by way of the operators, as on a GPU: autograd, autocast, packing, compilation."""

import copy
from typing import Any

import pytest
import torch
from interp.strict import rounded_bfloat16
from norm_cases import CELLS, FEW, LAYERS, Case, randomized, run, states
from numerics import BFLOAT16, assert_close, assert_equal, cotangents, output_and_grads
from recurrences import arguments, op
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from lnrnn import CellNorm
from lnrnn.ops import fused
from lnrnn.ops.gates import GATES

LENGTHS = torch.tensor([2, 3, 1])
every_cell = pytest.mark.parametrize("cell", list(LAYERS))
few = pytest.mark.parametrize("case", FEW, ids=str)


def results(layer: Any, x: Any, state: Any) -> list[Tensor]:
    """Return outputs, final states and the gradients of all parameters and states."""
    leaves = tuple(s.clone().requires_grad_() for s in state)
    output, *final = run(layer, x, leaves)
    values = [output.data if isinstance(output, PackedSequence) else output, *final]
    wanted = [*layer.parameters(), *leaves]
    return [*values, *torch.autograd.grad(values, wanted, cotangents(values))]


def twins(cell: str, **options: Any) -> tuple[Any, Any]:
    """Return a layer on kernels and the same on the reference."""
    settings = {"num_layers": 2, "bidirectional": True, "dtype": torch.float64, **options}
    layer = randomized(LAYERS[cell](3, 7, norm="cell", eps=1e-3, fused=True, **settings))
    other = copy.deepcopy(layer)
    other.fused = False
    return layer, other


@every_cell
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_layers_equal_the_reference(cell: str, packed: bool) -> None:
    layer, other = twins(cell, batch_first=True)
    x: Any = torch.randn(3, 3, 3, dtype=torch.float64)
    if packed:
        x = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    state = states(layer, 3)
    for value, truth in zip(results(layer, x, state), results(other, x, state), strict=True):
        assert_close(value, truth)


@every_cell
def test_autocast_layers_are_near_the_reference(cell: str) -> None:
    layer, other = twins(cell, dtype=torch.float32)
    x, state = torch.randn(3, 2, 3), states(layer, 2)
    with torch.autocast("cpu", torch.bfloat16), rounded_bfloat16():
        values, truths = (results(f, x, state) for f in (layer, other))
    assert values[0].dtype == torch.bfloat16
    for value, truth in zip(values, truths, strict=True):
        assert value.dtype == truth.dtype
        assert_close(value, truth, BFLOAT16)


@every_cell
def test_bfloat16_layers_are_near_the_reference(cell: str) -> None:
    layer, other = twins(cell, dtype=torch.bfloat16)
    x, state = torch.randn(3, 2, 3).bfloat16(), states(layer, 2)
    with rounded_bfloat16():
        values, truths = (results(f, x, state) for f in (layer, other))
    for value, truth in zip(values, truths, strict=True):
        assert value.dtype == truth.dtype
        assert_close(value, truth, BFLOAT16)


@every_cell
def test_one_step_cells_equal_the_reference(cell: str) -> None:
    module = randomized(CELLS[cell](3, 7, norm=CellNorm(kind="rms"), dtype=torch.float64))
    module.fused = True
    other = copy.deepcopy(module)
    other.fused = False
    x = torch.randn(2, 3, dtype=torch.float64)
    values, truths = (f(x) if isinstance(f(x), tuple) else (f(x),) for f in (module, other))
    for value, truth in zip(values, truths, strict=True):
        assert_close(value, truth)


@every_cell
def test_gradients_accumulate(cell: str) -> None:
    layer, _ = twins(cell, num_layers=1, bidirectional=False)
    x = torch.randn(2, 2, 3, dtype=torch.float64)
    grads = []
    for _ in range(2):
        run(layer, x)[0].square().sum().backward()
        grads.append([p.grad.clone() for p in layer.parameters()])
    for once, twice in zip(*grads, strict=True):
        assert_equal(twice, 2 * once)


@few
def test_gradients_of_gradients_take_the_reference(case: Case) -> None:
    args = [a.requires_grad_() for a in arguments(case, steps=2, batch=1)]
    truth: list[Tensor] = []
    value: list[Tensor] = []
    for found, taken in ((truth, False), (value, True)):
        output = op(case, fused=taken)(*args)[0]
        (grad,) = torch.autograd.grad(output.square().sum(), args[:1], create_graph=True)
        found += torch.autograd.grad(grad.square().sum(), args, materialize_grads=True)
    for one, other in zip(value, truth, strict=True):
        assert_close(one, other)


@few
def test_a_compiled_recurrence_is_one_node(case: Case) -> None:
    args = [a.requires_grad_() for a in arguments(case, steps=2)]
    compiled = torch.compile(op(case, fused=True), fullgraph=True, backend="aot_eager")
    found = [output_and_grads(f, args) for f in (compiled, op(case, fused=True))]
    for value, truth in zip(*found, strict=True):
        assert_equal(value, truth)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["float64", "bfloat16"])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_operators_are_what_their_schemas_say(name: str, dtype: torch.dtype) -> None:
    hidden, gates = 5, len(GATES[name])
    wide = torch.promote_types(dtype, torch.float32)
    which = {"rnn": fused.RNN, "lstm": fused.LSTM, "gru": fused.GRU}[name]
    narrow = {"h_0": (2, 5), "weight_hh": (gates * hidden, 5), "weight_hr": (5, 5)}
    shapes = {"x": (3, 2, gates * hidden), "c_0": (2, 5), "gain_c": (5,), "shift_c": (5,)}
    shapes |= {"gain": (gates * hidden,), "bias_hh": (gates * hidden,), **narrow}
    tensors = [
        torch.randn(shapes[n], dtype=dtype if n in narrow else wide) if n in shapes else None
        for n in (name.rstrip("?") for name in which.tensors)  # x has been projected
    ]
    options: tuple[Any, ...] = {
        "rnn": (True, False),
        "lstm": (False, [1, 1, 1, 1], "output"),
        "gru": ([2, 1],),
    }[name]
    rest = (None, True, *options, True, 1e-2, None, None)
    checks = ("test_schema", "test_faketensor")
    forward = getattr(torch.ops.lnrnn, which.name).default
    torch.library.opcheck(forward, (*tensors, *rest, True), test_utils=checks)
    kept = forward(*tensors, *rest, True)
    grads = [torch.randn_like(result) for result in kept[: 1 + which.states]]
    backward = getattr(torch.ops.lnrnn, f"{which.name}_backward").default
    needed = [True, True, True]
    every = (*grads, *tensors, *kept, *rest, needed)
    torch.library.opcheck(backward, every, test_utils=checks)


def test_the_operators_run_in_the_weights_dtype_whatever_autocast_says() -> None:
    """Called as they are, without the function that casts for autocast."""
    args = arguments(FEW[0], steps=2, dtype=torch.float32, project=False)
    rest = (*[None] * 5, False, True, False, True, 1e-2, None, None, False)
    truth = torch.ops.lnrnn.ln_rnn(*args, *rest)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert_equal(torch.ops.lnrnn.ln_rnn(*args, *rest)[0], truth)
