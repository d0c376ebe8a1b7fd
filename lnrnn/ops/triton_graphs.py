"""Steps recorded once in a CUDA graph and replayed: a launch costs more time than a small step.

A graph holds a window of some steps over tensors of its own. A run copies the window's rows in,
replays, and copies the rows out; what the steps hand on to one another stays inside. So one graph
serves sequences of any length, and its memory does not grow with them.

Where steps differ in their number of rows, as packed ones do, or are fewer than a window has, as at
the end of a sequence, a second graph masks what is not there: a row says whether it is alive, and a
state stays as it is while its row is not. Everything is launched plainly where

* fewer than `LEAST` steps are left;
* a capture is under way already (`torch.cuda.graph`), since the launches are then what should be
  captured;
* a window of `SHORTEST` steps would take more than `MAX_BYTES`: large steps hide their launches;
* an LSTM projects its hidden state, and rows would have to be masked;
* all `MAX_GRAPHS` places are taken by graphs in use.

The first run of a graph is compared with plain launches bit for bit; masked ones are launched over
the window's rows for that, since a product of fewer rows may be summed in another order. Should it
ever differ, or not be captured, there is one warning, and plain launches from then on.

To record takes as long as many runs: torch waits for the device and gives back all memory that it
keeps at hand. So it is done at the first run of its kind alone.
"""

import threading
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lnrnn.ops.triton_steps import Loop, Place, Steps, Tensors

LONGEST, SHORTEST = 32, 8  # steps of a window
LEAST = 3  # steps that a window is replayed for: replaying it takes as long as launching so many
NARROWEST, NARROWED = 64, 4  # sequences of a step, and by how much fewer they are at once
MAX_BYTES = 128 * 2**20  # of a window's rows
MAX_GRAPHS = 32
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


class Layout(NamedTuple):
    """What tells windows of one loop apart.

    Attributes:
        length: Steps.
        width: Rows of each.
        batch: Sequences of the run, of which the states have a row each.
        ascending: Whether the first step that is computed is the first in time.
        masked: Whether a row may not be there.
    """

    length: int
    width: int
    batch: int
    ascending: bool
    masked: bool

    def places(self) -> list[Place]:
        """Return the steps in the order in which they are computed, from the window's first row."""
        firsts = range(0, self.length * self.width, self.width)
        return [(first, self.width) for first in (firsts if self.ascending else reversed(firsts))]


class Part(NamedTuple):
    """Some steps of a run, at most as many as a window has.

    Attributes:
        layout: Of the window.
        places: The steps.
    """

    layout: Layout
    places: Sequence[Place]


class Rows(NamedTuple):
    """Where the rows of a part are in a masked window, on the device.

    Attributes:
        sources: For each row of the window, the loop's row that it holds, or any if it holds none.
        alive: Which rows of the window hold one, (rows, 1), uint8.
        targets: For each row of the part, in order, that of the window.
    """

    sources: Tensor
    alive: Tensor
    targets: Tensor


class Window:
    """A graph of some steps, and the tensors it works on.

    Args:
        loop: Whose steps.
        layout: Which.
    """

    def __init__(self, loop: Loop, layout: Layout) -> None:
        rows = layout.length * layout.width
        self.layout, self.device, self.used = layout, loop.device, 0
        self.read, self.written = _like(loop.read, rows), _like(loop.written, rows)
        self.state, self.fixed = _like(loop.state), _like(loop.fixed)
        # A graph knows addresses and keeps no tensor alive: what it writes to has to stay here.
        self.scratch = _like(loop.scratch)
        if layout.masked:
            self.read["alive"] = torch.empty(rows, 1, dtype=torch.uint8, device=self.device)
            self.scratch["found"] = _like({"d_h": loop.state.get("d_h")})["d_h"]
        own = replace(
            loop,
            read=self.read,
            written=self.written,
            state=self.state,
            scratch=self.scratch,
            fixed=self.fixed,
        )
        self.launch = partial(own.advance, own.tensors(), layout.places())
        self.replay = self.launch

    def capture(self) -> None:
        """Record the steps; without it, a replay launches them."""
        self.replay = record(self.launch, self.device)

    def begin(self, state: Tensors, fixed: Tensors) -> None:
        """Copy in what all steps of a run share, and what its first one finds."""
        _copy(fixed, self.fixed)
        _copy(state, self.state)

    def run(self, loop: Loop, part: Part) -> None:
        """Copy a part's rows in, replay, and copy out what was written."""
        low, high = _rows(part.places)
        if not self.layout.masked:
            _copy(_between(loop.read, low, high), self.read)
            self.replay()
            _copy(self.written, _between(loop.written, low, high))
            return
        rows = rows_of(part, self.device)
        _copy({"alive": rows.alive}, self.read)
        _gather(loop.read, rows.sources, self.read)
        self.replay()
        _gather(self.written, rows.targets, _between(loop.written, low, high))


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
        done = 0
        if not capturing(loop.device):
            ascending = steps.reverse == backward
            with self.lock:
                self.runs += 1
                for layout, parts in _parts(loop, steps, places, ascending):
                    done += self._run_alike(loop, layout, parts)
        loop.advance(loop.tensors(), places[done:])

    def _run_alike(self, loop: Loop, layout: Layout, parts: Sequence[Part]) -> int:
        """Run parts of one layout, and return how many steps they have."""
        key = (loop.key, *layout, product_switches(), stream(loop.device))
        if key not in self.windows and self._make_room():
            self._first(key, loop, layout, parts[0])
            steps = len(parts[0].places)
            return steps + (self._run_alike(loop, layout, parts[1:]) if parts[1:] else 0)
        window = self.windows.get(key)
        if window is None:
            places = [place for part in parts for place in part.places]
            loop.advance(loop.tensors(), places)
            return len(places)
        window.used = self.runs
        window.begin(loop.state, loop.fixed)
        for part in parts:
            window.run(loop, part)
        _copy(window.state, loop.state)
        return sum(len(part.places) for part in parts)

    def _first(self, key: Hashable, loop: Loop, layout: Layout, part: Part) -> None:
        """Launch a first part plainly, record it, and compare."""
        state = {name: None if t is None else t.clone() for name, t in loop.state.items()}
        self.windows[key] = None
        try:
            with torch.inference_mode(False):  # the tensors outlive this call
                window = Window(loop, layout)
            if layout.masked:
                window.begin(state, loop.fixed)
                window.run(loop, part)
                _copy(window.state, loop.state)
            else:
                loop.advance(loop.tensors(), part.places)
            truth = _results(loop, part)
            with torch.inference_mode(False), torch.no_grad():
                window.capture()
        except RuntimeError as error:
            _warn(f"recording a CUDA graph failed: {error}")
            _copy(state, loop.state)
            loop.advance(loop.tensors(), part.places)
            return
        window.begin(state, loop.fixed)
        window.run(loop, part)
        _copy(window.state, loop.state)
        found = _results(loop, part)
        wrong = [name for name in truth if not _same_bits(found[name], truth[name])]
        if wrong:
            _warn(f"a CUDA graph's first result differed from that of plain launches in {wrong}")
            _copy(truth, {**_between(loop.written, *_rows(part.places)), **loop.state})
        else:
            window.used = self.runs
            self.windows[key] = window

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


