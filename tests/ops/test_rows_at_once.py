"""Rows that are projected at once: the same numbers, however many they are."""

from typing import Any

import pytest
import torch
from numerics import assert_equal
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

import lnrnn

# Rows of several steps are taken at once, for which these need two turns and more. From four steps
# on, products are our own; BLAS's may depend on how many rows there are.
LENGTHS = (90, 41, 41, 9, 4)
NORMS: tuple[Any, ...] = (
    "cell",
    lnrnn.CellNorm(inputs="joint"),
    lnrnn.CellNorm(inputs="recurrent"),
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("norm", NORMS, ids=["separate", "joint", "recurrent"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_a_sequence_has_the_same_bits_alone_and_among_others(
    cell: str, norm: Any, dtype: torch.dtype, nan_filled_memory: None
) -> None:
    if cell == "GRU" and getattr(norm, "inputs", None) == "joint":
        pytest.skip("no kernel has it")
    torch.manual_seed(0)
    layer = getattr(lnrnn, cell)(13, 21, norm=norm, bidirectional=True, fused=True).to(dtype)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    sequences = [torch.randn(n, 13).to(dtype) for n in LENGTHS]
    above = [torch.randn(n, 42).to(dtype) for n in LENGTHS]

    together = _run(layer, sequences, above)
    for i in range(len(LENGTHS)):
        alone = _run(layer, sequences[i : i + 1], above[i : i + 1])
        for found, values in zip(alone, together, strict=True):
            assert_equal(found[0], values[i])


def _run(
    layer: torch.nn.Module, sequences: list[Tensor], above: list[Tensor]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return outputs without and with what a backward wants being kept, and gradients of x."""
    leaves = [x.clone().requires_grad_() for x in sequences]
    with torch.no_grad():
        silent, *_ = layer(pack_sequence(leaves))
    output, *_ = layer(pack_sequence(leaves))
    grads = torch.autograd.grad(output.data, leaves, pack_sequence(above).data)
    return unpack_sequence(silent), unpack_sequence(output), list(grads)


def test_gradients_of_x_have_the_same_bits_whoever_computes_them() -> None:
    """Rows are dealt out to threads, here 140 of a chunk and 60 of the last to three."""
    layer = lnrnn.GRU(128, 96, norm="cell", fused=True)
    x = torch.randn(10, 70, 128, requires_grad=True)
    above = torch.randn(10, 70, 96)

    def run(threads: int) -> Tensor:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return torch.autograd.grad(layer(x)[0], x, above)[0]
        finally:
            torch.set_num_threads(before)

    assert_equal(run(3), run(1))
