"""The memory layout that cuDNN asks of a recurrent layer's weights."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.backends import cudnn


def flatten_weights(
    weights: list[Tensor],
    *,
    mode: str,
    hidden_size: int,
    proj_size: int,
    num_layers: int,
    bias: bool,
    bidirectional: bool,
) -> None:
    """Move the weights, in place, into one block in cuDNN's order.

    Without this cuDNN copies them at every call, and torch warns. Where cuDNN does not run (on the
    CPU, in a dtype it does not know, with weights that share memory), nothing happens; the
    conditions are those of `torch.nn.RNNBase.flatten_parameters`.

    Args:
        weights: Every layer's and direction's parameters in torch's order.
        mode: torch's name of the recurrence, such as "RNN_TANH" or "LSTM".
        hidden_size: H.
        proj_size: R, or 0 without a projection.
        num_layers: Layers that one call runs.
        bias: Whether there are biases.
        bidirectional: Whether there are two directions.
    """
    first = weights[0]
    acceptable = all(
        w.is_cuda and w.dtype == first.dtype and cudnn.is_acceptable(w) for w in weights
    )
    if not acceptable or not torch._VF._use_cudnn_rnn_flatten_weight():
        return
    if len({w.data_ptr() for w in weights}) < len(weights):
        return
    # As torch's own layers do: before torch 2.11, `cudnn.rnn` is a setting until this is imported.
    import torch.backends.cudnn.rnn as cudnn_rnn

    with torch.cuda.device_of(first), torch.no_grad():
        torch._VF._cudnn_rnn_flatten_weight(
            weights,
            2 + 2 * bias + bool(proj_size),
            first.shape[1],
            int(cudnn_rnn.get_cudnn_mode(mode)),
            hidden_size,
            proj_size,
            num_layers,
            False,  # batch first: the layer hands over time first
            bidirectional,
        )


@contextmanager
def without_cudnn_advice() -> Iterator[None]:
    """Keep torch from advising another layout of weights that cannot have it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*single contiguous chunk of memory.*")
        yield
