"""The accuracy check itself: it must pass what is right and catch what is not."""

from collections.abc import Callable

import pytest
import torch
from numerics import assert_as_accurate, nudged, output_and_grads
from torch import Tensor

from lnrnn.ops import ln_rnn

HIDDEN = 37


def arguments(steps: int, dtype: torch.dtype, scale: float = 1.0) -> dict[str, Tensor]:
    """Return the arguments of a separate-norm RNN, whose recurrent side is scaled."""
    return {
        "x": torch.randn(steps, 3, HIDDEN, dtype=dtype),
        "h_0": torch.randn(3, HIDDEN, dtype=dtype),
        "weight_hh": (scale * torch.randn(HIDDEN, HIDDEN)).to(dtype),
        "gain": torch.rand(HIDDEN).add(0.5).to(dtype),
        "bias_hh": torch.randn(HIDDEN, dtype=dtype),
    }


def rnn(*args: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    return ln_rnn(*args, joint=False, eps=eps)


def permuted(order: Tensor) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the same RNN with its hidden units in another order."""
    back = order.argsort()

    def run(x: Tensor, h: Tensor, w: Tensor, gain: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        output, h_n = rnn(x[..., order], h[:, order], w[order][:, order], gain[order], bias[order])
        return output[..., back], h_n[:, back]

    return run


def batch_reversed(x: Tensor, h: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    output, h_n = rnn(x.flip(1), h.flip(0), *rest)
    return output.flip(1), h_n.flip(0)


def unbiased(x: Tensor, h: Tensor, w: Tensor, gain: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a variance divided by H - 1 gives."""
    outputs = []
    for x_t in x:
        v = h @ w.T
        n = (v - v.mean(-1, keepdim=True)) / (v.var(-1, keepdim=True) + 1e-5).sqrt()
        h = torch.tanh(x_t + gain * n + bias)
        outputs.append(h)
    return torch.stack(outputs), h


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("draw", range(4))
def test_the_reference_in_another_order_passes(draw: int, dtype: torch.dtype) -> None:
    torch.manual_seed(draw)
    assert_as_accurate(permuted(torch.randperm(HIDDEN)), rnn, arguments(24, dtype))


@pytest.mark.parametrize("draw", range(4))
def test_long_sequences_need_alike_runs_and_pass_with_them(draw: int) -> None:
    torch.manual_seed(draw)
    alike = [batch_reversed, *(permuted(torch.randperm(HIDDEN)) for _ in range(2))]
    kernel = permuted(torch.randperm(HIDDEN))
    args = arguments(128, torch.float32)
    assert_as_accurate(kernel, rnn, args, slack=10.0, alike=alike)


def test_float32_rejects_another_eps() -> None:
    with pytest.raises(AssertionError, match="is off by"):
        assert_as_accurate(lambda *a: rnn(*a, eps=1e-4), rnn, arguments(24, torch.float32))


def test_float32_rejects_an_unbiased_variance() -> None:
    with pytest.raises(AssertionError, match="is off by"):
        assert_as_accurate(unbiased, rnn, arguments(24, torch.float32))


def test_bfloat16_rejects_another_eps_where_the_variance_is_small() -> None:
    args = arguments(24, torch.bfloat16, scale=2e-3)
    assert_as_accurate(permuted(torch.randperm(HIDDEN)), rnn, args)
    with pytest.raises(AssertionError, match="is off by"):
        assert_as_accurate(lambda *a: rnn(*a, eps=1e-4), rnn, args)


def test_a_value_that_is_not_finite_is_rejected() -> None:
    def broken(*args: Tensor) -> tuple[Tensor, Tensor]:
        output, h_n = rnn(*args)
        return output + torch.nan, h_n

    with pytest.raises(AssertionError, match="output 0 has a value that is not finite"):
        assert_as_accurate(broken, rnn, arguments(3, torch.float32))


def test_a_wrong_gradient_is_rejected_by_name() -> None:
    def detached(x: Tensor, h: Tensor, w: Tensor, gain: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return rnn(x, h, w, gain.detach() + 0 * gain, b)

    with pytest.raises(AssertionError, match="gradient of gain is off by"):
        assert_as_accurate(detached, rnn, arguments(3, torch.float32))


def test_the_cotangent_is_not_ones() -> None:
    x = torch.randn(3, 7, dtype=torch.float64)
    _, grad = output_and_grads(lambda v: torch.nn.functional.layer_norm(v, (7,)), [x])
    assert grad.abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_nudged_arguments_are_all_one_rounding_off(dtype: torch.dtype) -> None:
    value = torch.rand(50, dtype=dtype) + 1
    (moved,) = nudged(lambda *args: args, 0)(value)
    assert moved.dtype == dtype
    away = (moved - value).abs() / torch.finfo(dtype).eps
    assert ((away >= 0.5) & (away <= 2)).all()
