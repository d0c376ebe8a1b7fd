"""The device's ceilings, and how far the kernels are from the truth, beside the reference.

    python -m gpu_check.accuracy

The truth is the reference in float64. A line ends in FAIL where an output or gradient is more than
twice as far from it as the reference in the same dtype (in a rehearsal: eight times).
"""

import sys
from unittest import mock

import torch
from benchmark_cuda import measure
from norm_cases import FEW, Case
from numerics import output_and_grads, relative_error
from recurrences import arguments, op
from torch import Tensor

from gpu_check.sizes import DEVICE, FUSED, REHEARSED

CASES = [FEW[2], FEW[5], FEW[0], FEW[3]]
# T, B, H, and which dtypes.
LAYOUTS = [(12, 33, 64, "float32 bfloat16"), (9, 64, 512, "float32"), (9, 64, 1024, "float32")]
TINY = [(3, 2, 8, "float32 bfloat16")]
# How many times the reference's error is allowed. Of a rehearsal's few numbers some are near the
# truth by chance.
ALLOWED = 8 if REHEARSED else 2


def main() -> None:
    """Print a line a measurement."""
    print(ceilings(), flush=True)
    failed = 0
    for steps, batch, hidden, dtypes in TINY if REHEARSED else LAYOUTS:
        for case in CASES if hidden < 512 else CASES[:1]:
            for dtype in dtypes.split():
                line, right = compare(case, getattr(torch, dtype), steps, batch, hidden)
                failed += not right
                print(line, flush=True)
    sys.exit(bool(failed))


def ceilings() -> str:
    """Return how fast the device copies and multiplies at its best."""
    count, side = (2**16, 64) if REHEARSED else (2**29, 8192)
    source = torch.randn(count, device=DEVICE)
    target = torch.empty_like(source)
    a, b = (torch.randn(side, side, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    copies = [measure(lambda: target.copy_(source), DEVICE) for _ in range(7)]
    products = [measure(lambda: a @ b, DEVICE) for _ in range(7)]
    bandwidth, rate = 8 * count / min(copies) / 1e9, 2 * side**3 / min(products) / 1e9
    return f"ceilings: copies {bandwidth:.2f} TB/s, bfloat16 products {rate:.0f} TFLOP/s"


def compare(
    case: Case, dtype: torch.dtype, steps: int, batch: int, hidden: int
) -> tuple[str, bool]:
    """Return a line on outputs and gradients by launches alone, and whether they are right."""
    torch.manual_seed(0)
    args = [
        _tamed(a.to(DEVICE))
        for a in arguments(case, steps, batch, hidden=hidden, projected=hidden // 2, dtype=dtype)
    ]
    truths = output_and_grads(op(case, fused=False), [a.double() for a in args])
    natives = output_and_grads(op(case, fused=False), args)
    with mock.patch("lnrnn.ops.triton_graphs.capturing", return_value=True):
        values = output_and_grads(op(case, fused=FUSED), args)
    unit = torch.finfo(dtype).eps
    ours = [relative_error(v, t) for v, t in zip(values, truths, strict=True)]
    theirs = [relative_error(v, t) for v, t in zip(natives, truths, strict=True)]
    right = all(a <= ALLOWED * b + 4 * unit for a, b in zip(ours, theirs, strict=True))
    ratio = max(a / max(b, unit) for a, b in zip(ours, theirs, strict=True))
    words = f"worst error {max(ours):.1e}, at most {ratio:.2f} times the reference's"
    name = f"{case} H={hidden} {str(dtype).removeprefix('torch.')}"
    return f"{name}: {words}: {'ok' if right else 'FAIL'}", right


def _tamed(tensor: Tensor) -> Tensor:
    """Divide large matrices, whose sums would saturate the gates."""
    large = tensor.dim() == 2 and tensor.shape[0] > 64
    return tensor / tensor.shape[-1] ** 0.5 if large else tensor


if __name__ == "__main__":
    main()
