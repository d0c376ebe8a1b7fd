"""scripts/roofline.py counts what the loops of kernels over whole sequences truly have."""

# Triton is not there where the types are checked.
# pyright: reportMissingImports=false

import pytest
import roofline
import torch
import triton
from aot.compiled import compile_kernel, longest_loop

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@pytest.mark.skipif(not triton.__version__.startswith("3.7."), reason="counted in Triton 3.7")
@pytest.mark.parametrize(("cell", "dtype", "hidden"), list(roofline.COMPILED))
def test_loops_are_counted_right(cell: str, dtype: str, hidden: int) -> None:
    counted = roofline.COMPILED[cell, dtype, hidden]
    for way, of_step in zip(("forward", "backward"), counted, strict=True):
        if of_step is not None:
            kernel = f"{cell}_persistent_{way}"
            compiled = compile_kernel(kernel, "sm_90", DTYPES[dtype], hidden)
            assert longest_loop(compiled) == of_step
            step = roofline.whole(cell, dtype, hidden)[way == "backward"]
            assert step is not None
            assert step.matrix == (
                "tt.dot" in compiled.asm["ttgir"] and "mma" in compiled.asm["ptx"]
            )
