"""Small batches whose products several threads share: the bits of one thread, and no deadlock."""

import os
import subprocess
import sys

import pytest
import torch

CODE = """
import sys
from concurrent.futures import ThreadPoolExecutor
import torch
import lnrnn
from lnrnn.ops import fused
from torch.nn.utils.rnn import pack_sequence

cell, kind = sys.argv[1:]
torch.manual_seed(0)
more = {"norm": "cell", "zoneout": 0.2 if kind == "noise" else 0.0}
if kind == "rounded":  # W_ih is, and W_hh is too small for it
    more = {"norm": lnrnn.CellNorm(inputs="joint"), "proj_size": 8}
    whole = fused._forward
    fused._forward = lambda op: lambda *args: whole(op)(*args[:-2], "bfloat16", args[-1])
layer = getattr(lnrnn, cell)(64, 256, bidirectional=True, fused=True, **more)
resets = None
if kind == "packed":
    x = pack_sequence([torch.randn(n, 64) for n in (260, 260, 201, 77, 3)])
else:
    x = torch.randn(260, 2, 64)
if kind == "resets":
    resets = torch.rand(260, 2) < 0.1
given = {} if resets is None else {"resets": resets}


def run(threads):
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    with torch.no_grad():
        silent, *_ = layer(x, **given)
    torch.manual_seed(2)
    output, *_ = layer(x, **given)
    if kind == "packed":
        silent, output = silent.data, output.data
    generator = torch.Generator().manual_seed(3)
    wanted = [layer.bias_hh_l0, layer.bias_hh_l0_reverse]
    grads = torch.autograd.grad(
        output, wanted, torch.randn(output.shape, generator=generator)
    )
    return [silent, output.detach(), *grads]


one = run(1)
for _ in range(3):
    for value, truth in zip(run(2), one, strict=True):
        assert torch.equal(value, truth), (value - truth).abs().max()
if kind == "padded":  # callers at once
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: run(2), range(8)):
            for value, truth in zip(found, one, strict=True):
                assert torch.equal(value, truth)
print("same")
"""


KINDS = ("padded", "packed", "resets", "noise")
CASES = [(cell, kind) for cell in ("LSTM", "GRU", "RNN") for kind in KINDS] + [("LSTM", "rounded")]


@pytest.mark.parametrize(("cell", "kind"), CASES)
def test_two_threads_have_the_bits_of_one(cell: str, kind: str) -> None:
    if kind == "rounded" and torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("torch multiplies bfloat16 with sums in float32 on AVX-512 and AMX alone")
    done = subprocess.run(
        [sys.executable, "-c", CODE, cell, kind],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "same\n", done.stderr
