"""Measure what a norm inside the step costs, on this machine's CPU.

Examples:
  python scripts/benchmark.py                                  everything, a quarter of an hour
  python scripts/benchmark.py --quick                          a tiny shape, to see that it runs
  python scripts/benchmark.py --cells lstm --modes training --threads 1 --no-loops --repeats 11
  python scripts/benchmark.py --heap keep --out keep.jsonl     page faults removed on both sides
  python scripts/benchmark.py --read stock.jsonl keep.jsonl --markdown --figure ratios.png
  ATEN_CPU_CAPABILITY=avx2 python scripts/benchmark.py         as on a CPU with AVX2

What is compared:
  cell norm      lnrnn's layer with norm="cell", by the fused kernel: the "ours" of every ratio
  torch          torch.nn's layer of the same cell and size, without a norm
  torch + norm   the same, and torch.nn.LayerNorm over its output
  reference      lnrnn's layer with fused=False: a loop that defines the numbers
  TorchScript    the loop as PyTorch's custom_lstms example writes it, scripted
  Python loop    the same loop as it is

Cells: lstm, gru, rnn

Modes, each on shapes from (128,32,64,128) to (64,64,1024,1024) with 1 and 2 threads:
  training       forward and backward of one layer: input projection, norms, recurrence, all
                 gradients, made anew as after zero_grad(); float32
  inference      forward under no_grad
  forward        forward with what the backward needs being kept; without the loops
  bf16           training under torch.autocast("cpu", torch.bfloat16); also against our float32
  packed         training on a PackedSequence, lengths uniform in [T/10, T]; against our padded
                 time and against torch.nn on the same PackedSequence
  streaming      one call of a cell (LSTMCell ...) on one sequence, 256 units, without gradients
  memory         peak memory of training, each candidate in a process of its own: how far resident
                 memory rises above weights and input in two steps (VmHWM; Linux only)
  end-to-end     an optimizer step of scripts/train.py data=mnist1d model=lstm_lncell, against
                 model=lstm and fused=False
  overhead       the wall-clock time of a whole training run, start and test left out, per optimizer
                 step, against Lightning alone and a bare loop on the same batches, which validate
                 after every epoch too; lstm is data=mnist1d model=lstm_lncell, rnn is
                 data=japanese_vowels model=rnn_ln

How to read it:
  A line gives what ours took, then that over what each of the others took: below 1, ours is
  faster (or smaller). Candidates run in turns, and a ratio is of times of the same round; shown is
  the median over the rounds, quartiles in brackets. Loops run in one round of three.
  With --heap stock, a run pays for page faults of freshly mapped memory, as a user's does. With
  --heap keep, malloc keeps its memory, and both sides are free of them: the computation alone.
  --precision is torch.set_float32_matmul_precision's: docs/kernels.md says what heeds it.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from benchmarks import memory, report, workloads
from benchmarks.machine import describe_machine, use_heap
from benchmarks.rows import Row, read_rows
from benchmarks.timing import interleave

Shape = tuple[int, ...]

CELLS = tuple(workloads.LAYERS)
WHOLE = ("training", "inference", "forward")
MODES = (*WHOLE, "bf16", "packed", "streaming", "memory", "end-to-end", "overhead")
PRECISIONS = ("highest", "high", "medium")


class Plan(NamedTuple):
    """What is measured unless the command line says otherwise.

    Args:
        shapes: Steps, batch, input features, hidden units.
        stream: The shape for "streaming", of which the steps do not count.
        threads: Of torch.
        repeats: Rounds.
        steps: Optimizer steps of a round of "end-to-end"; "overhead" takes five times as many.
    """

    shapes: tuple[Shape, ...]
    stream: Shape
    threads: tuple[int, ...]
    repeats: int
    steps: int


FULL = Plan(
    ((128, 32, 64, 128), (128, 64, 256, 256), (128, 64, 512, 512), (64, 64, 1024, 1024)),
    (1, 1, 256, 256),
    (1, 2),
    5,
    30,
)
QUICK = Plan(((12, 8, 6, 16),), (1, 1, 16, 16), (1,), 2, 6)


def main() -> None:
    """Measure what the command line asks for, or read it, and show it."""
    options = _parser().parse_args()
    if options.read:
        try:
            rows = read_rows(options.read)
        except (ValueError, OSError) as error:
            sys.exit(f"error: {error}")
        _show(iter(rows))
    else:
        if options.precision != "highest" and "memory" in options.modes:
            sys.exit(
                "error: --precision holds in this process, and memory is measured in others: name "
                "other --modes"
            )
        use_heap(options.heap)
        torch.set_float32_matmul_precision(options.precision)
        rows = _show(_measured(options, options.out))
    if options.markdown:
        print(f"\n{report.markdown(rows)}")
    if options.figure is not None:
        # Imported when wanted: the rest does without matplotlib.
        from benchmarks.figure import draw

        try:
            draw(rows, options.figure)
        except ValueError as error:
            sys.exit(f"error: {error}")
        print(f"\nfigure: {options.figure}")


def _show(rows: Iterator[Row]) -> list[Row]:
    """Print rows as they come, under a heading where the mode changes, and return them."""
    shown: list[Row] = []
    for row in rows:
        before = shown[-1] if shown else None
        if before is None or before.machine != row.machine:
            print(", ".join(f"{name} {value}" for name, value in row.machine.items()))
        if before is None or (before.mode, before.heap, list(before.values)) != (
            row.mode,
            row.heap,
            list(row.values),
        ):
            print(report.heading(row))
        print(report.line(row), flush=True)
        shown.append(row)
    return shown


def _measured(options: argparse.Namespace, out: Path | None) -> Iterator[Row]:
    """Measure and yield row after row, each written to ``out`` at once."""
    plan = QUICK if options.quick else FULL
    given = {name: getattr(options, name) for name in ("shapes", "threads", "repeats")}
    plan = plan._replace(**{name: value for name, value in given.items() if value is not None})
    machine = describe_machine()
    for row in _rows(plan, options.modes, options.cells, loops=not options.no_loops):
        found = dataclasses.replace(row, machine=machine)
        if out is not None:
            with out.open("a", encoding="utf-8") as file:
                file.write(found.to_json() + "\n")
        yield found


def _rows(plan: Plan, modes: Sequence[str], cells: Sequence[str], *, loops: bool) -> Iterator[Row]:
    """Measure and yield row after row."""
    before = torch.get_num_threads()
    for mode in modes:
        # A second number of threads would use the same memory.
        for threads in plan.threads[:1] if mode == "memory" else plan.threads:
            for cell in cells:
                torch.manual_seed(0)
                torch.set_num_threads(threads)
                try:
                    yield from _measure(mode, cell, threads, plan, loops=loops)
                finally:
                    torch.set_num_threads(before)


def _measure(mode: str, cell: str, threads: int, plan: Plan, *, loops: bool) -> Iterator[Row]:
    """Measure and yield the rows of one mode, cell and number of threads."""
    if mode == "memory":
        why = memory.why_not()
        if why is not None:
            print(f"memory is left out: {why}", file=sys.stderr)
            return
        for shape in plan.shapes:
            peaks = memory.peak_memory(cell, shape, threads, max(1, plan.repeats // 4))
            yield Row(mode, cell, shape, threads, "MiB", peaks)
    elif mode == "end-to-end":
        # Imported when wanted: Lightning and the data take seconds.
        from benchmarks.end_to_end import time_training, trained_shape

        times = time_training(cell, plan.repeats, plan.steps)
        yield Row(mode, cell, trained_shape(cell), threads, "ms a step", times)
    elif mode == "overhead":
        from benchmarks.overhead import CASES, time_runs

        if cell in CASES:
            times, shape = time_runs(cell, plan.repeats, 5 * plan.steps)
            yield Row(mode, cell, shape, threads, "ms a step", times)
    elif mode == "streaming":
        work = workloads.single_steps(cell, plan.stream, loops=loops)
        times = interleave(work, 3 * plan.repeats, 1e6 / workloads.STREAM)
        yield Row(mode, cell, plan.stream, threads, "us", times)
    else:
        for shape in plan.shapes:
            work = _workload(mode, cell, shape, loops=loops)
            yield Row(mode, cell, shape, threads, "ms", interleave(work, plan.repeats), work.note)


def _workload(mode: str, cell: str, shape: Shape, *, loops: bool) -> workloads.Workload:
    if mode == "bf16":
        return workloads.bfloat16_training(cell, shape)
    if mode == "packed":
        return workloads.packed_training(cell, shape)
    return workloads.whole_sequences(cell, shape, mode, loops=loops and mode != "forward")


def _shape(text: str) -> Shape:
    """Read a shape as the command line gives it."""
    sizes = tuple(int(part) if part.isdigit() else 0 for part in text.split(","))
    if len(sizes) != 4 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(
            f"a shape is steps,batch,input,hidden, such as 128,64,256,256; got {text!r}"
        )
    return sizes


def _count(text: str) -> int:
    """Read a positive whole number."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"needs a whole number of at least 1, got {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    summary, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--modes", nargs="+", choices=MODES, default=MODES, metavar="MODE", help="default: all")
    add("--cells", nargs="+", choices=CELLS, default=CELLS, metavar="CELL", help="default: all")
    add("--shapes", nargs="+", type=_shape, metavar="T,B,I,H", help="steps,batch,input,hidden")
    add("--threads", nargs="+", type=_count, metavar="N", help="of torch; default: 1 2")
    add("--repeats", type=_count, metavar="N", help=f"rounds; default: {FULL.repeats}")
    add("--no-loops", action="store_true", help="leave out the loops, which take the longest")
    add("--heap", choices=("stock", "keep"), default="stock", help="see the end; default: stock")
    add("--precision", choices=PRECISIONS, default="highest", help="of products in float32")
    add("--quick", action="store_true", help="a tiny shape, one thread: no numbers to quote")
    add("--out", type=Path, metavar="FILE", help="append a line of JSON for each measurement")
    add("--read", nargs="+", type=Path, metavar="FILE", help="measure nothing, show such files")
    add("--markdown", action="store_true", help="also print tables in Markdown")
    add("--figure", type=Path, metavar="FILE", help="draw training against hidden size, a PNG")
    return parser


if __name__ == "__main__":
    main()
