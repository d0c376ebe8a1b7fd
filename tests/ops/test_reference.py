"""The reference against numbers worked by hand, its own derivatives, and definitions it is not."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy_twin
import pytest
import recurrences
import torch
import torch.nn.functional as F
from norm_cases import FEW, Case
from numerics import (
    BFLOAT16,
    DIFFERENT,
    EXACT,
    FLOAT32,
    assert_as_accurate,
    assert_close,
    relative_error,
)
from recurrences import arguments
from torch import Tensor

from lnrnn import CellNorm
from lnrnn.ops import ln_gru, ln_lstm, ln_rnn, project_input
from lnrnn.ops.reference import normalize

HIDDEN = 5


def doubles(*rows: Any) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def op(case: Case, **more: Any) -> Callable[..., tuple[Tensor, ...]]:
    return recurrences.op(case, fused=False, **more)


def test_rnn_worked_by_hand() -> None:
    """With eps = 3, the sums (0, 3, 6) and (6, 0, 3) have mean 3 and variance 6 + 3 = 3 squared.

    So N gives (-1, 0, 1) and (1, -1, 0); times (1, 1, 2) plus (2, 1, 0), through a relu, that is
    (1, 1, 2) and (3, 0, 0). The second sum is W_hh (1, 1, 2) = (6, 3, 9) less (0, 3, 6).
    """
    x = doubles([[0, 3, 6]], [[0, -3, -6]])
    weight_hh = doubles([2, 0, 2], [1, 0, 1], [1, 2, 3])
    gain, bias = doubles(1, 1, 2), doubles(2, 1, 0)
    output, h_n = ln_rnn(
        x,
        torch.zeros(1, 3).double(),
        weight_hh,
        gain,
        bias,
        nonlinearity="relu",
        eps=3.0,
        fused=False,
    )
    assert_close(output, doubles([[1, 1, 2]], [[3, 0, 0]]))
    assert_close(h_n, doubles([3, 0, 0]))


def test_lstm_worked_by_hand() -> None:
    """With no input and no recurrent weight every gate is 1/2 and the cell state halves.

    From (0, 12, 24) it goes to (0, 6, 12) and (0, 3, 6), with variances 24 and 6; eps = 6.25 makes
    the roots 5.5 and 3.5. What is carried stays unnormalized.
    """
    zeros = torch.zeros(1, 3, dtype=torch.float64)
    output, h_n, c_n = ln_lstm(
        torch.zeros(2, 1, 12, dtype=torch.float64),
        zeros,
        doubles([0, 12, 24]),
        torch.zeros(12, 3, dtype=torch.float64),
        torch.ones(12, dtype=torch.float64),
        None,
        doubles(1, 1, 2),
        doubles(0, 1, 0),
        eps=6.25,
        fused=False,
    )
    first = [math.tanh(-6 / 5.5) / 2, math.tanh(1) / 2, math.tanh(12 / 5.5) / 2]
    second = [math.tanh(-3 / 3.5) / 2, math.tanh(1) / 2, math.tanh(6 / 3.5) / 2]
    assert_close(output, doubles([first], [second]))
    assert_close(h_n, doubles(second))
    assert_close(c_n, doubles([0, 3, 6]))


def test_gru_worked_by_hand() -> None:
    """One step from h = (1, 2, 3) with W_hh = (0; 0; I): only n's norm sees anything.

    Variance 2/3, so eps = 1/3 makes the root 1 and N = (-1, 0, 1). r = z = 1/2 without input.
    """
    weight_hh = torch.cat([torch.zeros(6, 3), torch.eye(3)]).double()
    output, _ = ln_gru(
        torch.zeros(1, 1, 9, dtype=torch.float64),
        doubles([1, 2, 3]),
        weight_hh,
        2 * torch.ones(9, dtype=torch.float64),
        eps=1 / 3,
        fused=False,
    )
    n = math.tanh(1)
    assert_close(output, doubles([[0.5 - n / 2, 1, 1.5 + n / 2]]))


@pytest.mark.parametrize("case", FEW, ids=str)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_gradients(case: Case, reverse: bool) -> None:
    args = [arg.requires_grad_() for arg in arguments(case)]
    assert torch.autograd.gradcheck(op(case, reverse=reverse), args)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_gradients_of_packed_sequences(case: Case) -> None:
    args = [arg.requires_grad_() for arg in arguments(case)]
    packed = args[0].detach().flatten(0, 1)[:5].requires_grad_()
    function = op(case, batch_sizes=torch.tensor([2, 2, 1]), reverse=True)
    assert torch.autograd.gradcheck(function, [packed, *args[1:]])


@pytest.mark.parametrize("case", FEW, ids=str)
def test_gradients_of_gradients(case: Case) -> None:
    # With this seed no sum lies as near as finite differences reach, 1e-6, to relu's kink, where
    # there is no second derivative to compare.
    args = [arg.requires_grad_() for arg in arguments(case, steps=2, batch=1)]
    assert torch.autograd.gradgradcheck(op(case), args)


def test_gradients_of_gradients_of_the_input_side() -> None:
    shapes = [(1, 2), (15, 2), (15,), (15,), (15,)]
    args = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    for span in ("paper", "all", "gate"):
        for kind in ("layer", "rms"):

            def project(*args: Tensor, span: str = span, kind: str = kind) -> Tensor:
                return project_input(*args, gates=3, span=span, kind=kind, eps=1e-2)

            assert torch.autograd.gradcheck(project, args)
            assert torch.autograd.gradgradcheck(project, args)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_one_step_of_one_sequence(case: Case) -> None:
    args = arguments(case, steps=1, batch=1)
    output, h_n, *_ = op(case)(*args)
    assert output.shape == (1, 1, args[1].shape[1])
    assert torch.equal(output[0], h_n)
    assert torch.equal(op(case, reverse=True)(*args)[0], output)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_memory_layout_does_not_matter(case: Case) -> None:
    args = arguments(case)
    layouts = [a.transpose(0, 1).contiguous().transpose(0, 1) if a.dim() > 1 else a for a in args]
    assert not layouts[0].is_contiguous()
    for value, truth in zip(op(case)(*layouts), op(case)(*args), strict=True):
        assert_close(value, truth)


@pytest.mark.parametrize("case", FEW, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_smaller_dtypes_stay_near_the_truth(case: Case, dtype: torch.dtype) -> None:
    """Statistics in float32: a norm of small values must not drown in bfloat16's eps."""
    args = arguments(case, steps=12)
    truth = op(case)(*args)
    values = op(case)(*(arg.to(dtype) for arg in args))
    for value, exact in zip(values, truth, strict=True):
        assert_close(value, exact, FLOAT32 if dtype == torch.float32 else BFLOAT16)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_the_batch_reversed_is_as_accurate(case: Case) -> None:
    names = [f"argument {i}" for i in range(9)]
    args = [arg.float() for arg in arguments(case, steps=12, batch=3, project=False)]
    batched = 3 if case.cell == "lstm" else 2

    def flip(*args: Tensor) -> tuple[Tensor, ...]:
        flipped = [a.flip(-2) if i < batched else a for i, a in enumerate(args)]
        return tuple(result.flip(-2) for result in op(case, project=False)(*flipped))

    assert_as_accurate(flip, op(case, project=False), dict(zip(names, args, strict=False)))


