"""Wheels of the working tree, and environments with nothing but a wheel and chosen packages."""

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import build_wheel
import pytest
from packaging.requirements import Requirement

SITE = Path(sysconfig.get_path("purelib"))


@pytest.fixture(scope="session")
def extensions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for what is built, empty at first; the wheel's kernels come from it too."""
    return tmp_path_factory.mktemp("extensions")


@pytest.fixture(scope="session")
def compiled_wheel(tmp_path_factory: pytest.TempPathFactory, extensions: Path) -> Path:
    """Build what ``make wheel`` builds."""
    out = tmp_path_factory.mktemp("compiled")
    command = [sys.executable, build_wheel.__file__, "--out", str(out)]
    subprocess.run(command, check=True, env={**os.environ, "TORCH_EXTENSIONS_DIR": str(extensions)})
    (wheel,) = out.iterdir()
    return wheel


@pytest.fixture(scope="session")
def plain_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build what ``pip install`` of the repository builds."""
    folder = tmp_path_factory.mktemp("plain")
    return build_wheel.make_wheel(build_wheel.copy_sources(folder), folder / "out", compiled=False)


class Environment:
    """A virtual environment with a wheel, and an empty folder to work in.

    Nothing of the machine is on its PATH, so there is no compiler, and nothing was built before.

    Args:
        folder: An empty folder.
        wheel: The wheel to install, without its dependencies.
        others: A folder of packages that can be imported too.
    """

    def __init__(self, folder: Path, wheel: Path, others: Path) -> None:
        self.bin = folder / "environment/bin"
        self.work = folder / "work"
        self.work.mkdir()
        python = self.bin / "python"
        create = [sys.executable, "-m", "venv", "--without-pip", str(self.bin.parent)]
        subprocess.run(create, check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
        where = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = subprocess.run(
            [str(python), "-c", where], check=True, stdout=subprocess.PIPE, text=True
        )
        # A folder that a .pth names is searched, but the .pth files in it, such as that of an
        # editable installation, are not read.
        Path(site.stdout.strip(), "others.pth").write_text(f"{others}\n")

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in its folder."""
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.work,
            env={"PATH": str(self.bin), "HOME": str(self.work.parent), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    def built(self) -> list[Path]:
        """Return the libraries that were built here."""
        found = self.work.parent.rglob("lnrnn_*.so")
        return [path for path in found if not path.is_relative_to(self.bin.parent)]


@pytest.fixture
def everything(tmp_path: Path) -> Callable[[Path], Environment]:
    """Make environments with all dependencies: those of the environment that runs the tests."""
    return lambda wheel: Environment(tmp_path, wheel, SITE)


@pytest.fixture
def torch_alone(tmp_path: Path) -> Callable[[Path], Environment]:
    """Make environments that have torch, numpy, ninja, and what these need."""

    def make(wheel: Path) -> Environment:
        others = tmp_path / "others"
        others.mkdir()
        for name in needed_by({"torch", "numpy", "ninja"}):
            for top in {file.parts[0] for file in importlib.metadata.files(name) or ()}:
                if top != ".." and not (others / top).exists() and (SITE / top).exists():
                    (others / top).symlink_to(SITE / top)
        return Environment(tmp_path, wheel, others)

    return make


def needed_by(names: set[str]) -> set[str]:
    """Return the installed packages that these need, themselves included."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        needs = map(Requirement, importlib.metadata.requires(name) or ())
        waiting += [n.name for n in needs if n.marker is None or n.marker.evaluate({"extra": ""})]
    return found
