"""CUDA graphs: everything that is known to go wrong with them, once each."""

import contextlib
import gc
import threading
import warnings
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from norm_cases import FEW, LAYERS, Case, randomized
from numerics import assert_close, assert_equal, cotangents, output_and_grads
from recurrences import arguments, op
from torch import Tensor

from lnrnn.ops.gates import GATES
from lnrnn.ops.noise import Noise

pytestmark = pytest.mark.gpu
if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)
LSTM = FEW[2]
few = pytest.mark.parametrize("case", FEW, ids=str)
# What torch.compile says by itself: of any float32 product, and when its compiler is imported.
what_compilers_say = pytest.mark.filterwarnings(
    "ignore:TensorFloat32 tensor cores:UserWarning",
    "ignore:.torch.jit.script_method. is deprecated:DeprecationWarning",
)


@pytest.fixture(autouse=True)
def cache() -> Iterator[Any]:
    """Start with no graphs."""
    from lnrnn.ops import triton_graphs

    triton_graphs.GRAPHS.windows.clear()
    yield triton_graphs.GRAPHS
    torch.cuda.synchronize()
    triton_graphs.GRAPHS.windows.clear()


def on_gpu(case: Case, steps: int = 64, **layout: Any) -> list[Tensor]:
    settings = {"batch": 3, "hidden": 37, "dtype": torch.float32, **layout}
    return [argument.cuda() for argument in arguments(case, steps=steps, **settings)]


def plainly(case: Case, args: list[Tensor], **options: Any) -> list[Tensor]:
    """Return outputs and gradients by launches alone."""
    with mock.patch("lnrnn.ops.triton_graphs.capturing", return_value=True):
        return output_and_grads(op(case, fused=True, **options), args)


def check(values: Any, truths: Any) -> None:
    for value, truth in zip(values, truths, strict=True):
        assert_equal(value, truth)


def graphs(cache: Any) -> int:
    return sum(window is not None for window in cache.windows.values())


@few
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_graphs_and_launches_agree_bit_for_bit(case: Case, reverse: bool, cache: Any) -> None:
    for steps in (40, 32, 40, 64, 71):  # replays, and what is left over
        args = on_gpu(case, steps)
        truth = plainly(case, args, reverse=reverse)
        check(output_and_grads(op(case, fused=True, reverse=reverse), args), truth)
    # Forward and backward, and the same for what is left over, whatever the length.
    assert graphs(cache) == (2 if case.proj_size else 4)


@few
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_packed_sequences_replay_and_repeat(case: Case, reverse: bool, cache: Any) -> None:
    """Products of a window's rows may differ from those of fewer in the last place, no more."""
    lengths = sorted(torch.randint(1, 75, (7,)).tolist(), reverse=True)
    sizes = torch.tensor([sum(n > t for n in lengths) for t in range(lengths[0])])
    args = [a.double() for a in on_gpu(case, sizes=sizes.tolist())]
    function = op(case, fused=True, reverse=reverse, batch_sizes=sizes)
    truth = plainly(case, args, reverse=reverse, batch_sizes=sizes)
    first, *others = (output_and_grads(function, args) for _ in range(3))
    for value, expected in zip(first, truth, strict=True):
        assert_close(value, expected, 1e-10)
    for other in others:
        check(other, first)
    assert graphs(cache) == (0 if case.proj_size else 2)


def test_every_length_is_right(cache: Any) -> None:
    for steps in range(1, 72, 5):
        args = on_gpu(LSTM, steps)
        check(output_and_grads(op(LSTM, fused=True), args), plainly(LSTM, args))


def test_gradients_accumulate() -> None:
    """Static buffers handed out as gradients would be overwritten by the next backward."""
    layer = randomized(LAYERS["lstm"](3, 37, norm="cell", device="cuda"))
    x, grads = torch.randn(40, 4, 3, device="cuda"), []
    for _ in range(3):
        layer(x)[0].square().mean().backward()
        grads.append([p.grad.clone() for p in layer.parameters()])
    for one, two, three in zip(*grads, strict=True):
        assert_equal(two, 2 * one)
        torch.testing.assert_close(three, 3 * one)


def test_two_results_do_not_share_memory() -> None:
    function, args = op(LSTM, fused=True), on_gpu(LSTM)
    function(*args)
    first = function(*args)
    kept = [value.clone() for value in first]
    function(*on_gpu(LSTM))
    check(first, kept)


