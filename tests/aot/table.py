"""Print what every kernel takes on every GPU: `make aot-table`."""

import sys

import torch
import triton  # pyright: ignore[reportMissingImports]
from aot.compiled import KERNELS, SHARED, compile_kernel, resources

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
HIDDEN = [64, 128, 512, 1024]


def row(kernel: str, dtype: str, hidden: int) -> str:
    """Return one line: for each GPU registers, bytes of shared memory, instructions, barriers."""
    cells = []
    for target in SHARED:
        found = resources(compile_kernel(kernel, target, DTYPES[dtype], hidden))
        if found.spilled:
            raise RuntimeError(f"{kernel} spills for {target}, {dtype}, H={hidden}: {found}")
        cells.append(f"{found.registers} {found.shared} {found.instructions} {found.barriers}")
    return f"| {kernel} | {dtype} | {hidden} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    print(
        f"Triton {triton.__version__}: registers, bytes of shared memory, instructions, barriers\n"
    )
    print("| kernel | weights | H |", " | ".join(SHARED), "|")
    print("| --- | --- | --- |" + " --- |" * len(SHARED))
    for kernel in KERNELS:
        for dtype in DTYPES:
            for hidden in HIDDEN:
                print(row(kernel, dtype, hidden), flush=True)


if __name__ == "__main__":
    sys.exit(main())
