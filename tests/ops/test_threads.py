"""Threads: gradients of whole layers repeat bit for bit, and nobody's setting is changed.

`test_kernels.py` has the recurrences alone; here are layers, with all that runs around a kernel,
in one thread, in two, in threads of the user's own, and in processes forked off.
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from child_processes import Encoded, count_threads, make_layer
from numerics import FLOAT32, assert_close, assert_equal
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

CELLS = ["rnn", "lstm", "gru"]
LENGTHS = [19, 19, 12, 12, 12, 7, 7, 3, 1, 1] * 5  # enough rows for two threads


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def output_and_grads(layer: torch.nn.Module, *, packed: bool) -> list[Tensor]:
    """Run a layer forward and backward on data that are the same in every call."""
    generator = torch.Generator().manual_seed(1)
    layer.zero_grad()
    if packed:
        sequences = [torch.randn(n, 5, generator=generator) for n in LENGTHS]
        output = layer(pack_sequence(sequences, enforce_sorted=False))[0].data
    else:
        output = layer(torch.randn(9, 50, 5, generator=generator))[0]
    output.backward(torch.randn(output.shape, generator=generator))
    grads = [parameter.grad for parameter in layer.parameters()]
    return [output.detach(), *(grad for grad in grads if grad is not None)]


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_layer_repeats_bit_for_bit(cell: str, packed: bool) -> None:
    layer = make_layer(cell)
    found: dict[int, list[Tensor]] = {}
    for threads in (1, 2, 1, 2):
        torch.set_num_threads(threads)
        for _ in range(2):
            values = output_and_grads(layer, packed=packed)
            assert len(values) == 1 + len(list(layer.parameters()))
            for value, truth in zip(values, found.setdefault(threads, values), strict=True):
                assert_equal(value, truth)
    for one, two in zip(found[1], found[2], strict=True):
        assert_close(one, two, FLOAT32)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_stays_as_it_was_set(threads: int) -> None:
    torch.set_num_threads(threads)
    for cell in CELLS:
        output_and_grads(make_layer(cell), packed=False)
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="threads are counted in /proc")
def test_one_thread_means_one() -> None:
    """A process that was told one thread starts no other, and with two the count shows it."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        before, after = pool.apply_async(count_threads, (1,)).get(timeout=120)
        assert after == before
        before, after = pool.apply_async(count_threads, (2,)).get(timeout=120)
        assert after > before


@pytest.mark.parametrize("cell", CELLS)
def test_callers_in_threads_of_their_own_do_not_disturb_one_another(cell: str) -> None:
    layers = [make_layer(cell) for _ in range(4)]
    truth = [output_and_grads(layer, packed=True) for layer in layers]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            found = list(pool.map(lambda layer: output_and_grads(layer, packed=True), layers))
            for values, expected in zip(found, truth, strict=True):
                for value, other in zip(values, expected, strict=True):
                    assert_close(value, other, FLOAT32)


def test_a_forked_process_trains() -> None:
    """Torch's autograd refuses a fork once its own threads run, which on the CPU they never do."""
    torch.set_num_threads(2)
    layer = make_layer("gru")
    output_and_grads(layer, packed=True)  # the parent's threads have run
    torch.set_num_threads(1)
    truth = output_and_grads(layer, packed=True)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.apply_async(_forked, (layer,)).get(timeout=60)
    for value, expected in zip(found, truth, strict=True):
        assert_equal(torch.tensor(value), expected)


def _forked(layer: torch.nn.Module) -> list[list]:
    """Return plain lists, since tensors would go through files that outlive the worker."""
    return [value.tolist() for value in output_and_grads(layer, packed=True)]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_loader_run_layers(start: str) -> None:
    torch.set_num_threads(1)
    dataset = Encoded(make_layer("lstm"))
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=None, num_workers=2, multiprocessing_context=start, timeout=120
    )
    for value, truth in zip(loader, map(dataset.__getitem__, range(4)), strict=True):
        assert_equal(value, truth)