def test_normalize_is_torch_layer_norm() -> None:
    v, gain, shift = (torch.randn(s, dtype=torch.float64) for s in ((4, 11), (11,), (11,)))
    truth = F.layer_norm(v, (11,), gain, shift, 1e-3)
    assert_close(normalize(v, gain, shift, widths=[11], kind="layer", eps=1e-3), truth)


def test_normalize_of_half_precision_has_float32_statistics() -> None:
    """Values around 256 with a spread of 2: their mean of squares needs more than bfloat16."""
    v = (256 + 2 * torch.randn(3, 64)).bfloat16()
    ones = torch.ones(64, dtype=torch.bfloat16)
    for kind in ("layer", "rms"):
        value = normalize(v, ones, None, widths=[64], kind=kind, eps=1e-5)
        truth = normalize(v.double(), ones.double(), None, widths=[64], kind=kind, eps=1e-5)
        assert value.dtype == torch.float32
        assert relative_error(value, truth) < FLOAT32


def unbiased(v: np.ndarray, kind: str, eps: float) -> np.ndarray:
    return (v - v.mean()) / np.sqrt(v.var(ddof=1) + eps)


def eps_outside(v: np.ndarray, kind: str, eps: float) -> np.ndarray:
    return (v - v.mean()) / (v.std() + eps)


@pytest.mark.parametrize("rejected", [unbiased, eps_outside])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_other_norms_differ(cell: str, rejected: Callable[..., Any]) -> None:
    layer = Case(cell, CellNorm()).layer(fused=False)
    p = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    zeros = np.zeros((1, layer.hidden_size))
    xs = torch.randn(6, layer.input_size, dtype=torch.float64)

    def twin(norm_of: Callable[..., Any]) -> Tensor:
        output, _, _ = numpy_twin.run_layer(
            cell,
            p,
            xs.numpy(),
            zeros,
            zeros,
            settings=CellNorm(),
            eps=layer.eps,
            num_layers=1,
            bidirectional=False,
            norm_of=norm_of,
        )
        return torch.from_numpy(output)

    output, _ = layer(xs)
    assert relative_error(output, twin(numpy_twin.norm_of)) < EXACT
    assert relative_error(output, twin(rejected)) > DIFFERENT


@pytest.mark.parametrize(
    "norm",
    [CellNorm(cell="state"), CellNorm(span="gate"), CellNorm(kind="rms"), CellNorm(cell=None)],
    ids=["carried normalized cell", "per-gate norm", "rms", "no cell norm"],
)
def test_other_lstms_differ(norm: CellNorm) -> None:
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    ours = Case("lstm", CellNorm()).layer(fused=False)
    other = Case("lstm", norm).layer(fused=False)
    other.load_state_dict(ours.state_dict(), strict=False)
    assert relative_error(other(x)[0], ours(x)[0]) > DIFFERENT


def test_a_bias_inside_the_recurrent_norm_differs() -> None:
    args = arguments(Case("rnn", CellNorm()), steps=1, project=False)
    x, h_0, weight_hh, gain, bias = args
    ours, _ = ln_rnn(*args, joint=False, fused=False)
    inside = torch.tanh(x[0] + gain * F.layer_norm(h_0 @ weight_hh.T + bias, (HIDDEN,)))
    assert relative_error(inside, ours[0]) > DIFFERENT
