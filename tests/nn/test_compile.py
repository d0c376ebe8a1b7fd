"""torch.compile: every cell and norm, each way of compiling, for training and for inference."""

from typing import Any

import pytest
import torch
from norm_cases import LAYERS, randomized, run, states
from numerics import cotangents

from lnrnn import CellNorm

NORMS = {"none": None, "output": "output", "cell": "cell", "rms": CellNorm(kind="rms")}
MODES: dict[str, dict[str, Any]] = {
    "default": {},
    "fullgraph": {"fullgraph": True},
    "dynamic": {"fullgraph": True, "dynamic": True},
    "interrupted": {"dynamic": True},
}
FLOAT32: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(autouse=True)
def forgetful() -> None:
    torch.compiler.reset()


def check(cell: str, norm: Any, train: bool, backend: str, **mode: Any) -> None:
    """Compare a compiled layer with itself, at two lengths: output, states and gradients."""
    options = {"num_layers": 2, "bidirectional": True}
    layer = randomized(LAYERS[cell](3, 7, norm=norm, **options)).train(train)
    compiled = torch.compile(layer, backend=backend, **mode)
    for steps, batch in [(5, 4), (3, 2)]:
        x, state = torch.randn(steps, batch, 3), states(layer, batch)
        with torch.set_grad_enabled(train):
            found, truth = run(compiled, x, state), run(layer, x, state)
        for value, expected in zip(found, truth, strict=True):
            torch.testing.assert_close(value, expected, **FLOAT32)
        if train:
            parameters, given = list(layer.parameters()), cotangents(truth)
            for a, b in zip(
                torch.autograd.grad(found, parameters, given),
                torch.autograd.grad(truth, parameters, given),
                strict=True,
            ):
                torch.testing.assert_close(a, b, **FLOAT32)


@pytest.mark.parametrize("train", [True, False], ids=["train", "no_grad"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("mode", MODES.values(), ids=list(MODES))
@pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))
@pytest.mark.parametrize("cell", LAYERS)
def test_a_compiled_layer_computes_the_same(
    cell: str, norm: Any, mode: dict[str, Any], backend: str, train: bool
) -> None:
    check(cell, norm, train, backend, **mode)


@pytest.mark.parametrize("options", [{}, {"proj_size": 3}], ids=["plain", "projected"])
@pytest.mark.parametrize("mode", ["fullgraph", "dynamic"])
def test_a_whole_graph_under_autocast(mode: str, options: dict[str, Any]) -> None:
    """Where oneDNN has no LSTM in autocast's dtype, a graph holds what is done instead."""
    layer = LAYERS["lstm"](3, 7, **options).eval()
    compiled = torch.compile(layer, backend="eager", **MODES[mode])
    x = torch.randn(5, 4, 3)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found, truth = run(compiled, x), run(layer, x)
    for value, expected in zip(found, truth, strict=True):
        assert value.dtype == expected.dtype
        torch.testing.assert_close(value, expected)


# Few, since each compiles C++: one of each kind of node, of gradient and of open sizes.
@pytest.mark.parametrize(
    ("cell", "norm", "train", "mode"),
    [
        ("lstm", None, True, "default"),
        ("lstm", "output", True, "fullgraph"),
        ("gru", None, False, "dynamic"),
        ("lstm", "cell", True, "fullgraph"),
        ("gru", "cell", False, "dynamic"),
        ("rnn", CellNorm(kind="rms"), True, "default"),
    ],
    ids=str,
)
# Inductor's own.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_inductor_computes_the_same(cell: str, norm: Any, train: bool, mode: str) -> None:
    check(cell, norm, train, "inductor", **MODES[mode])
