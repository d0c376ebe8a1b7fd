"""Where CUDA graphs are captured, with a stand-in for torch.cuda that is as fussy as torch is."""

import contextlib
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import torch

from lnrnn.ops import triton_graphs

GPU = torch.device("cuda", 0)


class Stream:
    """One of the few that there are: handed out in turn, as by torch."""

    turn = count()

    def __init__(self, device: torch.device = GPU, handle: int | None = None) -> None:
        self.device = device
        handle = 1 + next(self.turn) % triton_graphs.STREAMS if handle is None else handle
        self.cuda_stream = handle
        self.waited_for: list[int] = []

    def wait_stream(self, other: "Stream") -> None:
        self.waited_for.append(other.cuda_stream)


class Graph:
    """A graph that lets go of its pool when it is freed."""

    def __init__(self, cuda: "Cuda") -> None:
        self.cuda, self.pool = cuda, 0

    def replay(self) -> None:
        """Do nothing."""

    def __del__(self) -> None:
        self.cuda.pools[self.pool] = self.cuda.pools.get(self.pool, 0) - 1


class Cuda:
    """What `torch.cuda` does of all this, and the captures that were made."""

    def __init__(self) -> None:
        self.current = Stream(handle=0)
        self.pools: dict[int, int] = {}
        self.handles = count(1)
        self.captures: list[tuple[int, int]] = []  # stream, pool

    def graph_pool_handle(self) -> int:
        return next(self.handles)

    def current_stream(self, device: torch.device) -> Stream:
        return self.current

    @contextlib.contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextlib.contextmanager
    def graph(
        self, graph: Graph, pool: int, stream: Stream, capture_error_mode: str
    ) -> Iterator[None]:
        if self.pools.get(pool) == 0:
            raise RuntimeError("INTERNAL ASSERT FAILED: it->second->use_count > 0")
        self.pools[pool] = self.pools.get(pool, 0) + 1
        graph.pool = pool
        self.captures.append((stream.cuda_stream, pool))
        with self.stream(stream):
            yield


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    stand_in = Cuda()
    monkeypatch.setattr(triton_graphs, "_BESIDE", {})
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Graph(stand_in))
    for name in ("graph", "graph_pool_handle", "current_stream", "stream"):
        monkeypatch.setattr(torch.cuda, name, getattr(stand_in, name))
    return stand_in


def record_on(cuda: Cuda, handle: int) -> Any:
    """Record on a stream of the caller and return what replays."""
    with cuda.stream(Stream(handle=handle)):
        return triton_graphs.record(lambda: None, GPU)


def test_a_pool_outlives_its_graphs(cuda: Cuda) -> None:
    """Torch takes no graph into a pool whose last one is gone."""
    for _ in range(3):
        record_on(cuda, 0)  # and let go of it
    assert len({pool for _, pool in cuda.captures}) == 1


def test_a_stream_keeps_one_place_for_its_captures(cuda: Cuda) -> None:
    replays = [record_on(cuda, 0) for _ in range(3)]
    assert len(set(cuda.captures)) == 1
    assert len(replays) == 3


def test_streams_that_come_around_again_are_nobody_elses(cuda: Cuda) -> None:
    """Five streams of the caller, wherever torch's turn stands."""
    ran: list[int] = []
    for start in range(triton_graphs.STREAMS):
        Stream.turn = count(start)
        triton_graphs._BESIDE.clear()
        cuda.captures.clear()
        users = [0, 1, 2, 31, 32]
        for handle in users:
            with cuda.stream(Stream(handle=handle)):
                triton_graphs.record(lambda: ran.append(cuda.current.cuda_stream), GPU)
            before, inside = ran[-2:]  # run before the capture, and in it
            assert before != inside
            assert handle not in (before, inside)
        beside = [b.stream.cuda_stream for b in triton_graphs._BESIDE.values()]
        assert len(set(beside)) == len(users)


def test_a_stream_that_somebody_took_is_left_to_them(cuda: Cuda) -> None:
    """Torch hands out the stream of our captures too, and its new owner launches on it."""
    record_on(cuda, 0)
    ours, pool = cuda.captures[-1]
    record_on(cuda, ours)
    record_on(cuda, 0)
    other, same = cuda.captures[-1]
    assert other != ours
    assert same == pool


def test_no_stream_left_is_an_error_of_its_own(cuda: Cuda) -> None:
    for handle in range(1, 17):
        triton_graphs._BESIDE[GPU, handle] = triton_graphs.Beside(Stream(handle=16 + handle), 1, 1)
    with pytest.raises(RuntimeError, match="all of torch's 32 streams on cuda:0 are in use"):
        record_on(cuda, 0)


def test_steps_that_fail_are_waited_for(cuda: Cuda) -> None:
    """What they launched may still run in memory that the caller is about to give away."""
    ran: list[int] = []

    def fail() -> None:
        ran.append(cuda.current.cuda_stream)
        raise RuntimeError("out of memory")

    current = Stream(handle=0)
    with cuda.stream(current), pytest.raises(RuntimeError, match="out of memory"):
        triton_graphs.record(fail, GPU)
    assert current.waited_for == ran
