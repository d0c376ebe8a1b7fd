"""Time layers on a GPU: the norm inside the step against cuDNN without one, and against the loop.

    python scripts/benchmark_cuda.py
    python scripts/benchmark_cuda.py --cells lstm --modes training --dtypes bf16 --repeats 21

Every candidate runs once a round, and ratios are taken within a round, to torch's layer without a
norm. Times are of the whole layer (projection of the input, norms, recurrence, and in training all
gradients), between two events on the GPU's stream. Rows of the table, in Markdown, are medians.
"""

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import lnrnn

SHAPES = [(512, 64, 128, 128), (512, 64, 256, 256), (512, 64, 512, 512), (512, 64, 1024, 1024)]
CELLS: dict[str, tuple[Any, Any]] = {
    "lstm": (nn.LSTM, lnrnn.LSTM),
    "gru": (nn.GRU, lnrnn.GRU),
    "rnn": (nn.RNN, lnrnn.RNN),
}
DTYPES = {"fp32": None, "bf16": torch.bfloat16}
MODES = ("training", "inference")
BASE, LOOP, PLAIN = "torch", "cell norm, loop", "cell norm, no graphs"
COLUMNS = (BASE, "torch + output norm", "cell norm", PLAIN, LOOP)

Run = Callable[[], object]


def main() -> None:
    """Measure what the command line asks for."""
    options = _parser().parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: there is no CUDA device here; --device cpu shows that the script runs")
    print(describe(options.device))
    print("medians of milliseconds; in brackets the ratio to torch without a norm\n")
    print("| cell | T, B, I, H | mode | weights |", " | ".join(COLUMNS), "|")
    print("| --- | --- | --- | --- |" + " --- |" * len(COLUMNS))
    for cell in options.cells:
        for shape in options.shapes:
            for mode in options.modes:
                for dtype in options.dtypes:
                    runs = candidates(cell, shape, mode, DTYPES[dtype], options.device)
                    times = interleave(runs, options.repeats, options.device)
                    start = f"| {cell} | {', '.join(map(str, shape))} | {mode} | {dtype} | "
                    print(start + " | ".join(summaries(times)) + " |", flush=True)


def candidates(
    cell: str, shape: tuple[int, ...], mode: str, dtype: torch.dtype | None, device: str
) -> dict[str, Run]:
    """Return what is timed, by name."""
    steps, batch, features, hidden = shape
    theirs, ours = CELLS[cell]
    fused = True if device == "cuda" else None  # a CPU is only to show that this runs
    layers = {
        BASE: theirs(features, hidden, device=device),
        "torch + output norm": ours(features, hidden, norm="output", device=device),
        "cell norm": ours(features, hidden, norm="cell", fused=fused, device=device),
        PLAIN: ours(features, hidden, norm="cell", fused=fused, device=device),
        LOOP: ours(features, hidden, norm="cell", fused=False, device=device),
    }
    x = torch.randn(steps, batch, features, device=device, requires_grad=mode == "training")
    cotangent = torch.randn(steps, batch, hidden, device=device)
    return {
        name: _timed(layer, x, cotangent, mode, dtype, graphs=name != PLAIN)
        for name, layer in layers.items()
    }


def _timed(
    layer: nn.Module,
    x: Tensor,
    cotangent: Tensor,
    mode: str,
    dtype: torch.dtype | None,
    *,
    graphs: bool,
) -> Run:
    def run() -> None:
        with contextlib.nullcontext() if graphs else without_graphs():
            with torch.autocast(x.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
                output = layer(x)[0]
            if mode == "training":
                layer.zero_grad()
                output.backward(cotangent.to(output.dtype))

    return run if mode == "training" else torch.no_grad()(run)


@contextlib.contextmanager
def without_graphs() -> Iterator[None]:
    """Let every step be launched, as while somebody else captures a graph."""
    if not torch.cuda.is_available():
        yield
        return
    with mock.patch("lnrnn.ops.triton_graphs.capturing", return_value=True):
        yield


def interleave(runs: dict[str, Run], repeats: int, device: str) -> dict[str, list[float]]:
    """Return the milliseconds of each candidate, after two rounds for nothing.

    The loop takes part in every third round.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(-2, repeats):
        for name, run in runs.items():
            if name == LOOP and round_ % 3:
                continue
            milliseconds = measure(run, device)
            if round_ >= 0:
                times[name].append(milliseconds)
    return times


def measure(run: Run, device: str) -> float:
    """Return the milliseconds of one run."""
    if device != "cuda":
        start = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - start)
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    before.record()
    run()
    after.record()
    torch.cuda.synchronize()
    return before.elapsed_time(after)


def summaries(times: dict[str, list[float]]) -> list[str]:
    """Return each candidate's median and its ratio to torch's layer."""
    cells = []
    for name in COLUMNS:
        base = times[BASE][::3] if name == LOOP else times[BASE]
        ratio = statistics.median(a / b for a, b in zip(times[name], base, strict=True))
        middle = f"{statistics.median(times[name]):.2f}"
        cells.append(middle if name == BASE else f"{middle} ({ratio:.2f})")
    return cells


def describe(device: str) -> str:
    """Return what a number is worth nothing without."""
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    versions = f"torch {torch.__version__}, lnrnn {lnrnn.__version__}"
    if device == "cuda":
        import triton  # pyright: ignore[reportMissingImports]

        versions += f", CUDA {torch.version.cuda}, Triton {triton.__version__}"
        versions += f", cuDNN {torch.backends.cudnn.version()}"
    return f"{name}, {versions}"


def _shape(text: str) -> tuple[int, ...]:
    """Read a shape as the command line gives it."""
    sizes = tuple(int(part) if part.isdigit() else 0 for part in text.split(","))
    if len(sizes) != 4 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"a shape is T,B,I,H, such as 512,64,256,256; got {text}")
    return sizes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--cells", nargs="+", choices=list(CELLS), default=list(CELLS))
    add("--modes", nargs="+", choices=MODES, default=MODES)
    add("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    add("--shapes", nargs="+", type=_shape, default=SHAPES, metavar="T,B,I,H")
    add("--repeats", type=int, default=9)
    return parser


if __name__ == "__main__":
    main()
