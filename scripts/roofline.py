"""Estimate what the CUDA kernels take on an H100, from bytes, operations and launches alone.

    python scripts/roofline.py

What is assumed stands in `Assumptions` and `OfAProcessor`; everything else is counted, and what a
GPU has measured of it stands beside it.

Step by step, a step is two launches that wait for one another, the product W h and the fused
kernel. Each takes as long as it has work for the GPU's memory and multipliers, and never less than
its latency. A graph works on rows of its own, which are copied in and out. Without graphs the GPU
waits for Python to launch.

In one launch over whole sequences, a program has 16 of them on one processor, and a step is what
its warps do one after the other: the product, all other instructions, the barriers between them.

Work outside the loop (projection, input norm, gradients of weights, moments) is not in it.
"""

from dataclasses import asdict, dataclass

from lnrnn.ops.gates import GATES

BATCH, STEPS, SIZES = 64, 512, (128, 256, 512, 1024)
MOMENTS = {"rnn": 2, "lstm": 10, "gru": 6}  # numbers kept of each row's norms
WIDE, NARROW = 4, 2  # bytes: float32 for x, gains, cell states and sums, bfloat16 for the rest
LAUNCHES = 2  # of a step, one after the other
SEQUENCES = 16  # of a program that computes them whole
# Of such a kernel: instructions of a thread and barriers in the loop over steps, compiled for sm_90
# by Triton 3.7, by cell, dtype of the weights and H, forward and backward. tests/aot counts again.
COMPILED = {
    ("rnn", "bf16", 64): ((249, 8), (332, 7)),
    ("rnn", "bf16", 128): ((383, 8), (529, 7)),
    ("rnn", "bf16", 256): ((742, 10), (1203, 11)),
    ("lstm", "bf16", 64): ((772, 10), (1051, 22)),
    ("lstm", "bf16", 128): ((1403, 10), None),
    ("gru", "bf16", 64): ((565, 8), (758, 20)),
    ("gru", "bf16", 128): ((955, 8), (1292, 20)),
    ("rnn", "fp32", 64): ((573, 2), (688, 2)),
    ("rnn", "fp32", 128): ((1751, 10), (1908, 7)),
    ("lstm", "fp32", 64): ((1949, 3), (2493, 2)),
    ("gru", "fp32", 64): ((1448, 3), (1899, 2)),
}
# Milliseconds of one launch over T=512, B=64 on an H200, forward and backward.
MEASURED = {
    ("rnn", "bf16", 128): (0.75, 1.21),
    ("lstm", "bf16", 64): (1.07, 1.99),
    ("gru", "bf16", 128): (1.56, 2.94),
}


@dataclass(frozen=True)
class Assumptions:
    """What is taken for granted: an H100 SXM.

    Attributes:
        memory: Bytes a microsecond to and from HBM: nine tenths of the data sheet's 3.35e6.
        cache: The same for L2, where weights and states stay between steps.
        multiply: Multiply-adds a microsecond, bfloat16: a tenth of the data sheet's 4.95e8, since a
            product with 64 rows has few tiles for 132 processors.
        product: Microseconds of the smallest product.
        kernel: Microseconds of the smallest fused kernel: loads, four reductions, stores, each
            waiting for the one before.
        gap: Microseconds from one kernel of a graph to the next that depends on it.
        launch: Microseconds that launching one kernel from Python takes.
    """

    memory: float = 0.9 * 3.35e6
    cache: float = 5.5e6
    multiply: float = 0.1 * 4.95e8
    product: float = 3.0
    kernel: float = 2.0
    gap: float = 1.3
    launch: float = 12.0


@dataclass(frozen=True)
class Step:
    """What one step moves and computes.

    Attributes:
        rows: Bytes of what has a row for every step: read or written once, in HBM.
        kept: Bytes of what all steps share, weights, states, sums: read or written in L2.
        multiplications: Of the product.
    """

    rows: int
    kept: int
    multiplications: int


