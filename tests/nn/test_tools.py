"""torch's tools that read modules or record them: each works, or says in a sentence what does."""

from typing import Any

import pytest
import torch
from norm_cases import CELLS, LAYERS, randomized
from numerics import assert_close, assert_equal
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from lnrnn import CellNorm
from lnrnn.ops import torch_layers

NORMS = {"none": None, "output": "output", "cell": "cell"}

every_cell = pytest.mark.parametrize("cell", list(LAYERS))
every_norm = pytest.mark.parametrize("norm", list(NORMS.values()), ids=list(NORMS))


class Model(nn.Module):
    """A module that holds a layer or cell and returns its first result."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        result = self.layer(x)
        return result if isinstance(self.layer, CELLS["rnn"] | CELLS["gru"]) else result[0]


def build(cell: str, norm: Any, **options: Any) -> Any:
    return randomized(LAYERS[cell](3, 7, norm=norm, dtype=torch.float64, **options))


def batch(*shape: int) -> Tensor:
    return torch.randn(*(shape or (4, 2, 3)), dtype=torch.float64)


@every_cell
@every_norm
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_jit_trace_records_with_gradients_on(cell: str, norm: Any) -> None:
    layer = build(cell, norm)
    traced: Any = torch.jit.trace(layer, (batch(),))
    x = batch(9, 5, 3)
    assert_close(traced(x)[0], layer(x)[0])


@every_norm
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_jit_script_says_what_to_do_instead(norm: Any) -> None:
    for module in (build("lstm", norm), Model(build("gru", norm))):
        with pytest.raises(NotImplementedError, match=r"record it with torch\.jit\.trace"):
            torch.jit.script(module)


@every_cell
@every_norm
def test_fx_sees_a_layer_as_one_node(cell: str, norm: Any) -> None:
    model = Model(build(cell, norm))
    graph = torch.fx.symbolic_trace(model)
    assert [n.target for n in graph.graph.nodes if n.op == "call_module"] == ["layer"]
    x = batch()
    assert_equal(graph(x), model(x))


@pytest.mark.parametrize("cell", CELLS)
def test_fx_sees_a_cell_as_one_node(cell: str) -> None:
    model = Model(randomized(CELLS[cell](3, 7, norm="cell", dtype=torch.float64)))
    x = batch(2, 3)
    assert_equal(torch.fx.symbolic_trace(model)(x), model(x))


def test_fx_on_the_layer_alone_says_what_to_do() -> None:
    with pytest.raises(TypeError, match="trace a module that holds it"):
        torch.fx.symbolic_trace(build("gru", "cell"))


@every_cell
@every_norm
def test_func_grad_equals_backward(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm), batch()
    parameters = dict(layer.named_parameters())
    weight = batch(4, 2, 7)

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return (torch.func.functional_call(layer, parameters, (x,))[0] * weight).sum()

    found = torch.func.grad(loss)(parameters)
    loss(parameters).backward()
    for name, parameter in parameters.items():
        assert_close(found[name], parameter.grad)


@every_cell
@pytest.mark.parametrize("grad", [True, False])
def test_vmap_runs_each_alone(cell: str, grad: bool) -> None:
    layer, xs = build(cell, "cell"), batch(5, 4, 2, 3)
    with torch.set_grad_enabled(grad):
        found = torch.func.vmap(lambda x: layer(x)[0])(xs)
    assert_close(found, torch.stack([layer(x)[0] for x in xs]))


def test_inside_of_torch_func_no_kernel_is_insisted_on() -> None:
    layer = build("gru", "cell", fused=True)
    with pytest.raises(NotImplementedError, match=r"inside of a transform of torch\.func"):
        torch.func.vmap(lambda x: layer(x)[0])(batch(5, 4, 2, 3))


@every_norm
@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
def test_quantize_dynamic_says_that_it_leaves_the_layer(norm: Any) -> None:
    model = Model(build("lstm", norm).float())
    with pytest.warns(UserWarning, match=r"leaves lnrnn's LSTM in full precision; export it with"):
        quantized = torch.ao.quantization.quantize_dynamic(model)
    assert type(quantized.layer) is type(model.layer)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_trace_holds_no_lengths_or_masks_of_its_example() -> None:
    layer, x = build("lstm", "cell").requires_grad_(False), batch(6, 2, 3)

    def call(x: Tensor, lengths: Tensor) -> Tensor:
        return layer(x, lengths=lengths)[0]

    traced: Any = torch.jit.trace(call, (x, torch.tensor([6, 6])), check_trace=False)
    shorter = torch.tensor([6, 3])
    assert_close(traced(x, shorter), call(x, shorter))
    plain, mask = build("lstm", None), torch.tensor([[False, True]] * 6)
    with pytest.raises(NotImplementedError, match="a mask of resets cannot be recorded"):
        torch.jit.trace(lambda x, mask: plain(x, resets=mask)[0], (x, mask))


@pytest.mark.parametrize("joint", [False, True])
def test_an_open_number_of_steps_needs_a_kernel(joint: bool) -> None:
    norm = CellNorm(inputs="joint") if joint else "cell"
    layer = build("gru", norm, fused=None if joint else False)
    steps = torch.export.Dim("steps", min=2)
    with pytest.raises(NotImplementedError, match="export a fixed number of steps"):
        torch.export.export(layer, (batch(),), dynamic_shapes={"input": {0: steps}})


def test_torchs_recurrence_in_a_graph_is_told_that_it_trains(monkeypatch: Any) -> None:
    """As cuDNN demands of a forward whose backward will be asked for."""
    seen, original = [], torch_layers.RECURRENCES["LSTM"]

    def spy(*args: Any) -> Any:
        seen.append((torch.is_grad_enabled(), args[6]))
        return original(*args)

    monkeypatch.setitem(torch_layers.RECURRENCES, "LSTM", spy)
    layer, x = build("lstm", None), batch().requires_grad_()
    torch.compile(layer, fullgraph=True, backend="aot_eager")(x)[0].sum().backward()
    assert (True, True) in seen
    assert all(grad == training for grad, training in seen)


def test_one_seed_a_call_suits_no_vmap_of_several() -> None:
    layer, xs = build("gru", "cell", zoneout=0.5), batch(5, 4, 2, 3)
    with pytest.raises(NotImplementedError, match='take randomness="same", or evaluation mode'):
        torch.func.vmap(lambda x: layer(x)[0], randomness="different")(xs)
    found = torch.func.vmap(lambda x: layer(x)[0], randomness="same")(xs)
    assert found.shape == (5, 4, 2, 7)
    layer.eval()
    torch.func.vmap(lambda x: layer(x)[0], randomness="different")(xs)


def test_a_captured_graph_would_repeat_one_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = build("gru", "cell", weight_drop=0.5), batch(4, 2, 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(NotImplementedError, match=r"weight_drop .* be captured in a CUDA graph"):
        layer(x)
    layer.eval()(x)


@pytest.mark.parametrize(
    ("option", "graphs_in_training", "graphs_in_evaluation"),
    [("recurrent_dropout", 0, 1), ("weight_drop", 0, 1), ("zoneout", 0, 1)],
)
def test_a_layer_interrupts_a_graph_where_something_acts(
    option: str, graphs_in_training: int, graphs_in_evaluation: int
) -> None:
    layer, x = build("gru", "cell", **{option: 0.5}), batch(4, 2, 3)
    for training, graphs in ((True, graphs_in_training), (False, graphs_in_evaluation)):
        torch.compiler.reset()
        counter = CompileCounter()
        torch.compile(layer.train(training), backend=counter)(x)
        assert counter.frame_count == graphs
