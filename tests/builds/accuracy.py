"""Check the kernels of this process's capability; a program of its own, for `test_capabilities.py`.

What test_kernels.py asks of the CPU it runs on, in short: every kind of computation, vectors and
their tails, padded and packed, both ways, values and gradients.
"""

import sys
from typing import Any

import torch
from norm_cases import FEW
from numerics import assert_as_accurate
from recurrences import arguments, names, op

LAYOUTS: list[dict[str, Any]] = [
    {"steps": 6, "batch": 17, "hidden": 37, "projected": 21},
    {"steps": 4, "batch": 5, "hidden": 64, "projected": 32},
    {"steps": 3, "batch": 1, "hidden": 5},
    {"hidden": 13, "sizes": [19, 18, 11, 11, 3, 1]},
]
# A draw may be unlucky where a variance is small; a wrong lane is off by five digits more.
SLACK = 10.0


def main() -> None:
    """Run every check, and say for what and how many."""
    torch.manual_seed(0)
    torch.set_num_threads(2)
    count = 0
    for case in FEW:
        for layout in LAYOUTS:
            sizes = layout.get("sizes")
            packed = None if sizes is None else torch.tensor(sizes)
            args = arguments(case, **layout, dtype=torch.float32)
            for reverse in (False, True):
                options = {"batch_sizes": packed, "reverse": reverse}
                kernel, reference = (op(case, **options, fused=fused) for fused in (True, False))
                named = dict(zip(names(case), args, strict=True))
                assert_as_accurate(kernel, reference, named, SLACK)
                count += 1
        double = [arg.requires_grad_() for arg in arguments(case)]
        assert torch.autograd.gradcheck(op(case, fused=True), double)
    sys.stdout.write(f"{torch.backends.cpu.get_cpu_capability()}: {count} comparisons\n")


if __name__ == "__main__":
    main()
