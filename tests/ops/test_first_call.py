"""A saved program in a process where nothing else has run: its kernels load when it calls them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from norm_cases import LAYERS, randomized
from torch import Tensor, nn

from lnrnn.ops import first_call, fused

CELLS = ("rnn", "lstm", "gru")


class Outputs(nn.Module):
    """A layer of each kind, with a norm inside the step, one after the other."""

    def __init__(self, fused: bool | None = None) -> None:
        super().__init__()
        options = {"norm": "cell", "fused": fused}
        layers = [LAYERS[cell](5, 5, bidirectional=False, **options) for cell in CELLS]
        self.layers = nn.ModuleList(map(randomized, layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)[0]
        return x


def in_a_new_process(program: str, folder: Path, **environment: str) -> str:
    """Run a program and return what it printed, or raise with what it said."""
    answer = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a program in three forms, with an input of another size and what comes out."""
    folder = tmp_path_factory.mktemp("saved")
    model, x = Outputs().eval(), torch.randn(6, 3, 5)
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.export.export(model, (x,), dynamic_shapes={"x": {0: dynamic, 1: dynamic}})
    torch.export.save(program, folder / "program.pt2")
    traced: Any = torch.jit.trace(model, (x,), check_trace=False)
    traced.save(folder / "traced.pt")
    other = torch.randn(11, 2, 5)
    with torch.no_grad():
        torch.save((other, model(other)), folder / "truth.pt")
    return folder


HOW = {
    "export": 'torch.export.load("program.pt2").module()',
    "trace": 'torch.jit.load("traced.pt")',
}
CALL = """
import torch
import {package}

loaded = {load}
x, truth = torch.load("truth.pt")
with torch.no_grad():
    print([torch.equal(loaded(x), truth) for _ in range(2)])
"""


REFUSED = """
try:
    loaded(x)
except NotImplementedError as error:
    print(error)
"""


# Before torch 2.11 torch's own reader gives rise to the first, and tracing is deprecated.
@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("package", ["lnrnn", "lnrnn.ops"])
@pytest.mark.parametrize("load", HOW.values(), ids=list(HOW))
def test_a_saved_program_runs_in_a_new_process(load: str, package: str, folder: Path) -> None:
    printed = in_a_new_process(CALL.format(load=load, package=package), folder)
    assert printed == "[True, True]\n"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_where_no_kernel_can_be_had_the_call_says_so(folder: Path, tmp_path: Path) -> None:
    program = f"{CALL.partition('with')[0]}{REFUSED}"
    program = program.format(load=HOW["export"], package="lnrnn")
    absent = {"CXX": "no-such-compiler", "TORCH_EXTENSIONS_DIR": str(tmp_path)}
    printed = in_a_new_process(program, folder, **absent)
    assert "a saved program calls lnrnn::ln_rnn on cpu, which has no kernel here" in printed
    assert "there is no C++ compiler 'no-such-compiler'; install g++" in printed


def test_importing_loads_and_builds_nothing(tmp_path: Path) -> None:
    program = (
        "import lnrnn, torch; "
        "print([torch._C._dispatch_has_kernel_for_dispatch_key(f'lnrnn::ln_{c}', 'CPU') "
        "for c in ('rnn', 'lstm', 'gru')])"
    )
    printed = in_a_new_process(program, tmp_path, TORCH_EXTENSIONS_DIR=str(tmp_path))
    assert printed == "[False, False, False]\n"
    assert not list(tmp_path.iterdir())


def test_other_devices_are_named() -> None:
    tensors = [torch.empty(shape, device="meta") for shape in ((4, 2, 5), (2, 5), (5, 5), (5,))]
    call = first_call._loads_kernels("ln_rnn")
    with pytest.raises(NotImplementedError, match="on meta, which has no kernel here: kernels are"):
        call(*tensors, *[None] * (len(fused.RNN.takes) - 4))
