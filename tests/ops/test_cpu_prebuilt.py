"""Kernels that came compiled are taken if they fit and load; else the sources are built.

With sources of one line each, which take a second to build. Processes of their own, since a library
cannot be unloaded.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lnrnn.ops import cpu

LOAD = "import pathlib, sys; from lnrnn.ops import cpu; print(cpu.load(pathlib.Path(sys.argv[1])))"
NO_COMPILER = {"CXX": "no-such-compiler"}


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Return a folder of sources that are quick to build."""
    folder = tmp_path / "sources"
    folder.mkdir()
    for name in (*cpu.SOURCES, *cpu.HEADERS):
        (folder / name).write_text(f"int lnrnn_{Path(name).stem}() {{ return 1; }}\n")
    return folder


def load(sources: Path, built: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LOAD, str(sources)],
        env={**os.environ, "TORCH_EXTENSIONS_DIR": str(built), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_came_is_taken_where_it_fits_and_loads(sources: Path, tmp_path: Path) -> None:
    first = load(sources, tmp_path / "first")
    assert first.returncode == 0, first.stderr
    library = Path(first.stdout.strip())
    # What was built once needs no compiler again, and neither does what came.
    assert load(sources, tmp_path / "first", **NO_COMPILER).stdout == first.stdout
    came = sources / library.name
    came.write_bytes(library.read_bytes())
    taken = load(sources, tmp_path / "second", **NO_COMPILER)
    assert taken.stdout == f"{came}\n", taken.stderr
    assert taken.stderr == ""

    # For other sources it is not taken, whatever it has in it.
    (sources / "norm.hpp").write_text("int lnrnn_norm() { return 2; }\n")
    refused = load(sources, tmp_path / "second", **NO_COMPILER)
    assert "ToolError: there is no C++ compiler 'no-such-compiler'" in refused.stderr
    (sources / "norm.hpp").write_text("int lnrnn_norm() { return 1; }\n")

    # One that does not load is told of, and built.
    came.write_bytes(b"of a newer system")
    built = load(sources, tmp_path / "third")
    assert Path(built.stdout.strip()).is_relative_to(tmp_path / "third"), built.stderr
    assert "the CPU kernels that came compiled do not load here: " in built.stderr