def _parts(
    loop: Loop, steps: Steps, places: Sequence[Place], ascending: bool
) -> list[tuple[Layout, list[Part]]]:
    """Return what windows compute of a run, from its first step on; parts of a layout together."""
    length = _window_length(loop, steps)
    found: list[tuple[Layout, list[Part]]] = []
    for start in range(0, len(places) if length else 0, length or 1):
        part = places[start : start + length]
        masked = steps.packed or len(part) < length
        if masked and (len(part) < LEAST or not loop.masks):
            break
        width = _width(max(live for _, live in part), steps.batch) if masked else steps.batch
        layout = Layout(length, width, steps.batch, ascending, masked)
        if not found or found[-1][0] != layout:
            found.append((layout, []))
        found[-1][1].append(Part(layout, part))
    return found


def _width(live: int, batch: int) -> int:
    """Return how many rows a step has in a window: few different numbers, for few graphs."""
    width = batch
    while width // NARROWED >= max(live, NARROWEST):
        width //= NARROWED
    return width


def _window_length(loop: Loop, steps: Steps) -> int:
    """Return the steps of a window, a power of two, or 0 where there is none."""
    if steps.batch == 0:
        return 0
    tensors = [t for t in (*loop.read.values(), *loop.written.values()) if t is not None]
    bytes_of_step = steps.batch * sum(t.shape[1] * t.element_size() for t in tensors)
    length = LONGEST
    while length > len(steps.live) or length * bytes_of_step > MAX_BYTES:
        length //= 2
    return length if length >= SHORTEST else 0


def rows_of(part: Part, device: torch.device) -> Rows:
    """Return where a part's rows are in its window, without waiting for the device."""
    length, width = part.layout.length, part.layout.width
    firsts, lives = np.zeros((length, 1), np.int64), np.zeros((length, 1), np.int64)
    for i, (first, live) in enumerate(part.places):
        step = i if part.layout.ascending else length - 1 - i
        firsts[step], lives[step] = first, live
    columns = np.arange(width)
    there = (columns < lives).ravel()
    targets = np.flatnonzero(there)
    sources = np.where(there, (firsts + columns).ravel(), firsts.max())
    numbers = torch.from_numpy(np.concatenate([sources, there, targets]))
    if device.type == "cuda":
        numbers = numbers.pin_memory().to(device, non_blocking=True)
    first, second, third = numbers.split([len(sources), len(there), len(targets)])
    return Rows(first, second.to(torch.uint8).unsqueeze(1), third)


def _results(loop: Loop, part: Part) -> Tensors:
    """Return copies of what a part has written, and of the states it left."""
    results = {**_between(loop.written, *_rows(part.places)), **loop.state}
    return {name: None if t is None else t.clone() for name, t in results.items()}


def _gather(source: Tensors, rows: Tensor, target: Tensors) -> None:
    for name, tensor in source.items():
        place = target[name]
        if tensor is not None and place is not None:
            torch.index_select(tensor, 0, rows, out=place)


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
