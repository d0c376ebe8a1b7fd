"""Products by AMX's tiles: what is done with tiles, by plain loops where the CPU has no AMX.

How close they come is tested beside oneDNN's, in test_float32_precision and test_bfloat16.
"""

import platform
import shutil
import subprocess
import sys
from typing import Any

import pytest
import torch
from norm_cases import FEW, Case
from numerics import FLOAT32, assert_close, assert_equal, cotangents, output_and_grads
from recurrences import arguments, names, op
from torch import Tensor

from lnrnn import GRU
from lnrnn.ops import cpu

LAYOUT: dict[str, Any] = {"steps": 9, "batch": 37, "hidden": 37, "projected": 21, "features": 19}
INSTRUCTIONS = ("ldtilecfg", "tileloadd", "tdpbf16ps", "tilestored", "tilerelease")
CALL = """
import torch, lnrnn
lnrnn.LSTM(16, 16, norm="cell", fused=True).bfloat16()(torch.zeros(5, 2, 16).bfloat16())
"""


@pytest.mark.parametrize("case", FEW, ids=str)
def test_instructions_do_what_the_loops_do(
    case: Case, products: Any, nan_filled_memory: None
) -> None:
    """On a CPU without AMX both are loops."""
    args = arguments(case, **LAYOUT, dtype=torch.float32)
    function = op(case, fused=True)
    found = []
    for way in ("tilesx3", "plainx3"):
        products(way)
        found.append(output_and_grads(function, args))
    for one, other in zip(*found, strict=True):
        assert_close(one, other, 1e-5)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_gradients_of_weights_are_the_same_whatever_else_is_wanted(
    case: Case, products: Any, nan_filled_memory: None
) -> None:
    """Rows are rounded by whoever multiplies them first, which some gradients do without."""
    products("tiles")
    args = arguments(case, **LAYOUT, dtype=torch.float32)
    truth = output_and_grads(op(case, fused=True), args)[-len(args) :]
    matrices = [i for i, name in enumerate(names(case)) if name.startswith("weight")]
    leaves = [a.clone().requires_grad_(i in matrices) for i, a in enumerate(args)]
    outputs = op(case, fused=True)(*leaves)
    grads = torch.autograd.grad(outputs, [leaves[i] for i in matrices], cotangents(outputs))
    for i, value in zip(matrices, grads, strict=True):
        assert_equal(value, truth[i])


def test_what_is_random_inside_the_steps(products: Any) -> None:
    layer = GRU(19, 37, norm="cell", zoneout=0.1, variational_dropout=0.2, fused=True)
    x = torch.randn(9, 37, 19)

    def run(way: str) -> list[Tensor]:
        products(way)
        torch.manual_seed(5)
        output, h_n = layer(x)
        leaves = list(layer.parameters())
        outputs = [output, h_n]
        return [*outputs, *torch.autograd.grad(outputs, leaves, cotangents(outputs))]

    for value, truth in zip(run("tilesx3"), run("float32"), strict=True):
        assert_close(value, truth, 10 * FLOAT32)


@pytest.mark.skipif(shutil.which("objdump") is None, reason="shows what a library consists of")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="AMX is x86's")
def test_the_library_has_the_instructions() -> None:
    library = cpu.load(cpu.SOURCE_FOLDER)
    command = ["objdump", "-d", "--no-show-raw-insn", str(library)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        words = {word for line in process.stdout for word in line.split()[1:2]}
    assert set(INSTRUCTIONS) <= words


def test_the_switch_is_0_or_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read once a process."""
    for value in ("1", "yes"):
        monkeypatch.setenv("LNRNN_AMX_TILES", value)
        done = subprocess.run([sys.executable, "-c", CALL], capture_output=True, text=True)
        refused = value == "yes"
        assert (done.returncode != 0) == refused, done.stderr
        assert ("LNRNN_AMX_TILES is 1, for" in done.stderr) == refused
