"""Compile what the benchmark will launch, several kernels at once, into Triton's cache.

python -m gpu_check.warm
"""

import itertools
import multiprocessing

import benchmark_cuda

from gpu_check.sizes import DEVICE

PROCESSES = 4


def main() -> None:
    """Run every row of the benchmark for two steps, which no graph holds."""
    cells, dtypes = list(benchmark_cuda.CELLS), list(benchmark_cuda.DTYPES)
    rows = list(itertools.product(dtypes, cells, benchmark_cuda.SHAPES, benchmark_cuda.MODES))
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        pool.map(compile_row, rows, chunksize=1)
    print(f"compiled the kernels of {len(rows)} rows")


def compile_row(row: tuple[str, str, tuple[int, ...], str]) -> None:
    """Launch a row's kernels."""
    dtype, cell, (_, batch, features, hidden), mode = row
    shape = (2, batch, features, hidden)
    runs = benchmark_cuda.candidates(cell, shape, mode, benchmark_cuda.DTYPES[dtype], DEVICE)
    runs["cell norm"].call()


if __name__ == "__main__":
    main()