@dataclass(frozen=True)
class OfAProcessor:
    """What is taken for granted of one of an H100 SXM's 132 processors.

    Attributes:
        clock: Cycles a microsecond, at most.
        copied: Bytes a cycle to and from L2.
        shared: Bytes a cycle from shared memory.
        matrix: Multiply-adds a cycle of its matrix units, bfloat16: half of the data sheet's, which
            has other instructions than Triton uses for 16 rows.
        single: Multiply-adds a cycle, float32.
        issued: Instructions a cycle: half of four schedulers', which have two warps each.
        barrier: Cycles that the warps wait at a barrier, and for shared memory around it.
    """

    clock: float = 1980
    copied: float = 64
    shared: float = 128
    matrix: float = 512
    single: float = 128
    issued: float = 2
    barrier: float = 60


@dataclass(frozen=True)
class WholeStep:
    """What one step of a program's sequences moves and computes.

    Attributes:
        rows: Bytes of what has a row for every step: read or written once.
        shared: Bytes of W_hh, read from shared memory by all warps together.
        multiplications: Of the product.
        matrix: Whether matrix units multiply.
        instructions: Of all warps, but for the product's multiplications in float32.
        barriers: For all threads.
    """

    rows: int
    shared: int
    multiplications: int
    matrix: bool
    instructions: int
    barriers: int


def forward(cell: str, hidden: int, batch: int) -> Step:
    """Count one step forward in training."""
    gates, moments = len(GATES[cell]) * hidden, MOMENTS[cell]
    row = WIDE * gates + NARROW * hidden  # x, output
    row += NARROW * gates + WIDE * moments  # W h, moments
    row += WIDE * hidden if cell == "lstm" else 0  # cell states
    kept = batch * NARROW * 2 * (gates + hidden)  # W h and h, written and read
    kept += batch * WIDE * 2 * hidden if cell == "lstm" else 0
    weights = NARROW * gates * hidden + WIDE * 2 * gates
    return Step(batch * row, kept + weights, batch * gates * hidden)


def backward(cell: str, hidden: int, batch: int) -> Step:
    """Count one step backward; the product for the weight's gradient comes once, after the loop."""
    gates, moments = len(GATES[cell]) * hidden, MOMENTS[cell]
    row = WIDE * gates + NARROW * gates + WIDE * moments  # x, W h, moments
    row += 0 if cell == "rnn" else WIDE * gates  # gradient of x; the RNN's is that of W h
    row += NARROW * gates + NARROW * hidden  # gradients of W h, of the output
    row += {"lstm": WIDE, "gru": NARROW, "rnn": 0}[cell] * hidden  # states before
    kept = batch * NARROW * 2 * (gates + hidden)
    kept += 0 if cell == "rnn" else batch * WIDE * 2 * hidden
    kept += WIDE * min(batch, 256) * 2 * (2 * gates + (2 * hidden if cell == "lstm" else 0))
    weights = NARROW * gates * hidden + WIDE * 2 * gates
    return Step(batch * row, kept + weights, batch * gates * hidden)


def microseconds(step: Step, assumed: Assumptions, *, graph: bool = True) -> float:
    """Return how long a step takes."""
    product = max(step.multiplications / assumed.multiply, assumed.product)
    moved = step.rows / assumed.memory + step.kept / assumed.cache
    busy = product + max(moved, assumed.kernel)
    if not graph:
        return max(busy, LAUNCHES * assumed.launch)
    copies = 2 * step.rows / assumed.memory
    return busy + copies + LAUNCHES * assumed.gap


def whole_rows(cell: str, hidden: int, narrow: int) -> tuple[int, int]:
    """Count the bytes of a row, forward in training and backward.

    Args:
        cell: Which.
        hidden: H.
        narrow: Bytes of a weight and of what is stored like one.
    """
    gates = len(GATES[cell]) * hidden
    states = {"lstm": WIDE, "gru": narrow, "rnn": 0}[cell] * hidden  # before each step
    there = WIDE * gates + narrow * hidden  # x, output
    there += states if cell == "lstm" else 0
    back = WIDE * gates + narrow * gates + WIDE * MOMENTS[cell] + states  # x, W h, moments
    back += narrow * hidden  # gradient of the output
    back += WIDE * gates + narrow * gates  # gradients of x and W h
    back += WIDE * hidden if cell == "gru" else 0  # and of the candidate's norm
    return there, back


