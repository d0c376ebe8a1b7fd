"""Steps recorded once in a CUDA graph and replayed: a launch costs more time than a small step.

A graph holds a window of some steps over tensors of its own. A run copies the window's rows in,
replays, and copies the rows out; what the steps hand on to one another stays inside. So one graph
serves sequences of any length, and its memory does not grow with them. What is left at the end of a
sequence is launched plainly, and so is everything where

* sequences are packed, since steps differ in their number of rows;
* a capture is under way already (`torch.cuda.graph`), since the launches are then what should be
  captured;
* a window of `SHORTEST` steps would take more than `MAX_BYTES`: large steps hide their launches;
* all `MAX_GRAPHS` places are taken by graphs in use.

The first run of a graph is compared with plain launches bit for bit. Should it ever differ, or not
be captured, there is one warning, and plain launches from then on.

To record takes as long as many runs: torch waits for the device and gives back all memory that it
keeps at hand. So it is done at the first run of its kind alone.
"""

import threading
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lnrnn.ops.triton_steps import Loop, Place, Steps, Tensors

LONGEST, SHORTEST = 32, 8  # steps of a window
MAX_BYTES = 128 * 2**20  # of a window's rows
MAX_GRAPHS = 16
IDLE_AFTER = 256  # runs without it, from which on a graph makes room for another
STREAMS = 32  # that torch has on a device; it hands them out in turn
# Of torch.backends.cuda.matmul. What a release of torch lacks is None.
PRODUCT_SWITCHES = (
    "fp32_precision",
    "allow_fp16_accumulation",
    "allow_fp16_reduced_precision_reduction",
    "allow_fp16_reduced_precision_reduction_split_k",
    "allow_bf16_reduced_precision_reduction",
    "allow_bf16_reduced_precision_reduction_split_k",
)


class Window:
    """A graph of some steps, and the tensors it works on.

    Args:
        loop: Whose steps.
        places: The steps, their rows counted from the window's first.
    """

    def __init__(self, loop: Loop, places: Sequence[Place]) -> None:
        rows = sum(live for _, live in places)
        self.read, self.written = _like(loop.read, rows), _like(loop.written, rows)
        self.state, self.fixed = _like(loop.state), _like(loop.fixed)
        # A graph knows addresses and keeps no tensor alive: what it writes to has to stay here.
        self.scratch = _like(loop.scratch)
        self.device, self.used = loop.device, 0
        own = replace(
            loop,
            read=self.read,
            written=self.written,
            state=self.state,
            scratch=self.scratch,
            fixed=self.fixed,
        )
        self.replay = record(partial(own.advance, own.tensors(), places), self.device)

    def take(self, read: Tensors, state: Tensors, fixed: Tensors) -> None:
        """Copy in what the first steps of a run need."""
        _copy(fixed, self.fixed)
        _copy(state, self.state)
        _copy(read, self.read)


class GraphCache:
    """Windows by what they depend on; None where plain launches were found to be better."""

    def __init__(self) -> None:
        self.windows: dict[Hashable, Window | None] = {}
        self.runs = 0
        # One thread at a time, from copying in to copying out; the stream keeps the order after it.
        self.lock = threading.Lock()

    def run(self, loop: Loop, steps: Steps, *, backward: bool = False) -> None:
        """Run all steps, replaying what can be replayed."""
        places = steps.places(backward=backward)
        length = _window_length(loop, steps)
        done = 0
        if length and not capturing(loop.device):
            ascending = steps.reverse == backward
            layout = length, steps.batch, ascending
            key = (loop.key, *layout, product_switches(), stream(loop.device))
            with self.lock:
                self.runs += 1
                if key in self.windows:
                    done = self._replay(self.windows[key], loop, places, length)
                else:
                    done = self._first(key, loop, places[:length])
        loop.advance(loop.tensors(), places[done:])

    def _replay(
        self, window: Window | None, loop: Loop, places: Sequence[Place], length: int
    ) -> int:
        """Replay whole windows and return how many steps that makes."""
        if window is None:
            return 0
        window.used = self.runs
        whole = len(places) // length * length
        window.take({}, loop.state, loop.fixed)
        for start in range(0, whole, length):
            low, high = _rows(places[start : start + length])
            _copy(_between(loop.read, low, high), window.read)
            window.replay()
            _copy(window.written, _between(loop.written, low, high))
        _copy(window.state, loop.state)
        return whole

    def _first(self, key: Hashable, loop: Loop, places: Sequence[Place]) -> int:
        """Launch the first window plainly, record it, and compare; return how many steps it has."""
        if not self._make_room():
            return 0
        state = {name: None if t is None else t.clone() for name, t in loop.state.items()}
        loop.advance(loop.tensors(), places)
        low, high = _rows(places)
        self.windows[key] = None
        try:
            with torch.inference_mode(False):  # the tensors outlive this call
                window = Window(loop, [(first - low, live) for first, live in places])
        except RuntimeError as error:
            _warn(f"recording a CUDA graph failed: {error}")
            return len(places)
        window.take(_between(loop.read, low, high), state, loop.fixed)
        window.replay()
        truth = {**_between(loop.written, low, high), **loop.state}
        found = {**window.written, **window.state}
        wrong = [name for name in truth if not _same_bits(found[name], truth[name])]
        if wrong:
            _warn(f"a CUDA graph's first result differed from that of plain launches in {wrong}")
        else:
            window.used = self.runs
            self.windows[key] = window
        return len(places)

    def _make_room(self) -> bool:
        """Return whether there is a place for one more; the graph idle longest may have to go."""
        kept = {key: window for key, window in self.windows.items() if window is not None}
        if len(kept) < MAX_GRAPHS:
            return True
        key = min(kept, key=lambda key: kept[key].used)
        if self.runs - kept[key].used < IDLE_AFTER:
            return False
        synchronize(kept[key].device)  # it may still be running
        del self.windows[key]
        return True


