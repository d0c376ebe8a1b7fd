"""Time the layers against `torch.nn`'s, interleaved, and print ratios.

    python scripts/benchmark.py
    python scripts/benchmark.py --cells lstm --threads 1 --repeats 11 --out benchmark.jsonl

Every candidate runs once a round, so that whatever disturbs the machine disturbs all alike; ratios
are taken within a round, to torch's layer without a norm. The loop is `fused=False`, one round in
three. Times are of the whole layer: projection of the input, norms, recurrence, and in training all
gradients. Each line of the output file is one measurement with the machine and versions.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import lnrnn

SHAPES = [(128, 32, 64, 128), (128, 64, 256, 256), (128, 64, 512, 512), (64, 64, 1024, 1024)]
CELLS: dict[str, tuple[Any, Any]] = {
    "lstm": (nn.LSTM, lnrnn.LSTM),
    "gru": (nn.GRU, lnrnn.GRU),
    "rnn": (nn.RNN, lnrnn.RNN),
}
MODES = ("forward", "training", "inference")
BASE, OUTPUT, CELL, LOOP = "torch", "torch + output norm", "cell norm", "cell norm, loop"


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--shapes", type=int, default=len(SHAPES), help="how many, smallest first")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--no-loop", action="store_true", help="leave the reference's loop out")
    parser.add_argument("--out", type=Path, help="file to append JSON lines to")
    options = parser.parse_args()
    machine = describe_machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print("medians of ratios to torch.nn without a norm, quartiles in brackets")
    for threads in options.threads:
        torch.set_num_threads(threads)
        for cell in options.cells:
            for shape in SHAPES[: options.shapes]:
                for mode in options.modes:
                    runs = candidates(cell, shape, mode, loop=not options.no_loop)
                    times = interleave(runs, options.repeats)
                    row = {"cell": cell, "shape": shape, "mode": mode, "threads": threads}
                    result = {**row, "candidates": summarize(times)}
                    print(line(result), flush=True)
                    if options.out is not None:
                        with options.out.open("a") as file:
                            file.write(json.dumps({**result, **machine}) + "\n")


def candidates(
    cell: str, shape: tuple[int, ...], mode: str, *, loop: bool
) -> dict[str, Callable[[], Any]]:
    """Return what is timed, by name: each a function of nothing."""
    steps, batch, features, hidden = shape
    theirs, ours = CELLS[cell]
    layers = {
        BASE: theirs(features, hidden),
        OUTPUT: ours(features, hidden, norm="output"),
        CELL: ours(features, hidden, norm="cell", fused=True),
    }
    if loop:
        layers[LOOP] = ours(features, hidden, norm="cell", fused=False)
    x = torch.randn(steps, batch, features, requires_grad=True)
    cotangent = torch.randn(steps, batch, hidden)
    return {name: _timed(layer, x, cotangent, mode) for name, layer in layers.items()}


def _timed(layer: nn.Module, x: Tensor, cotangent: Tensor, mode: str) -> Callable[[], Any]:
    def train() -> None:
        layer(x)[0].backward(cotangent)

    def infer() -> None:
        with torch.no_grad():
            layer(x)

    return {"training": train, "inference": infer, "forward": lambda: layer(x)}[mode]


def interleave(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float | None]]:
    """Return the seconds of each candidate in each round, after one round for nothing."""
    times: dict[str, list[float | None]] = {name: [] for name in runs}
    for round_ in range(-1, repeats):
        for name, run in runs.items():
            if name == LOOP and round_ % 3:
                times[name].append(None)
                continue
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: seconds[1:] for name, seconds in times.items()}


def summarize(times: dict[str, list[float | None]]) -> dict[str, dict[str, float]]:
    """Return each candidate's median milliseconds, and the quartiles of its ratio to torch's."""
    result = {}
    for name, seconds in times.items():
        pairs = [(s, b) for s, b in zip(seconds, times[BASE], strict=True) if s and b]
        ratios = [s / b for s, b in pairs]
        low, middle, high = (
            statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
        )
        milliseconds = 1e3 * statistics.median(s for s, _ in pairs)
        result[name] = {"ms": milliseconds, "ratio": middle, "low": low, "high": high}
    return result


def line(result: dict[str, Any]) -> str:
    """Return one measurement as a line of the table."""
    parts = [f"{result['cell']:4} {result['shape']!s:23} {result['mode']:9} t={result['threads']}"]
    for name, found in result["candidates"].items():
        if name == BASE:
            parts.append(f"{name} {found['ms']:.1f} ms")
        else:
            spread = f"[{found['low']:.2f} {found['high']:.2f}]"
            parts.append(f"{name} {found['ratio']:.2f} {spread}")
    return "  ".join(parts)


def describe_machine() -> dict[str, str]:
    """Return what a number is worth nothing without."""
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "-C", str(here), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    )
    return {
        "cpu": _cpu_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "lnrnn": lnrnn.__version__,
        "commit": commit.stdout.strip() or "unknown",
    }


def _cpu_name() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for text in listing.read_text().splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
