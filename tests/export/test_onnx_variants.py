"""Every variant of a norm inside the step as an ONNX file. Minutes: each is exported anew."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from norm_cases import INPUT_SIZE, Case, run, states
from onnx_files import File
from recurrences import distinct
from torch import Tensor, nn

import lnrnn.export

pytestmark = pytest.mark.filterwarnings(
    # torch's exporter calls torch and onnxscript by names that these have renamed.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
)


@pytest.mark.parametrize("case", distinct(), ids=str)
def test_every_variant_keeps_its_numbers(case: Case, tmp_path: Path) -> None:
    """In float64 to what eps as a float32 leaves of it; in float32 as well as float32 can.

    A norm over a gate of seven, without a bias, can magnify roundings beyond 1e-5 within 40 steps.
    How far they grow is seen where lnrnn itself gets inputs that differ in the last bit.
    """
    layer = case.layer(torch.float64, bidirectional=True).eval()
    x, state = torch.randn(40, 3, INPUT_SIZE, dtype=torch.float64), states(layer, 3)
    truth = [value.detach() for value in run(layer, x, state)]
    found = as_file(layer, tmp_path / "double.onnx")(x, *state)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-7)

    layer, x, state = layer.float(), x.float(), tuple(s.float() for s in state)
    found = as_file(layer, tmp_path / "single.onnx")(x, *state)
    rounding = [errors(run(layer, nudged(x), state), truth) for _ in range(8)]
    allowed = 1e-5 + 2 * torch.stack(rounding).amax(0)
    assert (errors(found, truth) <= allowed).all(), (errors(found, truth), allowed)


def nudged(x: Tensor) -> Tensor:
    """Return every value's upper or lower neighbor, by chance."""
    return torch.nextafter(x, torch.randn_like(x).sign() * torch.inf)


def errors(found: Sequence[Tensor], truth: Sequence[Tensor]) -> Tensor:
    """Return the largest error of each tensor."""
    pairs = zip(found, truth, strict=True)
    return torch.stack([(value.detach() - exact).abs().max() for value, exact in pairs])


def as_file(layer: nn.Module, path: Path) -> File:
    """Return a layer as a file that has been written."""
    lnrnn.export.onnx(layer, path, initial_state=True)
    return File(path)
