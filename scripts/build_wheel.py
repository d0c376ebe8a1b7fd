"""Build a wheel that carries the CPU kernels compiled, so that a first use does not wait for them.

    make wheel          writes dist/lnrnn-VERSION-cpXY-none-PLATFORM.whl

It has them for this CPU's capability and every lesser one (AVX512, AVX2, default), compiled against
the torch that is installed here. Beside another torch, or on another kind of CPU, they are not
used, and the sources, which it has too, are built on first use as from any other wheel.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import torch

from lnrnn.ops import cpu

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("lnrnn", "conf", "pyproject.toml", "README.md", "LICENSE")
# From least to most, by torch's names.
CAPABILITIES = ("DEFAULT", "AVX2", "AVX512")


def copy_sources(folder: Path) -> Path:
    """Copy what a wheel is made of: setuptools leaves a folder ``build`` where it works."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.so")
            )
        else:
            shutil.copy2(source, folder)
    return folder


def add_kernels(folder: Path) -> list[str]:
    """Compile the kernels for each capability into the copy, and return which those are."""
    own = torch.backends.cpu.get_cpu_capability()
    capabilities = CAPABILITIES[: CAPABILITIES.index(own) + 1] if own in CAPABILITIES else (own,)
    target = folder / cpu.SOURCE_FOLDER.relative_to(ROOT)
    program = (
        "import lnrnn.ops.functional; from lnrnn.ops import cpu; print(cpu.load(cpu.SOURCE_FOLDER))"
    )
    for capability in capabilities:
        built = subprocess.run(
            [sys.executable, "-c", program],
            cwd=folder,
            env={**os.environ, "ATEN_CPU_CAPABILITY": capability.lower()},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        shutil.copy2(built.stdout.strip(), target)
    return list(capabilities)


def make_wheel(folder: Path, out: Path, *, compiled: bool) -> Path:
    """Make a wheel of the sources in ``folder``.

    Args:
        folder: What :func:`copy_sources` made.
        out: The folder for the wheel.
        compiled: Whether it has libraries, and so is for this platform and Python alone.
    """
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    command += [str(folder / "wheel"), str(folder)]
    if compiled:
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        tags = f"--python-tag=cp{sys.version_info[0]}{sys.version_info[1]} --plat-name={platform}"
        command.append(f"--config-settings=--build-option={tags}")
    subprocess.run(command, check=True)
    (wheel,) = (folder / "wheel").iterdir()
    out.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy2(wheel, out))


def main() -> None:
    """Build the wheel, and say what it carries."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder for the wheel")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory(prefix="lnrnn-wheel-") as name:
        folder = copy_sources(Path(name))
        capabilities = add_kernels(folder)
        wheel = make_wheel(folder, out, compiled=True)
    print(f"{wheel}: CPU kernels for {', '.join(capabilities)} and torch {torch.__version__}")


if __name__ == "__main__":
    main()
