"""One layer of torch's own recurrence as an operator, which a graph holds as one node.

`torch.compile` and `torch.export` cannot keep `torch.nn`'s recurrences whole: they write out every
step, which fixes the number of steps and compiles for longer the more there are, and torch 2.13
fails on the gradient of the LSTM. In a graph that may not be interrupted, or whose steps are left
open, layers without a norm inside the step call this operator instead. It runs what
`torch.nn` runs; its backward runs that again with autograd watching.

Dimensions: T time steps, B sequences, I input features, H hidden units, R recurrent features, D
directions.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# What torch's own layers call, by torch's name of the mode.
RECURRENCES = {
    "RNN_TANH": torch._VF.rnn_tanh,
    "RNN_RELU": torch._VF.rnn_relu,
    "LSTM": torch._VF.lstm,
    "GRU": torch._VF.gru,
}
# Asked here once, since a graph that is being recorded cannot ask.
_ONEDNN_HAS: dict[torch.dtype, bool] = {}
if torch.backends.mkldnn.is_available():
    _ONEDNN_HAS[torch.bfloat16] = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    _ONEDNN_HAS[torch.float16] = torch.ops.mkldnn._is_mkldnn_fp16_supported()

_TENSORS = "Tensor x, Tensor h_0, Tensor? c_0, Tensor[] weights, str mode, bool bias"
SCHEMA = f"torch_layer({_TENSORS}) -> (Tensor, Tensor, Tensor)"
_GRADS = "Tensor d_output, Tensor d_h_n, Tensor d_c_n"
_BACKWARD_SCHEMA = f"torch_layer_backward({_GRADS}, {_TENSORS}) -> Tensor[]"

_LIBRARY = torch.library.Library("lnrnn", "FRAGMENT")


def call(
    mode: str, x: Tensor, hx: Any, weights: Sequence[Tensor], *settings: Any
) -> tuple[Tensor, ...]:
    """Call torch's own recurrence on padded input.

    Under autocast torch gives an LSTM to oneDNN in autocast's dtype, and fails on CPUs for which
    oneDNN has none: for bfloat16 those without AVX-512. There it is computed in float32, and what
    comes out has autocast's dtype, as where oneDNN computes it.

    Args:
        mode: torch's name of the recurrence, a key of `RECURRENCES`.
        x: Input.
        hx: Initial states as torch takes them, a tensor or for the LSTM a pair.
        weights: Parameters in torch's order.
        *settings: What else torch takes.

    Returns:
        What torch returns.
    """
    if mode != "LSTM" or not _onednn_fails(x, hx, weights):
        return RECURRENCES[mode](x, hx, weights, *settings)
    dtype = torch.get_autocast_dtype("cpu")
    with torch.autocast("cpu", enabled=False):
        wide = tuple(state.float() for state in hx)
        results = RECURRENCES[mode](x.float(), wide, weights, *settings)
    return tuple(result.to(dtype) for result in results)


def _onednn_fails(x: Tensor, hx: Sequence[Tensor], weights: Sequence[Tensor]) -> bool:
    """Return whether torch would ask oneDNN for an LSTM that it does not have."""
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return False
    projects = hx[0].shape[-1] != hx[1].shape[-1]
    asks = torch.backends.mkldnn.enabled and x.numel() > 0 and not projects
    if not asks or weights[0].dtype != torch.float32:
        return False
    return not _ONEDNN_HAS.get(torch.get_autocast_dtype("cpu"), True)


def run(
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    mode: str,
    bias: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run one layer of torch's recurrence as one node of a graph.

    Args:
        x: Input, (T, B, I).
        state: h_0, (D, B, R), and for the LSTM c_0, (D, B, H).
        weights: The layer's parameters in torch's order, direction by direction.
        mode: torch's name of the recurrence, a key of `RECURRENCES`.
        bias: Whether there are biases among the weights.

    Returns:
        The output, (T, B, D * R), and the final states, shaped as ``state``.
    """
    c_0 = state[1] if len(state) == 2 else None
    tensors = (x, *state, *weights)
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        output, *final = _Layer.apply(mode, bias, x, state[0], c_0, *weights)
    else:
        output, *final = torch.ops.lnrnn.torch_layer(x, state[0], c_0, weights, mode, bias)
    return output, tuple(final[: len(state)])


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx, mode, bias, x, h_0, c_0, *weights) -> Any:
        """Run the operator and keep what it was given."""
        ctx.mode, ctx.bias = mode, bias
        ctx.save_for_backward(x, h_0, c_0, *weights)
        return torch.ops.lnrnn.torch_layer(x, h_0, c_0, weights, mode, bias)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Any:
        """Return the gradients of the tensors."""
        x, h_0, c_0, *weights = ctx.saved_tensors
        found = torch.ops.lnrnn.torch_layer_backward(
            *grads, x, h_0, c_0, weights, ctx.mode, ctx.bias
        )
        d_x, d_h_0, d_c_0, *d_weights = found
        return None, None, d_x, d_h_0, None if c_0 is None else d_c_0, *d_weights


def _forward(
    x: Tensor, h_0: Tensor, c_0: Tensor | None, weights: list[Tensor], mode: str, bias: bool
) -> tuple[Tensor, ...]:
    hx = h_0 if c_0 is None else (h_0, c_0)
    # cuDNN has a backward only of what it ran for training; without dropout numbers are the same.
    training = torch.is_grad_enabled()
    settings = (bias, 1, 0.0, training, h_0.shape[0] == 2, False)
    output, h_n, *c_n = RECURRENCES[mode](x, hx, weights, *settings)
    return output, h_n, c_n[0] if c_n else x.new_empty(0)


def _run(*args: Any) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return _forward(*args)


def _run_backward(
    d_output: Tensor,
    d_h_n: Tensor,
    d_c_n: Tensor,
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor | None,
    weights: list[Tensor],
    mode: str,
    bias: bool,
) -> list[Tensor]:
    states = [h_0] if c_0 is None else [h_0, c_0]
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_() for t in (x, *states, *weights)]
        again, count = leaves[1 : 1 + len(states)], 1 + len(states)
        last = None if c_0 is None else again[1]
        results = _forward(leaves[0], again[0], last, leaves[count:], mode, bias)
    grads = [d_output, d_h_n, d_c_n][:count]
    found = list(torch.autograd.grad(results[:count], leaves, grads))
    if c_0 is None:
        found.insert(2, x.new_empty(0))
    return found


def _fake(
    x: Tensor, h_0: Tensor, c_0: Tensor | None, weights: list[Tensor], mode: str, bias: bool
) -> tuple[Tensor, ...]:
    width = h_0.shape[0] * h_0.shape[2]
    return (
        x.new_empty(*x.shape[:2], width),
        torch.empty_like(h_0),
        x.new_empty(0) if c_0 is None else torch.empty_like(c_0),
    )


def _fake_backward(*args: Any) -> list[Tensor]:
    x, h_0, c_0, weights = args[3:7]
    shaped = [x, h_0, x.new_empty(0) if c_0 is None else c_0, *weights]
    return [torch.empty_like(t) for t in shaped]


for _schema in (SCHEMA, _BACKWARD_SCHEMA):
    _LIBRARY.define(_schema, tags=(torch.Tag.cudagraph_unsafe,))
_LIBRARY.impl("torch_layer", _run, "CompositeExplicitAutograd")
_LIBRARY.impl("torch_layer_backward", _run_backward, "CompositeExplicitAutograd")
torch.library.register_fake("lnrnn::torch_layer", _fake, lib=_LIBRARY)
torch.library.register_fake("lnrnn::torch_layer_backward", _fake_backward, lib=_LIBRARY)
