"""lnrnn.export.onnx: what the file takes and returns, and that its numbers are the module's."""

import logging
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from norm_cases import CELLS, LAYERS, randomized, run, states
from onnx_files import PROMISED, File, assert_kept
from onnxruntime.quantization import quantize_dynamic
from torch import Tensor, nn

import lnrnn.export
from lnrnn.models import ClassificationHead, RecurrentEncoder, SequenceModel

NORMS = {"none": None, "output": "output", "cell": "cell"}

pytestmark = pytest.mark.filterwarnings(
    # torch's exporter calls torch and onnxscript by names that these have renamed.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "module.onnx"


def nodes(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def settled(module: Any) -> Any:
    """Draw gains alone: under larger weights, roundings may grow where nothing normalizes."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.startswith("gain"):
                parameter.uniform_(0.5, 1.5)
    return module


@pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))
@pytest.mark.parametrize("cell", LAYERS)
def test_a_layer_runs_at_other_lengths_from_given_states(cell: str, norm: Any, path: Path) -> None:
    layer = LAYERS[cell](3, 7, num_layers=2, bidirectional=True, norm=norm).eval()
    # A norm inside the step magnifies the roundings of small states, which small weights make.
    (randomized if norm == "cell" else settled)(layer)
    lnrnn.export.onnx(layer, path, initial_state=True)
    file = File(path)
    names = ["h", "c"] if cell == "lstm" else ["h"]
    assert file.inputs == ["input", *(f"{name}_0" for name in names)]
    assert file.outputs == ["output", *(f"{name}_n" for name in names)]
    assert nodes(path).count("Scan" if norm == "cell" else cell.upper()) == (
        4 if norm == "cell" else 2
    )
    for steps, batch in [(1, 1), (11, 4), (500, 2)]:
        x, state = torch.randn(steps, batch, 3), states(layer, batch)
        assert_kept(file(x, *state), run(layer, x, state))


def test_without_states_a_layer_starts_at_zero(path: Path) -> None:
    layer = randomized(lnrnn.GRU(3, 7, batch_first=True, norm="cell")).eval()
    lnrnn.export.onnx(layer, path)
    x = torch.randn(4, 9, 3)
    assert_kept(File(path)(x), run(layer, x))


@pytest.mark.parametrize("norm", [None, "cell"])
def test_two_files_of_one_layer_are_the_same_bytes(norm: Any, path: Path) -> None:
    layer = lnrnn.LSTM(3, 7, num_layers=2, bidirectional=True, proj_size=5, norm=norm).eval()
    lnrnn.export.onnx(layer, path, initial_state=True)
    first = path.read_bytes()
    lnrnn.export.onnx(layer, path, initial_state=True)
    assert path.read_bytes() == first
    assert nodes(path).count("Scan") == 4


def test_the_file_does_not_grow_with_time(path: Path) -> None:
    """A written-out step would be there once a step of the example."""
    lnrnn.export.onnx(lnrnn.LSTM(3, 7, norm="cell").eval(), path)
    (scan,) = (node for node in onnx.load(path).graph.node if node.op_type == "Scan")
    body = [node.op_type for node in scan.attribute[0].g.node]
    assert body.count("LayerNormalization") == 2
    assert body.count("MatMul") == 1


@pytest.mark.parametrize("norm", [None, "cell"])
def test_an_lstm_may_project_its_state(norm: Any, path: Path) -> None:
    layer = settled(lnrnn.LSTM(3, 7, bidirectional=True, proj_size=5, norm=norm)).eval()
    lnrnn.export.onnx(layer, path, initial_state=True)
    x, state = torch.randn(30, 2, 3), states(layer, 2)
    assert_kept(File(path)(x, *state), run(layer, x, state))


@pytest.mark.parametrize("cell", LAYERS)
def test_a_norm_on_the_recurrent_side_alone(cell: str, path: Path) -> None:
    norm = lnrnn.CellNorm(inputs="recurrent")
    layer = randomized(LAYERS[cell](3, 7, bidirectional=True, norm=norm)).eval()
    lnrnn.export.onnx(layer, path)
    x = torch.randn(20, 2, 3)
    assert_kept(File(path)(x), run(layer, x))


def test_float64_stays_float64(path: Path) -> None:
    layer = randomized(lnrnn.RNN(3, 7, norm="cell", dtype=torch.float64)).eval()
    lnrnn.export.onnx(layer, path)
    x = torch.randn(20, 2, 3, dtype=torch.float64)
    found, truth = File(path)(x), run(layer, x)
    assert found[0].dtype == torch.float64
    torch.testing.assert_close(found[0], truth[0].detach(), rtol=0, atol=1e-6)  # eps is float32


@pytest.mark.parametrize("fused", [None, False])
def test_whoever_computes_the_file_is_the_same(
    fused: bool | None, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a compiler too: writing a file runs no kernel."""
    monkeypatch.setattr("lnrnn.ops.cpu.missing", lambda: "there is none")
    layer = randomized(lnrnn.GRU(3, 7, norm="cell", fused=fused)).eval()
    lnrnn.export.onnx(layer, path)
    x = torch.randn(20, 2, 3)
    assert_kept(File(path)(x), run(layer, x))


@pytest.mark.parametrize("norm", [None, "cell"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_takes_a_state_and_returns_the_next(cell: str, norm: Any, path: Path) -> None:
    module = randomized(CELLS[cell](3, 7, norm=norm)).eval()
    lnrnn.export.onnx(module, path)
    file = File(path)
    x, state = torch.randn(5, 3), [torch.randn(5, 7) for _ in file.inputs[1:]]
    truth = module(x, state[0] if len(state) == 1 else state)
    assert_kept(file(x, *state), [truth] if isinstance(truth, Tensor) else truth)


@pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))
@pytest.mark.parametrize("cell", LAYERS)
def test_a_step_model_streams_and_may_be_quantized(cell: str, norm: Any, path: Path) -> None:
    layer = randomized(LAYERS[cell](8, 16, num_layers=2, norm=norm)).eval()
    lnrnn.export.onnx(layer, path, step=True)
    assert "Scan" not in nodes(path)
    x = torch.randn(25, 3, 8)
    truth = run(layer, x)[0].detach()
    torch.testing.assert_close(stream(path, layer, x), truth, **PROMISED)
    small = path.with_name("quantized.onnx")
    quantize_dynamic(path, small, reduce_range=True)  # else sums overflow on CPUs without VNNI
    quantizes = norm == "cell" or cell == "lstm"  # onnxruntime has no narrow GRU or RNN
    assert (small.stat().st_size < path.stat().st_size) == quantizes
    error = (stream(small, layer, x) - truth).square().mean().sqrt()
    # Eight bits over these random, large weights; and they do something.
    assert (1e-4 if quantizes else 0) <= error / truth.square().mean().sqrt() < 0.2


def stream(path: Path, layer: Any, x: Tensor) -> Tensor:
    """Run a step model over (T, B, I), a step at a time."""
    file = File(path)
    state = [torch.zeros(layer.num_layers, x.shape[1], layer.hidden_size) for _ in file.inputs[1:]]
    outputs = []
    for x_t in x:
        output, *state = file(x_t, *state)
        outputs.append(output)
    return torch.stack(outputs)


class Scores(nn.Module):
    """A model without its state."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        encoder = RecurrentEncoder("lstm", num_features=3, hidden_size=8, norm=norm)
        self.model = SequenceModel(encoder, ClassificationHead(4, input_size=8))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)[0]


@pytest.mark.parametrize("norm", ["output", "cell"])
def test_a_model_is_written_whole(norm: str, path: Path) -> None:
    model = Scores(norm).eval()
    example = (torch.randn(2, 6, 3),)
    lnrnn.export.onnx(model, path, example, input_names=["x"], output_names=["scores"])
    file = File(path)
    assert (file.inputs, file.outputs) == (["x"], ["scores"])
    x = torch.randn(5, 17, 3)
    assert_kept(file(x), [model(x)])


@pytest.mark.parametrize("norm", ["output", "cell"])
def test_torch_writes_it_too_with_the_translations(norm: str, path: Path) -> None:
    model = Scores(norm).eval()
    dynamic = torch.export.Dim.DYNAMIC
    torch.onnx.export(
        model,
        (torch.randn(2, 6, 3),),
        path,
        dynamo=True,
        dynamic_shapes=({0: dynamic, 1: dynamic},),
        custom_translation_table=lnrnn.export.onnx_translations(),
        verbose=False,
    )
    x = torch.randn(5, 17, 3)
    assert_kept(File(path)(x), [model(x)])


def test_what_cannot_be_written_says_why(path: Path) -> None:
    layer = lnrnn.GRU(3, 7, norm="cell")
    with pytest.raises(ValueError, match=r"training mode; call module\.eval"):
        lnrnn.export.onnx(layer, path)
    layer.eval()
    with pytest.raises(ValueError, match="GRU does not take args, input_names here: leave it"):
        lnrnn.export.onnx(layer, path, (torch.randn(2, 2, 3),), input_names=["x"])
    with pytest.raises(ValueError, match="args are needed"):
        lnrnn.export.onnx(nn.Linear(3, 4).eval(), path)
    with pytest.raises(ValueError, match="Linear does not take step here"):
        lnrnn.export.onnx(nn.Linear(3, 4).eval(), path, step=True)
    both = lnrnn.GRU(3, 7, bidirectional=True, norm="cell").eval()
    with pytest.raises(ValueError, match="take bidirectional=False"):
        lnrnn.export.onnx(both, path, step=True)
    narrow = lnrnn.GRU(3, 7, norm="cell").bfloat16().eval()
    with pytest.raises(NotImplementedError, match=r"got torch\.bfloat16; export module\.float\(\)"):
        lnrnn.export.onnx(narrow, path)
    assert not path.exists()


class Called(nn.Module):
    """A layer that is called with what an ONNX file cannot hold."""

    def __init__(self, norm: Any, option: str) -> None:
        super().__init__()
        self.layer, self.option = lnrnn.GRU(3, 7, norm=norm), option

    def forward(self, x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return self.layer(x, **{self.option: value})[0]


@pytest.mark.parametrize("norm", [None, "cell"])
@pytest.mark.parametrize("option", ["resets", "lengths"])
def test_what_a_file_cannot_hold_is_one_sentence(norm: Any, option: str, path: Path) -> None:
    value = torch.tensor([4, 3]) if option == "lengths" else torch.rand(4, 2) < 0.5
    fixed = ({}, {})
    with pytest.raises(NotImplementedError, match=option) as caught:
        lnrnn.export.onnx(
            Called(norm, option).eval(), path, (torch.randn(4, 2, 3), value), dynamic_shapes=fixed
        )
    assert len(str(caught.value)) < 200
    assert not path.exists()


def test_what_no_kernel_has_and_autocast_are_refused_too(path: Path) -> None:
    with pytest.raises(NotImplementedError, match=r"no node for this GRU"):
        lnrnn.export.onnx(lnrnn.GRU.from_preset("icefall_gru", 3, 7).eval(), path)
    for preset in ("kiros_torch7", "lingvo_simple", "returnn_rnmt_plus"):
        with pytest.raises(NotImplementedError, match=r"no node for this LSTM: a .* is computed"):
            lnrnn.export.onnx(lnrnn.LSTM.from_preset(preset, 3, 7).eval(), path)
    zoned_out = lnrnn.LSTM(3, 7, zoneout=0.1).eval()  # without a norm inside
    with pytest.raises(NotImplementedError, match=r"this LSTM: a recurrence without .*; torch.exp"):
        lnrnn.export.onnx(zoned_out, path)
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(NotImplementedError, match="autocast"),
    ):
        lnrnn.export.onnx(lnrnn.LSTM(3, 7).eval(), path)
    with pytest.raises(TypeError, match=r"args must be a tuple of arguments, \(x,\), got Tensor"):
        lnrnn.export.onnx(nn.Sequential(nn.Linear(3, 4)).eval(), path, torch.randn(2, 3))  # pyright: ignore[reportArgumentType]
    assert not path.exists()


def test_nothing_is_said_of_what_nobody_asked_for(tmp_path: Path, caplog) -> None:
    """Torch speaks of torchvision, which is not needed, at each export."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    logger.addHandler(caplog.handler)
    try:
        lnrnn.export.onnx(lnrnn.GRU(3, 5, norm="cell").eval(), tmp_path / "gru.onnx")
    finally:
        logger.removeHandler(caplog.handler)
    assert [message for message in caplog.messages if "torchvision" in message] == []


@pytest.mark.parametrize("cell", LAYERS)
def test_zoneout_is_its_expectation(cell: str, path: Path) -> None:
    rates: dict[str, Any] = {"zoneout": 0.3, "variational_dropout": 0.5}
    rates |= {"zoneout_c": 0.2} if cell == "lstm" else {}
    rates |= {} if cell == "rnn" else {"recurrent_dropout": 0.5}
    layer = randomized(LAYERS[cell](3, 7, bidirectional=True, norm="cell", **rates)).eval()
    lnrnn.export.onnx(layer, path, initial_state=True)
    for steps, batch in [(1, 1), (30, 4)]:
        x, state = torch.randn(steps, batch, 3), states(layer, batch)
        assert_kept(File(path)(x, *state), run(layer, x, state))
    alone = randomized(CELLS[cell](3, 7, norm="cell", zoneout=0.3)).eval()
    lnrnn.export.onnx(alone, path)
    x, state = torch.randn(5, 3), tuple(torch.randn(5, 7) for _ in range(1 + (cell == "lstm")))
    truth = alone(x, state if cell == "lstm" else state[0])
    assert_kept(File(path)(x, *state), truth if cell == "lstm" else [truth])