def whole(cell: str, dtype: str, hidden: int) -> list[WholeStep | None]:
    """Count a step of 16 sequences in one launch, forward and backward; None where none fits."""
    gates, narrow = len(GATES[cell]), NARROW if dtype == "bf16" else WIDE
    warps, matrix = min(max(hidden // 8, 4), 8), dtype == "bf16"
    multiplications = SEQUENCES * gates * hidden**2
    # Matrix units share W_hh out among the warps; without them each warp has rows of its own.
    shared = gates * hidden**2 * narrow * (1 if matrix else warps)
    steps: list[WholeStep | None] = []
    for row, counted in zip(
        whole_rows(cell, hidden, narrow), COMPILED[cell, dtype, hidden], strict=True
    ):
        if counted is None:
            steps.append(None)
            continue
        thread, barriers = counted
        others = thread * warps - (0 if matrix else multiplications // 32)
        steps.append(WholeStep(SEQUENCES * row, shared, multiplications, matrix, others, barriers))
    return steps


def whole_microseconds(step: WholeStep, assumed: OfAProcessor) -> float:
    """Return how long a step takes: rows are copied in and out meanwhile."""
    multiply = assumed.matrix if step.matrix else assumed.single
    product = max(step.multiplications / multiply, step.shared / assumed.shared)
    busy = product + step.instructions / assumed.issued + step.barriers * assumed.barrier
    return max(busy, step.rows / assumed.copied) / assumed.clock


def main() -> None:
    """Print the tables."""
    print_steps()
    print_whole()


def print_assumed(assumed: Assumptions | OfAProcessor) -> None:
    """Print what is taken for granted."""
    print("| assumed | |")
    print("| --- | ---: |")
    for name, value in asdict(assumed).items():
        print(f"| {name} | {value:.3g} |")


def print_whole() -> None:
    """Print what a step takes in one launch over whole sequences."""
    assumed = OfAProcessor()
    print("\nIn one launch\n")
    print_assumed(assumed)
    print(
        f"\nEstimated for an H100 SXM, of {SEQUENCES} sequences; measured on an H200, B={BATCH}\n"
    )
    print("| cell | weights | H | way | KB of rows | KB of W_hh | MFLOP | instructions ", end="")
    print("| barriers | us a step | measured |")
    print("| --- | --- |" + " ---: |" * 9)
    for cell, dtype, hidden in COMPILED:
        steps = whole(cell, dtype, hidden)
        found = MEASURED.get((cell, dtype, hidden), (None, None))
        for way, step, time in zip(("forward", "backward"), steps, found, strict=True):
            if step is None:
                continue
            taken = "not measured" if time is None else f"{1e3 * time / STEPS:.1f}"
            print(
                f"| {cell} | {dtype} | {hidden} | {way} | {step.rows / 1e3:.0f} "
                f"| {step.shared / 1e3:.0f} | {2 * step.multiplications / 1e6:.1f} "
                f"| {step.instructions} | {step.barriers} "
                f"| {whole_microseconds(step, assumed):.1f} | {taken} |"
            )


def print_steps() -> None:
    """Print what a step takes in launches of its own."""
    assumed = Assumptions()
    print_assumed(assumed)
    print(f"\nEstimated, not measured: H100 SXM, T={STEPS}, B={BATCH}, bfloat16 weights\n")
    print("| cell | H | way | MB a step | MFLOP | launches | us a step | T steps, ms | no graphs |")
    print("| --- |" + " ---: |" * 8)
    for cell in GATES:
        for hidden in SIZES:
            for count in (forward, backward):
                step = count(cell, hidden, BATCH)
                time, plain = (microseconds(step, assumed, graph=graph) for graph in (True, False))
                print(
                    f"| {cell} | {hidden} | {count.__name__} | {(step.rows + step.kept) / 1e6:.2f} "
                    f"| {2 * step.multiplications / 1e6:.0f} | {LAUNCHES} | {time:.1f} "
                    f"| {time * STEPS / 1e3:.1f} | {plain * STEPS / 1e3:.1f} |"
                )


if __name__ == "__main__":
    main()
