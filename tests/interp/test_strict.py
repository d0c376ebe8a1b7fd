"""The stricter interpreter catches what it is there for."""

# Triton is not there where the types are checked, and its kernels are not Python's.
# pyright: reportMissingImports=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from interp.strict import Guarded, permuted_programs, poisoned_loads, rounded_bfloat16


@triton.jit
def sum_of_masked(x, out, n, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out, tl.sum(tl.load(x + at, mask=at < n), 0))


@triton.jit
def copy_too_much(x, out, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out + at, tl.load(x + at))


@triton.jit
def pass_on(out, n):
    program = tl.program_id(0)
    tl.store(out + (program + 1) % n, tl.load(out + program) + 1)


@triton.jit
def narrow(x, out, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out + at, tl.load(x + at).to(tl.bfloat16))


def test_a_masked_load_without_a_value_shows() -> None:
    out = torch.zeros(1)
    sum_of_masked[(1,)](torch.ones(16), out, 10, N=16)
    assert out == 10  # which a GPU does not promise
    with poisoned_loads():
        sum_of_masked[(1,)](torch.ones(16), out, 10, N=16)
    assert out.isnan()


def test_reads_and_writes_outside_show() -> None:
    x, out = Guarded(torch.ones(10)), Guarded(torch.zeros(10))
    copy_too_much[(1,)](torch.ones(16), out.tensor, N=16)
    with pytest.raises(AssertionError, match="wrote outside of out"):
        out.check("out")
    wide = torch.zeros(16)
    copy_too_much[(1,)](x.tensor, wide, N=16)
    assert wide[10:].isnan().all()
    assert wide[:10].isfinite().all()


def test_a_dependence_between_programs_shows() -> None:
    results = []
    for order in (lambda n: list(range(n)), lambda n: list(range(n))[::-1]):
        out = torch.zeros(4)
        with permuted_programs(order):
            pass_on[(4,)](out, 4)
        results.append(out)
    assert not torch.equal(*results)


def test_bfloat16_is_rounded_to_the_nearest() -> None:
    x = torch.randn(4096)
    out = torch.empty(4096, dtype=torch.bfloat16)
    narrow[(1,)](x, out, N=4096)
    assert np.mean((out != x.bfloat16()).numpy()) > 0.1  # cut off
    with rounded_bfloat16():
        narrow[(1,)](x, out, N=4096)
    assert torch.equal(out, x.bfloat16())
