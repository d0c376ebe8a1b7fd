"""docs/serving.md, run: each part in the process it is for, and the C++ program built."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pages import SERVING, Fence, read_fences

from lnrnn.ops import cpu

APART = "# in a process of its own\n"
FENCES = read_fences(SERVING.read_text(encoding="utf-8"))
# What ends the page's first process, whose model the last test compares with.
COMPARE = """
with torch.no_grad():
    x = torch.arange(5 * 17).float().sin().reshape(5, 17, 1)
    torch.save(model(x)[0].flatten(), "expected.pt")
"""


def blocks() -> Iterator[tuple[Fence, str]]:
    """Yield the page's Python blocks and what each is to print."""
    for fence, after in zip(FENCES, [*FENCES[1:], None], strict=True):
        if fence.language == "python":
            shown = after is not None and after.follows and after.language == "text"
            yield fence, after.text if after is not None and shown else ""


def call(command: list[str], folder: Path) -> str:
    answer = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run what the page does in one process, and leave its files in a folder."""
    folder = tmp_path_factory.mktemp("serving")
    together = [(fence, shown) for fence, shown in blocks() if not fence.text.startswith(APART)]
    program = "\n".join(fence.text for fence, _ in together) + COMPARE
    printed = call([sys.executable, "-W", "ignore", "-c", program], folder)
    assert printed == "".join(shown for _, shown in together)
    return folder


@pytest.mark.timeout(900)
def test_what_was_saved_runs_in_processes_of_their_own(folder: Path) -> None:
    apart = [(fence, shown) for fence, shown in blocks() if fence.text.startswith(APART)]
    assert len(apart) == 2
    for fence, shown in apart:
        printed = call([sys.executable, "-W", "ignore", "-c", fence.text], folder)
        assert printed == shown, f"line {fence.line} prints something else"


@pytest.mark.timeout(900)
def test_a_cpp_program_runs_the_package(folder: Path) -> None:
    (source,) = (fence.text for fence in FENCES if fence.language == "cpp")
    (command,) = (fence.text for fence in FENCES if fence.language == "sh")
    (folder / "serve.cpp").write_text(source)
    call(shlex.split(command.replace("\\\n", " ").replace("$TORCH", torch.__path__[0])), folder)
    kernels = cpu.load(cpu.SOURCE_FOLDER)
    printed = call([str(folder / "serve"), str(kernels), "lstm_compiled.pt2"], folder)
    found = torch.tensor([float(line) for line in printed.split()])
    torch.testing.assert_close(found, torch.load(folder / "expected.pt"), rtol=1e-5, atol=1e-5)
