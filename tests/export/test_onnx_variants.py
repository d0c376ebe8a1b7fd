"""Every variant of a norm inside the step as an ONNX file. Minutes: each is exported anew."""

from pathlib import Path

import pytest
import torch
from norm_cases import INPUT_SIZE, Case, run, states
from onnx_files import File, assert_kept
from recurrences import distinct

import lnrnn.export

pytestmark = pytest.mark.filterwarnings(
    # torch's exporter calls torch and onnxscript by names that these have renamed.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
)


@pytest.mark.parametrize("case", distinct(), ids=str)
def test_every_variant_keeps_its_numbers(case: Case, tmp_path: Path) -> None:
    # In float32 a norm over a gate of seven can magnify roundings beyond any useful bound.
    layer = case.layer(torch.float64, bidirectional=True).eval()
    lnrnn.export.onnx(layer, tmp_path / "layer.onnx", initial_state=True)
    x, state = torch.randn(40, 3, INPUT_SIZE, dtype=torch.float64), states(layer, 3)
    assert_kept(File(tmp_path / "layer.onnx")(x, *state), run(layer, x, state))
