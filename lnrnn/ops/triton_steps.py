"""The loop over time steps around the Triton kernels: who is live when, and how to launch.

Nothing here knows a cell or a GPU: a cell describes its loop (`Loop`), and `advance` launches it
step by step. `lnrnn.ops.triton_graphs` decides whether a step is launched or replayed.

Dimensions: T steps, B sequences, N rows of all steps together. Steps lie in order of time; packed
sequences are sorted by falling length, so the live ones of a step are always the first.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

Tensors = dict[str, Tensor | None]
Place = tuple[int, int]  # of one step: its first row, and how many sequences are live

# Programs of a backward kernel, each with a row of sums to itself: twice the processors of an H100,
# so that none is idle, and the rows of a large batch do not outgrow the rest.
MAX_PROGRAMS = 256


class Steps:
    """The rows of each step, as they lie in memory."""

    def __init__(self, x: Tensor, batch_sizes: Tensor | None, reverse: bool) -> None:
        self.packed, self.reverse = batch_sizes is not None, reverse
        padded = [x.shape[1]] * x.shape[0]
        self.live: list[int] = padded if batch_sizes is None else batch_sizes.tolist()
        self.first = list(accumulate(self.live[:-1], initial=0))
        self.batch, self.total = self.live[0], sum(self.live)

    def places(self, *, backward: bool = False) -> list[Place]:
        """Return the steps in the order in which they are computed."""
        places = list(zip(self.first, self.live, strict=True))
        return places[::-1] if self.reverse != backward else places

    def before(self, output: Tensor, h_0: Tensor) -> Tensor:
        """Return the hidden state before each row: ``output``, (N, R), one step earlier."""
        if not self.packed:
            shifted = (output[self.batch :], h_0) if self.reverse else (h_0, output[: -self.batch])
            return torch.cat(shifted)
        return torch.cat(self._pieces(output, h_0))

    def handed_on(self, output: Tensor, cuts: Tensor | None, reset: Tensor | None) -> Tensor:
        """Return ``output``, (N, R), with the state after a reset, (B, R), where a row is cut."""
        if cuts is None:
            return output
        where = cuts.reshape(-1, 1)
        if reset is None:
            return output.masked_fill(where, 0)
        return torch.where(where, torch.cat([reset[:live] for live in self.live]), output)

    def _pieces(self, output: Tensor, h_0: Tensor) -> list[Tensor]:
        pieces = []
        for t, live in enumerate(self.live):
            earlier = t + 1 if self.reverse else t - 1
            known = min(live, self.live[earlier]) if 0 <= earlier < len(self.live) else 0
            if known:
                pieces.append(output[self.first[earlier] :][:known])
            pieces.append(h_0[known:live])
        return pieces


Step = Callable[[dict[str, Any], dict[str, Any], int, int], None]


@dataclass(frozen=True)
class Loop:
    """What runs at every step, and the tensors it works on, by what becomes of them.

    Attributes:
        name: Which loop.
        step: Launches one step; takes ``constants``, all tensors by name, and the step's place.
        constants: What a kernel is compiled for.
        read: A row for each of N, (N, ...): read at its step.
        written: A row for each of N: written at its step.
        state: Read and written at every step.
        scratch: Written before it is read, at every step.
        fixed: Read at every step.
        masks: Whether a step leaves the states of rows alone that are not ``alive``: a row of
            ``read`` for each of N, which is None where all are.
    """

    name: str
    step: Step
    constants: dict[str, Any]
    read: Tensors
    written: Tensors
    state: Tensors
    scratch: Tensors
    fixed: Tensors
    masks: bool = True

    @property
    def device(self) -> torch.device:
        """Return where the tensors are."""
        return next(tensor.device for tensor in self.state.values() if tensor is not None)

    @property
    def key(self) -> Hashable:
        """Return all that tells the kernels of this loop from those of others."""
        tensors = self.tensors().items()
        layout = [(n, None) if t is None else (n, t.shape[1:], t.dtype) for n, t in tensors]
        return self.name, *self.constants.items(), *layout

    def tensors(self) -> Tensors:
        """Return all tensors by name."""
        found = {"alive": None, "found": None, **self.read, **self.written}
        return {**found, **self.state, **self.scratch, **self.fixed}

    def advance(self, tensors: Tensors, places: Sequence[Place]) -> None:
        """Launch the steps at ``places`` on ``tensors``, which are as the loop's but for N."""
        for tensor in tensors.values():
            assert tensor is None or tensor.is_contiguous(), "kernels see memory, not strides"
        for first, live in places:
            self.step(self.constants, tensors, first, live)


class Tile(NamedTuple):
    """What one program computes, and with how many warps.

    Attributes:
        rows: Sequences, a power of two.
        columns: Units, the power of two from H on.
        warps: Groups of 32 threads.
    """

    rows: int
    columns: int
    warps: int