def test_two_forwards_before_their_backwards() -> None:
    """What a forward keeps for its backward must survive the next forward."""
    function = op(LSTM, fused=True)
    draws = [[a.requires_grad_() for a in on_gpu(LSTM)] for _ in range(3)]
    truths = [plainly(LSTM, [a.detach() for a in args]) for args in draws]
    outputs = [function(*args) for args in draws]
    for args, values, truth in zip(draws, outputs, truths, strict=True):
        grads = torch.autograd.grad(values, args, cotangents(values))
        check([*(v.detach() for v in values), *grads], truth)


def test_kernels_outlive_the_garbage_collector() -> None:
    args = on_gpu(LSTM)
    truth = output_and_grads(op(LSTM, fused=True), args)
    gc.collect()
    torch.cuda.empty_cache()
    check(output_and_grads(op(LSTM, fused=True), args), truth)


def test_workspaces_given_up_elsewhere_stay_the_graphs_own() -> None:
    """torch.compile's graphs make torch give cuBLAS's workspaces up; ours hold on to theirs."""
    args = on_gpu(LSTM, hidden=512)
    truth = output_and_grads(op(LSTM, fused=True), args)
    torch._C._cuda_clearCublasWorkspaces()
    others = [torch.zeros(2**20, device="cuda") for _ in range(64)]
    check(output_and_grads(op(LSTM, fused=True), args), truth)
    assert all(not other.any() for other in others)


def test_another_stream_has_graphs_of_its_own(cache: Any) -> None:
    args = on_gpu(LSTM)
    truth = output_and_grads(op(LSTM, fused=True), args)
    before, stream = graphs(cache), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        values = [output_and_grads(op(LSTM, fused=True), args) for _ in range(3)]
    torch.cuda.current_stream().wait_stream(stream)
    assert graphs(cache) == 2 * before
    for value in values:
        check(value, truth)


