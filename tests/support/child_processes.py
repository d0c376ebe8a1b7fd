"""What tests run in processes of their own: such a process can import this file, and no test."""

from pathlib import Path

import torch
from norm_cases import LAYERS, randomized
from torch import Tensor


def make_layer(cell: str) -> torch.nn.Module:
    """Return a layer with everything that a kernel is asked for at once."""
    options = {"num_layers": 2, "bidirectional": True, "norm": "cell", "fused": True}
    return randomized(LAYERS[cell](5, 33, **options))


class Encoded(torch.utils.data.Dataset):
    """Sequences that a layer encodes as they are read."""

    def __init__(self, layer: torch.nn.Module) -> None:
        self.layer = layer
        self.sequences = [torch.randn(n, 5) for n in (4, 9, 2, 7)]

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> Tensor:
        with torch.no_grad():
            return self.layer(self.sequences[index])[0]


def count_threads(threads: int) -> tuple[int, int]:
    """Return how many threads the system counts in this process before kernels run, and after."""
    torch.set_num_threads(threads)
    layer = make_layer("lstm")
    x = torch.randn(9, 400, 5)
    before = _system_threads()
    with torch.no_grad():
        layer(x)
    return before, _system_threads()


def _system_threads() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Threads:"))
