"""What a wheel can do in an empty folder, without a compiler. Minutes: kernels are compiled."""

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import lnrnn.cli.main
from lnrnn.config import CONF

ROOT = Path(__file__).resolve().parents[2]

LAYERS = """
import warnings
import torch, lnrnn
warnings.simplefilter("error")
for layer in (lnrnn.RNN, lnrnn.LSTM, lnrnn.GRU):
    for norm in (None, "output", "cell"):
        made = layer(5, 33, num_layers=2, bidirectional=True, norm=norm{fused})
        output = made(torch.randn(7, 3, 5))[0]
        output.backward(torch.randn_like(output))
        assert all(p.grad.isfinite().all() for p in made.parameters())
for cell in (lnrnn.RNNCell, lnrnn.LSTMCell, lnrnn.GRUCell):
    cell(5, 33, norm=lnrnn.CellNorm())(torch.randn(3, 5))
print("layers work")
"""


@pytest.mark.timeout(1200)  # three builds of the kernels, on two busy cores
def test_a_compiled_wheel_trains_at_once(compiled_wheel: Path, everything: Callable) -> None:
    """Train, evaluate, compare in two workers: from the wheel alone, and with its kernels."""
    there = everything(compiled_wheel)
    trained = there.call("lnrnn", "train", "trainer.max_steps=5", "model=lstm_lncell")
    assert trained.returncode == 0, trained.stderr
    assert "kernels" not in trained.stderr
    (run,) = there.work.glob("runs/japanese_vowels/lstm_lncell-*/seed0")
    assert json.loads((run / "run.json").read_text())["steps"] == 5

    evaluated = there.call("lnrnn", "evaluate", f"run={run.relative_to(there.work)}")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "test/accuracy" in evaluated.stdout

    compared = there.call(
        *("lnrnn", "compare", "arms=[rnn,rnn_lncell]", "seeds=1", "jobs=2", "cost=false"),
        *("trainer.max_steps=5", "model.hidden_size=8"),
    )
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert "kernels" not in compared.stdout + compared.stderr
    (found,) = there.work.glob("runs/japanese_vowels/compare/*/compare.json")
    arms = json.loads(found.read_text())["arms"]
    assert [[run["status"] for run in arm["runs"]] for arm in arms] == [["finished"]] * 2

    place = there.call("python", "-c", "import lnrnn; print(lnrnn.__file__)").stdout
    assert Path(place).is_relative_to(there.bin.parent), place
    assert there.built() == []


@pytest.mark.timeout(1200)
def test_info_says_that_the_kernels_came_compiled(
    compiled_wheel: Path, everything: Callable
) -> None:
    there = everything(compiled_wheel)
    told = there.call("lnrnn", "info")
    assert told.returncode == 0, told.stderr
    library = re.search(r"^cpu kernels +ready in .* s, (.+)$", told.stdout, re.MULTILINE)
    assert library is not None, told.stdout
    assert Path(library[1]).is_relative_to(there.bin.parent)
    assert told.stdout.count("ok, worst relative error") == 3
    assert there.built() == []


@pytest.mark.timeout(1200)
def test_layers_need_torch_numpy_and_ninja_alone(
    compiled_wheel: Path, torch_alone: Callable
) -> None:
    there = torch_alone(compiled_wheel)
    for name, module in lnrnn.cli.main.NEEDED.items():
        absent = there.call("python", "-c", f"import {module}").returncode != 0
        assert absent == (name != "jinja2"), name  # which torch itself needs
    # Kernels that cannot run are an error here, and warnings are too.
    told = there.call("python", "-c", LAYERS.format(fused=", fused=norm == 'cell' or None"))
    assert (told.stdout, told.returncode) == ("layers work\n", 0), told.stderr

    refused = there.call("lnrnn", "train")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert refused.stderr.startswith("error: lnrnn train needs lightning, hydra-core, ")
    assert "pip install lnrnn" in refused.stderr
    told = there.call("lnrnn", "info")
    assert told.returncode == 0, told.stdout + told.stderr


def test_a_plain_wheel_without_a_compiler_warns_once(
    plain_wheel: Path, torch_alone: Callable
) -> None:
    there = torch_alone(plain_wheel)
    told = there.call("python", "-c", LAYERS.format(fused="").replace('"error"', '"default"'))
    assert (told.stdout, told.returncode) == ("layers work\n", 0), told.stderr
    assert told.stderr.count("RuntimeWarning: lnrnn runs norms inside the step without") == 1
    assert "there is no C++ compiler" in told.stderr


def test_a_wheel_has_every_file_that_is_read(plain_wheel: Path) -> None:
    names = set(zipfile.ZipFile(plain_wheel).namelist())
    for path in CONF.rglob("*.yaml"):
        assert f"lnrnn/conf/{path.relative_to(CONF)}" in names
    package = ROOT / "lnrnn"
    for path in package.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert str(path.relative_to(ROOT)) in names
    assert plain_wheel.name.endswith("-py3-none-any.whl")