def test_threads_on_streams_of_their_own() -> None:
    draws = [on_gpu(LSTM) for _ in range(4)]
    truths = [plainly(LSTM, args) for args in draws]
    found: dict[int, list[Tensor]] = {}
    torch.cuda.synchronize()

    def work(i: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(5):
                found[i] = output_and_grads(op(LSTM, fused=True), draws[i])
            torch.cuda.current_stream().synchronize()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, truth in enumerate(truths):
        check(found[i], truth)


def test_other_threads_may_use_the_device_during_a_capture() -> None:
    """As a data loader that pins memory does, or NCCL's watchdog."""
    stop = threading.Event()

    def pin() -> None:
        while not stop.is_set():
            event = torch.cuda.Event()
            torch.ones(1000).pin_memory().to("cuda", non_blocking=True)
            event.record()
            event.query()

    thread = threading.Thread(target=pin)
    thread.start()
    try:
        for batch in range(1, 6):
            args = on_gpu(LSTM, batch=batch)
            check(output_and_grads(op(LSTM, fused=True), args), plainly(LSTM, args))
    finally:
        stop.set()
        thread.join()


def test_a_capture_under_way_gets_launches(cache: Any) -> None:
    args = on_gpu(LSTM)
    function = op(LSTM, fused=True)
    with torch.no_grad():
        truth = function(*args)
        recorded = graphs(cache)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            values = function(*args)
        assert graphs(cache) == recorded
        args[0].copy_(torch.randn_like(args[0]))
        graph.replay()
        changed = function(*args)
    check(values, changed)
    assert not torch.equal(changed[0], truth[0])


def test_graphed_callables() -> None:
    layer = randomized(LAYERS["lstm"](3, 37, norm="cell", device="cuda"))
    x = torch.randn(40, 4, 3, device="cuda", requires_grad=True)

    class First(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)[0]

    plain = First()
    (truth,) = torch.autograd.grad(plain(x).square().mean(), x)
    sample = (x.detach().requires_grad_(),)
    graphed: Any = torch.cuda.make_graphed_callables(First(), sample)
    (value,) = torch.autograd.grad(graphed(x).square().mean(), x)
    torch.testing.assert_close(value, truth)


@what_compilers_say
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_torch_compile(mode: str) -> None:
    layer = randomized(LAYERS["lstm"](3, 37, norm="cell", device="cuda"))
    compiled = torch.compile(layer, mode=mode)
    for _ in range(4):
        x = torch.randn(40, 4, 3, device="cuda")
        results = []
        for function in (layer, compiled):
            layer.zero_grad()
            output = function(x)[0]
            output.square().mean().backward()
            results.append([output.detach().clone(), *(p.grad.clone() for p in layer.parameters())])
        for value, truth in zip(*results, strict=True):
            torch.testing.assert_close(value, truth)


@contextlib.contextmanager
def waiting_is_an_error() -> Iterator[None]:
    """Let torch raise where the host waits for the device, as far as it notices."""
    try:
        with warnings.catch_warnings():  # raised, this one would leave the mode behind
            warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("sizes", [None, [5] * 20 + [3] * 20], ids=["padded", "packed"])
@pytest.mark.parametrize("noise", [None, Noise(0.1, 0.2, 0.3, 0.4, seed=5)], ids=["plain", "noise"])
def test_replays_wait_for_nothing(sizes: list[int] | None, noise: Noise | None) -> None:
    """No value comes back to the host in the loop."""
    args = on_gpu(LSTM, sizes=sizes)
    packed = None if sizes is None else torch.tensor(sizes)
    function = op(LSTM, fused=True, noise=noise, batch_sizes=packed)
    with torch.no_grad():
        function(*args)
        torch.cuda.synchronize()
        with waiting_is_an_error():
            function(*args)


@few
def test_a_replay_writes_to_no_memory_but_its_own(case: Case) -> None:
    """A graph's scratch, given back after recording, would be somebody else's at every replay."""
    function, args = op(case, fused=True), on_gpu(case, batch=6, hidden=96)
    gates = len(GATES[case.cell])
    with torch.no_grad():
        function(*args)
        gc.collect()
        canaries = [torch.full((6, n * 96), 1.5, device="cuda") for n in (1, gates) * 256]
        for _ in range(2):
            function(*args)
    assert all(bool((canary == 1.5).all()) for canary in canaries)


def test_graphs_are_recorded_after_all_were_given_up(cache: Any) -> None:
    """Torch gives a pool up with its last graph."""
    for batch in (3, 4):
        with torch.no_grad():
            op(LSTM, fused=True)(*on_gpu(LSTM, batch=batch))
        assert graphs(cache) == 1
        torch.cuda.synchronize()
        cache.windows.clear()
        gc.collect()


@few
def test_masks_move_through_replayed_windows(case: Case, cache: Any) -> None:
    """A graph sees the masks of its window, other masks at its next replay, and other rates."""
    args = on_gpu(case)
    for turn in range(3):
        rates = {"zoneout": 0.3 / (turn + 1), "variational_dropout": 0.2 / (turn + 1)}
        rates |= {} if case.cell == "rnn" else {"recurrent_dropout": 0.1 / (turn + 1)}
        drawn = Noise(**rates, seed=2**40 + turn, stream=0, order=None)
        truth = plainly(case, args, noise=drawn)
        check(output_and_grads(op(case, fused=True, noise=drawn), args), truth)
    assert graphs(cache) == 2  # forward and backward


def test_graphs_follow_the_switch_for_tf32(cache: Any) -> None:
    function, args = op(LSTM, fused=True), on_gpu(LSTM, batch=64, hidden=512)
    with torch.no_grad():
        function(*args)
        try:
            torch.backends.cuda.matmul.allow_tf32 = True
            function(*args)
            found = function(*args)
            with mock.patch("lnrnn.ops.triton_graphs.capturing", return_value=True):
                truth = function(*args)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False
    check(found, truth)
    assert graphs(cache) == 2


def test_inference_mode_does_not_spoil_a_graph() -> None:
    args = on_gpu(LSTM)
    with torch.inference_mode():
        first = op(LSTM, fused=True)(*args)
    with torch.no_grad():
        second = op(LSTM, fused=True)(*args)
    check(second, [value.clone() for value in first])


def test_bad_data_does_not_make_a_bad_graph(cache: Any) -> None:
    args = on_gpu(LSTM)
    args[0][0, 0, 0] = torch.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        op(LSTM, fused=True)(*args)
    assert graphs(cache) == 1


def test_a_bad_graph_is_one_warning_and_never_used(cache: Any) -> None:
    args = on_gpu(LSTM)
    truth = plainly(LSTM, args)
    with (
        mock.patch("lnrnn.ops.triton_graphs._same_bits", return_value=False),
        pytest.warns(RuntimeWarning, match="first result differed"),
    ):
        check(output_and_grads(op(LSTM, fused=True), args), truth)
    assert graphs(cache) == 0
    check(output_and_grads(op(LSTM, fused=True), args), truth)


def test_many_shapes_take_bounded_memory(cache: Any) -> None:
    from lnrnn.ops import triton_graphs

    for batch in range(1, 40):
        with torch.no_grad():
            op(LSTM, fused=True)(*on_gpu(LSTM, batch=batch))
    assert graphs(cache) == triton_graphs.MAX_GRAPHS
