"""Estimate what the CUDA kernels take on an H100, from bytes, operations and launches alone.

    python scripts/roofline.py

No number here was measured. What is assumed stands in `Assumptions`; everything else is counted.
A step is two launches that wait for one another, the product W h and the fused kernel. Each takes
as long as it has work for the GPU's memory and multipliers, and never less than its latency. A
graph works on rows of its own, which are copied in and out. Without graphs the GPU waits for Python
to launch. Work outside the loop (projection, input norm, gradients of weights) is not in it.
"""

from dataclasses import asdict, dataclass

from lnrnn.ops.gates import GATES

BATCH, STEPS, SIZES = 64, 512, (128, 256, 512, 1024)
MOMENTS = {"rnn": 2, "lstm": 10, "gru": 6}  # numbers kept of each row's norms
WIDE, NARROW = 4, 2  # bytes: float32 for x, gains, cell states and sums, bfloat16 for the rest
LAUNCHES = 2  # of a step, one after the other


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


def main() -> None:
    """Print the table."""
    assumed = Assumptions()
    print("| assumed | |")
    print("| --- | ---: |")
    for name, value in asdict(assumed).items():
        print(f"| {name} | {value:.3g} |")
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
