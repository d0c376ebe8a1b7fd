"""What there is to beat: torch's LSTM and GRU without a norm, and the kernels that they run.

    python -m gpu_check.cudnn

cuDNN chooses its way by dtype and size, so a ratio to it means little without the names.
"""

import itertools

import torch
from torch import Tensor, nn

from gpu_check.kernels import kernels_of
from gpu_check.sizes import DEVICE, SIZES, median_milliseconds

CELLS = {"LSTM": nn.LSTM, "GRU": nn.GRU}
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
SHOWN = 3  # kernels of a row


def main() -> None:
    """Print a row a cell, dtype, size and mode."""
    torch.backends.cudnn.allow_tf32 = False
    print(f"nn.LSTM and nn.GRU, T={SIZES.steps}, B={SIZES.batch}, input size H, TF32 off\n")
    print("| cell | H | weights | mode | ms | us a step | kernels, by time |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for dtype, hidden, cell in itertools.product(DTYPES, SIZES.cudnn, CELLS):
        for mode in ("inference", "training"):
            print(row(cell, hidden, dtype, mode), flush=True)


def row(cell: str, hidden: int, dtype: str, mode: str) -> str:
    """Return one line of the table."""
    torch.manual_seed(0)
    layer = CELLS[cell](hidden, hidden, device=DEVICE, dtype=DTYPES[dtype])
    x = torch.randn(SIZES.steps, SIZES.batch, hidden, device=DEVICE, dtype=DTYPES[dtype])

    def infer() -> Tensor:
        with torch.no_grad():
            return layer(x)[0]

    def train() -> None:
        layer.zero_grad()
        output = layer(x)[0]
        output.backward(x)

    run = infer if mode == "inference" else train
    time = median_milliseconds(run)
    found = kernels_of(run)
    shown = [f"{k.launches} x {k.name[:90]}, {k.milliseconds:.2f} ms" for k in found[:SHOWN]]
    start = f"| {cell} | {hidden} | {dtype} | {mode} | {time:.2f} | {1e3 * time / SIZES.steps:.2f} "
    return f"{start}| {'; '.join(shown).replace('|', '/')} |"


if __name__ == "__main__":
    main()