def tile(hidden: int) -> Tile:
    """Return the tile for H units: one row, four units a thread.

    Compiled for an H100, one row has a third of the barriers of two; with four units a thread, a
    load of float32 has the widest there is, and nothing spills.
    """
    columns = 1 << (hidden - 1).bit_length()
    return Tile(1, columns, min(max(columns // 128, 1), 16))


def blocks_of(batch: int, hidden: int) -> tuple[int, int]:
    """Return how many programs a backward kernel has, and how many tiles each computes in turn."""
    tiles = max(1, -(-batch // tile(hidden).rows))  # of no sequences too
    each = -(-tiles // MAX_PROGRAMS)
    return -(-tiles // each), each


def launch(
    kernel: Any, constants: dict[str, Any], tensors: dict[str, Any], first: int, live: int
) -> None:
    """Run a kernel over the rows of one step.

    Args:
        kernel: Has parameters of the names of ``constants`` and of tensors.
        constants: Among them H, and ``blocks`` if a program computes several tiles.
        tensors: By name; those that the kernel has no parameter for are left out.
        first: The step's first row.
        live: Its sequences.
    """
    shape = tile(constants["H"])
    sequences = shape.rows * constants.get("blocks", 1)
    kernel[(-(-live // sequences),)](
        **{name: tensor for name, tensor in tensors.items() if name in kernel.arg_names},
        **constants,
        first=first,
        live=live,
        BB=shape.rows,
        BH=shape.columns,
        num_warps=shape.warps,
        enable_fp_fusion=True,
    )


def product_then(kernel: Any) -> Step:
    """Return a forward step: W h, then the kernel."""

    def step(constants: dict[str, Any], tensors: dict[str, Any], first: int, live: int) -> None:
        product(tensors, live)
        launch(kernel, constants, tensors, first, live)

    return step


def product(t: dict[str, Any], live: int) -> None:
    """Make W h, of what the product reads of h."""
    read = t["h"] if t["h_seen"] is None else t["h_seen"]
    torch.mm(read[:live], t["weight"].t(), out=t["product"][:live])


def then_product(kernel: Any) -> Step:
    """Return a backward step: the kernel, then the gradient of h from that of W h."""

    def step(constants: dict[str, Any], tensors: dict[str, Any], first: int, live: int) -> None:
        t = tensors
        launch(kernel, constants, t, first, live)
        product_back(t, first, live)

    return step


def product_back(t: dict[str, Any], first: int, live: int) -> None:
    """Make the gradient of h from that of W h, where a row is alive."""
    if t["alive"] is None:
        torch.mm(t["d_product"][:live], t["weight"], out=t["d_h"][:live])
        return
    alive, d_h = t["alive"][first : first + live].view(torch.bool), t["d_h"][:live]
    torch.mm(t["d_product"][:live], t["weight"], out=t["found"][:live])
    torch.where(alive, t["found"][:live], d_h, out=d_h)


def widened(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of arithmetic, statistics and cell states."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def plain(tensor: Tensor | None) -> Tensor | None:
    """Return the tensor as it lies best for a kernel."""
    return None if tensor is None else tensor.contiguous()


def flat(x: Tensor) -> Tensor:
    """Return ``x``, padded or packed, as (N, ...)."""
    return x.reshape(-1, x.shape[-1]).contiguous()


def copied(state: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a copy that steps may write to."""
    return state.to(dtype, copy=True, memory_format=torch.contiguous_format)


def byte_rows(cuts: Tensor | None) -> Tensor | None:
    """Return which rows are cut, (N, 1), as a kernel reads it."""
    return None if cuts is None else cuts.reshape(-1, 1).to(torch.uint8)


def zeros_of(reset: Tensor | None) -> Tensor | None:
    """Return what the gradient of a state after a reset is added up in, where there is one."""
    return None if reset is None else reset.new_zeros(reset.shape, dtype=widened(reset.dtype))


def sum_of(d_reset: Tensor | None, reset: Tensor | None, like: Tensor) -> Tensor:
    """Return the gradient of a state after a reset, empty where there is none."""
    if d_reset is None or reset is None:
        return like.new_empty(0)
    return d_reset.to(reset.dtype)


def summed(sums: Tensor, widths: Sequence[int], like: Sequence[Tensor | None]) -> list[Tensor]:
    """Add up the programs' rows and return one gradient for each of ``like``, empty for None."""
    parts = sums.sum(0).split_with_sizes(list(widths))
    return [
        sums.new_empty(0) if tensor is None else part.to(tensor.dtype, copy=True)
        for part, tensor in zip(parts, like, strict=True)
    ]


def spans_of(gates: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return where each norm begins and ends, from how many gates each covers.

    Of [2, 1] it makes ((0, 2), (2, 3)).
    """
    return tuple(zip(accumulate(gates[:-1], initial=0), accumulate(gates), strict=True))
