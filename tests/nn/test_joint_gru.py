"""A GRU whose norms cover the sum of both sides: the equations, gradients, and no kernel for it."""

from typing import Any

import pytest
import torch
from norm_cases import (
    CELLS,
    HIDDEN_SIZE,
    INPUT_SIZE,
    JOINT_GRU,
    Case,
    randomized,
    states,
)
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from twin_layers import assert_equals_twin

import lnrnn
from lnrnn import CellNorm, ops

every_case = pytest.mark.parametrize("case", JOINT_GRU, ids=str)


@every_case
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "both-ways"])
def test_layers_equal_the_twin(case: Case, bidirectional: bool) -> None:
    layer = case.layer(num_layers=2, bidirectional=bidirectional)
    x = torch.randn(5, 2, INPUT_SIZE, dtype=torch.float64)
    assert_equals_twin(case, layer, x, states(layer, 2))


@every_case
def test_spans_differ(case: Case) -> None:
    """In one norm over all gates the reset cannot be inside: the others are another function."""
    layer = case.layer()
    x = torch.randn(5, 2, INPUT_SIZE, dtype=torch.float64)
    for other in JOINT_GRU:
        if (other.norm.kind, other.bias) == (case.norm.kind, case.bias) and other != case:
            same = other.layer()
            same.load_state_dict(layer.state_dict())
            assert (same(x)[0] - layer(x)[0]).abs().max() > 1e-3


@every_case
def test_gradients_and_their_gradients(case: Case) -> None:
    layer = case.layer(eps=1e-2)
    names = [name for name, _ in layer.named_parameters()]
    x = torch.randn(2, 2, INPUT_SIZE, dtype=torch.float64, requires_grad=True)
    (h_0,) = (s.requires_grad_() for s in states(layer, 2))

    def call(*tensors: torch.Tensor) -> Any:
        x, h_0, *values = tensors
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(layer, parameters, (x, h_0))

    tensors = (x, h_0, *layer.parameters())
    assert torch.autograd.gradcheck(call, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, tensors, fast_mode=True)


@every_case
def test_packed_sequences_equal_each_alone(case: Case) -> None:
    layer = case.layer(bidirectional=True)
    x, lengths = torch.randn(5, 3, INPUT_SIZE, dtype=torch.float64), [2, 5, 3]
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    packed, h_n = layer(packed)
    output, _ = pad_packed_sequence(packed)
    for row, length in enumerate(lengths):
        alone, last = layer(x[:length, row])
        torch.testing.assert_close(output[:length, row], alone, rtol=0, atol=1e-14)
        torch.testing.assert_close(h_n[:, row], last, rtol=0, atol=1e-14)


@every_case
def test_a_cell_computes_what_a_layer_does(case: Case) -> None:
    layer = case.layer()
    cell = CELLS["gru"](
        INPUT_SIZE, HIDDEN_SIZE, dtype=torch.float64, eps=layer.eps, **case.options()
    )
    cell.load_state_dict({n.removesuffix("_l0"): v for n, v in layer.state_dict().items()})
    x = torch.randn(2, INPUT_SIZE, dtype=torch.float64)
    assert torch.equal(cell(x), layer(x[None])[0][0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_norms_are_computed_in_float32_or_better(dtype: torch.dtype) -> None:
    truth = JOINT_GRU[0].layer()
    layer = JOINT_GRU[0].layer(dtype=dtype)
    layer.load_state_dict(truth.state_dict())
    x = torch.randn(5, 2, INPUT_SIZE, dtype=torch.float64)
    truth.load_state_dict({name: v.double() for name, v in layer.state_dict().items()})
    output = layer(x.to(dtype))[0]
    assert output.dtype == dtype
    bound = 0.05 if dtype == torch.bfloat16 else 1e-5  # a few roundings of values up to 1
    assert (output.double() - truth(x.to(dtype).double())[0]).abs().max() < bound


def test_a_kernel_that_is_insisted_on_is_refused() -> None:
    norm = CellNorm(inputs="joint", span="gate")
    x = torch.randn(4, 2, 3)
    for fused in (None, False):
        lnrnn.GRU(3, 7, norm=norm, fused=fused)(x)
    with pytest.raises(NotImplementedError, match="a norm of the sum in a GRU is computed by the"):
        lnrnn.GRU(3, 7, norm=norm, fused=True)(x)


def test_parameters_and_their_start() -> None:
    layer = lnrnn.GRU(3, 7, norm=CellNorm(inputs="joint", gain_init=0.5))
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert list(shapes)[4:] == ["gain_l0", "shift_l0"]
    assert shapes["gain_l0"] == shapes["shift_l0"] == (21,)
    assert torch.equal(layer.get_parameter("gain_l0"), torch.full((21,), 0.5))
    assert not layer.get_parameter("shift_l0").any()
    assert layer.get_parameter("bias_hh_l0").any()


def test_the_op_refuses_a_shift_without_its_norm() -> None:
    layer = randomized(lnrnn.GRU(3, 7, norm="cell"))
    args = (torch.randn(4, 2, 21), torch.zeros(2, 7), layer.weight_hh_l0, layer.gain_hh_l0)
    with pytest.raises(ValueError, match="shift follows a joint norm"):
        ops.ln_gru(*args, shift=torch.zeros(21))
    with pytest.raises(ValueError, match=r"shift must be \(21,\), got \(7,\)"):
        ops.ln_gru(*args, joint=True, shift=torch.zeros(7))


def test_too_little_to_normalize() -> None:
    with pytest.raises(ValueError, match="hidden_size=1 gives"):
        lnrnn.GRU(3, 1, norm=CellNorm(inputs="joint"))
    lnrnn.GRU(1, 7, norm=CellNorm(inputs="joint"), bias=False)