GRAPHS = GraphCache()


class Beside(NamedTuple):
    """Where the graphs that are replayed on one stream are captured.

    Attributes:
        stream: The stream of the captures.
        pool: Their memory.
        keeper: An empty graph. Torch gives a pool up with its last graph and never takes it again.
    """

    stream: Any
    pool: Any
    keeper: Any


_BESIDE: dict[Hashable, Beside] = {}  # by the stream of the replays


def record(steps: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Capture what ``steps`` launches and return what launches it again.

    They run once before: compiling, loading a kernel and what cuBLAS does first are not allowed in
    a capture. The kernels stay loaded, since Triton keeps what it has compiled for as long as the
    process lives.

    cuBLAS's workspace belongs to the stream of a capture, and to the capture's memory if it is
    first wanted there. So all graphs that are replayed on one stream, hence never at once, are
    captured on one other and share their memory; and the run before takes a third.

    Raises:
        RuntimeError: If all of torch's streams are in use, or CUDA refuses the capture.
    """
    current, beside = torch.cuda.current_stream(device), _find_beside(device)
    before = _unused_stream(device)
    before.wait_stream(current)
    try:
        with torch.cuda.stream(before):
            steps()
    finally:  # whatever was launched uses memory that the current stream may give away
        current.wait_stream(before)
    graph = torch.cuda.CUDAGraph()
    with _capture(graph, beside.pool, beside.stream):
        steps()
    return graph.replay


def _find_beside(device: torch.device) -> Beside:
    """Return where the current stream's graphs are captured."""
    place = _BESIDE.get(stream(device))
    if place is None:
        pool, keeper, other = torch.cuda.graph_pool_handle(), torch.cuda.CUDAGraph(), None
    else:
        _, pool, keeper = place
        other = place.stream
    # Torch may meanwhile have handed the stream out, to somebody whose launches are not ours.
    if other is None or (device, other.cuda_stream) in _BESIDE:
        other = _unused_stream(device)
    if place is None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The CUDA Graph is empty")
            with _capture(keeper, pool, other):
                pass
    _BESIDE[stream(device)] = Beside(other, pool, keeper)
    return _BESIDE[stream(device)]


def _unused_stream(device: torch.device) -> Any:
    """Return a stream that no graph is captured or replayed on."""
    taken = {stream(device)}
    for key, beside in _BESIDE.items():
        taken |= {key, (beside.stream.device, beside.stream.cuda_stream)}
    for _ in range(STREAMS):
        found = torch.cuda.Stream(device)
        if (device, found.cuda_stream) not in taken:
            return found
    raise RuntimeError(f"all of torch's {STREAMS} streams on {device} are in use")


def _capture(graph: Any, pool: Any, beside: Any) -> Any:
    # Other threads (data loaders, NCCL's watchdog) may do as they like meanwhile.
    return torch.cuda.graph(graph, pool=pool, stream=beside, capture_error_mode="thread_local")


def product_switches() -> Hashable:
    """Return how torch multiplies now; a graph goes on multiplying as when it was recorded."""
    matmul = torch.backends.cuda.matmul
    flags = (getattr(matmul, name, None) for name in PRODUCT_SWITCHES)
    return *flags, torch.are_deterministic_algorithms_enabled()


def capturing(device: torch.device) -> bool:
    """Return whether no graph can be replayed now."""
    return device.type != "cuda" or torch.cuda.is_current_stream_capturing()


def stream(device: torch.device) -> Hashable:
    """Return the stream that a window's tensors belong to."""
    return device, torch.cuda.current_stream(device).cuda_stream


def synchronize(device: torch.device) -> None:
    """Wait for everything on the device."""
    torch.cuda.synchronize(device)


def _window_length(loop: Loop, steps: Steps) -> int:
    """Return the steps of a window, a power of two, or 0 where there is none."""
    if steps.packed or steps.batch == 0:
        return 0
    tensors = [t for t in (*loop.read.values(), *loop.written.values()) if t is not None]
    bytes_of_step = steps.batch * sum(t.shape[1] * t.element_size() for t in tensors)
    length = LONGEST
    while length > len(steps.live) or length * bytes_of_step > MAX_BYTES:
        length //= 2
    return length if length >= SHORTEST else 0


def _rows(places: Sequence[Place]) -> tuple[int, int]:
    return min(first for first, _ in places), max(first + live for first, live in places)


def _between(tensors: Tensors, low: int, high: int) -> Tensors:
    return {name: None if t is None else t[low:high] for name, t in tensors.items()}


def _like(tensors: Tensors, rows: int | None = None) -> Tensors:
    return {
        name: None if t is None else t.new_empty(t.shape if rows is None else (rows, t.shape[1]))
        for name, t in tensors.items()
    }


def _copy(source: Tensors, target: Tensors) -> None:
    for name, tensor in source.items():
        place = target[name]
        if tensor is not None and place is not None:
            place.copy_(tensor)


def _same_bits(value: Tensor | None, truth: Tensor | None) -> bool:
    """Return whether two tensors are the same bit for bit, NaN and the sign of zero included."""
    if value is None or truth is None:
        return value is truth
    return torch.equal(value.view(torch.uint8), truth.view(torch.uint8))


def _warn(why: str) -> None:
    warnings.warn(
        f"{why}; the steps of such calls are launched one by one from now on, which is slower",
        RuntimeWarning,
        stacklevel=2,
    )
