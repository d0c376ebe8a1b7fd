"""Where the time of a layer with the norm inside the step goes, kernel by kernel.

python -m gpu_check.profiling
"""

import itertools

import benchmark_cuda
import torch

from gpu_check.kernels import kernels_of
from gpu_check.sizes import DEVICE, SIZES, median_milliseconds

SHOWN = 8  # kernels of a measurement


def main() -> None:
    """Print, for some sizes, the time, how much of it the device is busy, and with what."""
    benchmark_cuda.use_tf32(False)
    for hidden, mode in itertools.product(SIZES.profiled, benchmark_cuda.MODES):
        shape = (SIZES.steps, SIZES.batch, hidden, hidden)
        runs = benchmark_cuda.candidates("lstm", shape, mode, torch.bfloat16, DEVICE)
        run = runs["cell norm"].call
        wall = median_milliseconds(run)
        found = kernels_of(run)
        busy = sum(kernel.milliseconds for kernel in found)
        print(
            f"LN-LSTM H={hidden} bf16 {mode}: {wall:.2f} ms, {1e3 * wall / SIZES.steps:.1f} us a "
            f"step; busy {busy:.2f} ms ({busy / wall:.0%}) with {sum(k.launches for k in found)} "
            "kernels",
            flush=True,
        )
        for kernel in found[:SHOWN]:
            each = 1e3 * kernel.milliseconds / kernel.launches
            print(
                f"  {kernel.milliseconds:8.2f} ms {kernel.launches:6d} x {each:7.2f} us  "
                f"{kernel.name[:110]}",
                flush=True,
            )
        benchmark_cuda.clear_graphs()


if __name__ == "__main__":
    main()
