"""Time layers on a GPU: the norm inside the step against cuDNN without one, and against the loop.

    python scripts/benchmark_cuda.py
    python scripts/benchmark_cuda.py --cells lstm --modes training --dtypes bf16 --repeats 21
    python scripts/benchmark_cuda.py --seconds 110 --loop-steps 32

Every candidate runs once a round, and ratios are taken within a round, to torch's layer without a
norm. Times are of the whole layer (projection of the input, norms, recurrence, and in training all
gradients), between two events on the GPU's stream. Rows of the table, in Markdown, are medians.

Every row starts without CUDA graphs and records its own, so none is timed without because earlier
rows took all places. Float32 products are float32's on both sides, in cuBLAS and in cuDNN (where
torch has TF32 on by default), or with ``--tf32`` TF32's on both.
"""

import argparse
import contextlib
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import torch
from benchmarks.autocast import torch_lstm_dtype
from torch import Tensor, nn

import lnrnn
from lnrnn.study import turns

SHAPES = [(512, 64, 128, 128), (512, 64, 256, 256), (512, 64, 512, 512), (512, 64, 1024, 1024)]
CELLS: dict[str, tuple[Any, Any]] = {
    "lstm": (nn.LSTM, lnrnn.LSTM),
    "gru": (nn.GRU, lnrnn.GRU),
    "rnn": (nn.RNN, lnrnn.RNN),
}
DTYPES = {"bf16": torch.bfloat16, "fp32": None}
MODES = ("training", "inference")
BASE, LOOP, PLAIN = "torch", "cell norm, loop", "cell norm, no graphs"
TF32 = "cuBLAS", "cuDNN"
COLUMNS = (BASE, "torch + output norm", "cell norm", PLAIN, LOOP)


class Run(NamedTuple):
    """What is timed, and what its time is multiplied by."""

    call: Callable[[], object]
    scale: float = 1.0


def main() -> None:
    """Measure what the command line asks for."""
    options = _parser().parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: there is no CUDA device here; --device cpu shows that the script runs")
    use_tf32(options.tf32)
    print(describe(options.device))
    print("medians of milliseconds; in brackets the ratio to torch without a norm")
    if options.loop_steps:
        print(f"the loop runs {options.loop_steps} steps, and its time is scaled to T")
    # cuDNN's layers are cast apart: float16.
    under = torch_lstm_dtype(options.device) or "nothing (float32 is timed)"
    print(f"torch's own LSTM gives {under} under bf16's autocast")
    print("\n| cell | T, B, I, H | mode | weights |", " | ".join(COLUMNS), "|")
    print("| --- | --- | --- | --- |" + " --- |" * len(COLUMNS), flush=True)
    end = time.monotonic() + options.seconds
    rows = list(itertools.product(options.dtypes, options.cells, options.shapes, options.modes))
    for done, (dtype, cell, shape, mode) in enumerate(rows):
        if time.monotonic() > end:
            print(f"\n{len(rows) - done} of {len(rows)} rows are left out: the time is over")
            break
        clear_graphs()
        runs = candidates(
            cell, shape, mode, DTYPES[dtype], options.device, loop_steps=options.loop_steps
        )
        times = interleave(runs, options.repeats, options.device)
        start = f"| {cell} | {', '.join(map(str, shape))} | {mode} | {dtype} | "
        print(start + " | ".join(summaries(times)) + " |", flush=True)


def use_tf32(allowed: bool) -> None:
    """Have cuBLAS, which our steps call, and cuDNN multiply float32 alike."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def clear_graphs() -> None:
    """Give up all recorded graphs, of which there are only so many."""
    graphs = sys.modules.get("lnrnn.ops.triton_graphs")  # not there before the first call
    if graphs is not None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # one may still be running
        graphs.GRAPHS.windows.clear()


def layers_of(cell: str, dtype: torch.dtype | None, device: str) -> tuple[Any, Any]:
    """Return torch's layer, or what stands in for it on a CPU that does not have it, and ours."""
    theirs, ours = CELLS[cell]
    lacks = cell == "lstm" and dtype is not None and torch_lstm_dtype(device) is None
    return ours if lacks else theirs, ours


def candidates(
    cell: str,
    shape: tuple[int, ...],
    mode: str,
    dtype: torch.dtype | None,
    device: str,
    *,
    loop_steps: int = 0,
) -> dict[str, Run]:
    """Return what is timed, by name.

    Args:
        cell: One of `CELLS`.
        shape: T, B, I, H.
        mode: One of `MODES`.
        dtype: Of autocast, if it is on.
        device: "cuda" or "cpu".
        loop_steps: Steps of the loop, if not T: it takes a thousand times as long as a graph does.
    """
    steps, batch, features, hidden = shape
    theirs, ours = layers_of(cell, dtype, device)
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
    runs = {}
    for name, layer in layers.items():
        length = loop_steps or steps if name == LOOP else steps
        data = x[:length].detach().requires_grad_(x.requires_grad), cotangent[:length]
        run = _timed(layer, *data, mode, dtype, graphs=name != PLAIN)
        runs[name] = Run(run, steps / length)
    return runs


def _timed(
    layer: nn.Module,
    x: Tensor,
    cotangent: Tensor,
    mode: str,
    dtype: torch.dtype | None,
    *,
    graphs: bool,
) -> Callable[[], object]:
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

    The loop takes part in one of these and in every third round.
    """
    measures = {name: partial(measure_scaled, run, device) for name, run in runs.items()}
    times = turns.interleave(
        measures,
        repeats,
        warm_up=2,
        sits_out=lambda name, number: name == LOOP and number != -1 and number % 3 != 0,
    )
    return {name: [ms for ms in values if ms is not None] for name, values in times.items()}


def measure_scaled(run: Run, device: str) -> float:
    """Return the milliseconds of one run, scaled to the whole sequence."""
    return measure(run.call, device) * run.scale


def measure(run: Callable[[], object], device: str) -> float:
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
    used = [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32]
    switches = [f"{where} {'on' if on else 'off'}" for where, on in zip(TF32, used, strict=True)]
    return f"{name}, {versions}, TF32: {', '.join(switches)}"


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
    add("--tf32", action="store_true", help="multiply float32 in TF32, in cuBLAS and cuDNN")
    add("--loop-steps", type=int, default=0, metavar="N", help="run the loop for N steps only")
    add("--seconds", type=float, default=math.inf, help="begin no row after so many")
    return parser


if __name__ == "__main__":
    main()
