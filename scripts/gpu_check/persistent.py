"""Whole sequences in one launch against steps in graphs and torch's layers: which is faster where.

    python -m gpu_check.persistent

`lnrnn.ops.triton_persistent` is turned on and off for that.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from unittest import mock

import torch
from benchmark_cuda import MODES, clear_graphs, layers_of, use_tf32

from gpu_check.accuracy import compare
from gpu_check.kernels import kernels_of
from gpu_check.sizes import DEVICE, FUSED, REHEARSED, SIZES, median_milliseconds

UNITS = {"rnn": (64, 128, 256), "gru": (64, 128), "lstm": (64, 128)}
UNITS_FLOAT32 = {"rnn": 128, "gru": 64, "lstm": 64}
BATCHES = (1, 64, 1024, 4096)
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
LAYOUTS = ((12, 33, 64), (9, 17, 128), (7, 3, 5))  # T, B, H of what is compared
SHOWN = 4  # kernels


def main() -> None:
    """Print what is right, then a row a cell, size and mode."""
    use_tf32(False)
    print("| cell | B, H | weights | mode | torch | steps | whole |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    bf16, fp32 = torch.bfloat16, torch.float32
    sizes = [(cell, SIZES.batch, hidden, bf16) for cell, units in UNITS.items() for hidden in units]
    sizes += [("gru", batch, 64, bf16) for batch in BATCHES]
    sizes += [(cell, SIZES.batch, hidden, fp32) for cell, hidden in UNITS_FLOAT32.items()]
    for size, mode in itertools.product(sizes[:1] if REHEARSED else sizes, MODES):
        times = [measured(*size, mode, which) for which in ("torch", "steps", "whole")]
        shown = " | ".join(f"{time:.2f} ({time / times[0]:.2f})" for time in times)
        cell, batch, hidden, dtype = size
        weights = {bf16: "bf16", fp32: "fp32"}[dtype]
        print(f"| {cell} | {batch}, {hidden} | {weights} | {mode} | {shown} |", flush=True)
    for cell, hidden in () if REHEARSED else (("lstm", 64), ("gru", 128), ("rnn", 128)):
        with switched(True):
            run = runs(cell, SIZES.batch, hidden, torch.bfloat16, "training", "whole")
            found = kernels_of(run)
        print(f"\n{cell} H={hidden}, a training step's longest kernels:")
        for kernel in found[:SHOWN]:
            print(f"  {kernel.milliseconds:8.3f} ms  {kernel.name[:90]}", flush=True)
    check_accuracy()


def check_accuracy() -> None:
    """Print what is further from the truth than twice the reference, if anything."""
    from norm_cases import FEW

    cases = [case for case in FEW if not case.proj_size]
    compared = 0
    for case, dtype, layout in itertools.product(cases, DTYPES, LAYOUTS):
        with switched(True):
            line, right = compare(case, dtype, *layout)
        compared += 1
        if not right:
            print(line, flush=True)
    print(f"\n{compared} compared with the truth in float64")


@contextlib.contextmanager
def switched(on: bool) -> Iterator[None]:
    """Have whole sequences in one launch, or not."""
    if REHEARSED:
        yield
        return
    from lnrnn.ops import triton_persistent

    with mock.patch.multiple(triton_persistent, ENABLED=on, FLOAT32=on):
        yield


def measured(
    cell: str, batch: int, hidden: int, dtype: torch.dtype, mode: str, which: str
) -> float:
    """Return the median milliseconds of one way."""
    clear_graphs()
    with switched(which == "whole"):
        return median_milliseconds(runs(cell, batch, hidden, dtype, mode, which))


def runs(
    cell: str, batch: int, hidden: int, dtype: torch.dtype, mode: str, which: str
) -> Callable[[], None]:
    """Return a layer's forward pass, and in training its backward: in float32, or by autocast."""
    theirs, ours = layers_of(cell, dtype if dtype == torch.bfloat16 else None, DEVICE)
    torch.manual_seed(0)
    more = {} if which == "torch" else {"norm": "cell", "fused": FUSED}
    layer = (theirs if which == "torch" else ours)(hidden, hidden, device=DEVICE, **more)
    shape = SIZES.steps, batch, hidden
    x = torch.randn(shape, device=DEVICE, requires_grad=mode == "training")
    cotangent = torch.randn(shape, device=DEVICE)

    def run() -> None:
        with torch.set_grad_enabled(mode == "training"):
            with torch.autocast(x.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
                output = layer(x)[0]
            if mode == "training":
                layer.zero_grad()
                output.backward(cotangent.to(output.dtype))

    return run


if __name__ == "__main__":
    main()
