"""Compare layers that `lnrnn.convert` builds with the cells that the parameters come from.

Installs the libraries that pip has (torchaudio, NeMo, TensorFlow Addons) into environments of their
own, runs their cells in float64, and demands the same numbers to 1e-12. Gigabytes, and minutes;
TensorFlow Addons ended with Python 3.11, so it must be that one.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lnrnn

HERE = Path(__file__).parent / "originals"
EPS = {"torchaudio": 1e-3}
# By program: what is installed for it, and without what that needs.
ENVIRONMENTS = {
    "of_torch.py": (["torch==2.9.1", "torchaudio==2.9.1", "numpy"], ["nemo_toolkit==3.0.0"]),
    "of_tensorflow.py": (["tensorflow-cpu==2.15.1", "tensorflow-addons==0.23.0"], []),
}
WORST = 1e-12


def run_originals(program: str, folder: Path, out: Path) -> None:
    """Install what a program needs into a new environment in a folder, and run it there."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin/python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    with_needs, alone = ENVIRONMENTS[program]
    subprocess.run([*install, *with_needs], check=True)
    if alone:
        subprocess.run([*install, "--no-deps", *alone], check=True)
    subprocess.run([python, str(HERE / program), str(out)], check=True)


def difference(path: Path) -> float:
    """Return how far a layer built from an original's parameters is from what that computed."""
    source = path.stem
    written = dict(np.load(path, allow_pickle=False))
    state = {k.removeprefix("state/"): v for k, v in written.items() if k.startswith("state/")}
    layer: Any = lnrnn.convert.load(source, state, eps=EPS.get(source))
    output, final = layer(torch.from_numpy(written["x"]))
    pairs = [(output, written["output"])]
    for number in range(layer.num_layers):
        for name, state_of_all in zip("hc", final, strict=False):
            if f"{name}/{number}" in written:
                pairs.append((state_of_all[number], written[f"{name}/{number}"]))
    return max(np.abs(ours.detach().numpy() - theirs).max() for ours, theirs in pairs)


def main() -> int:
    """Run every program and compare; return the exit status."""
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for program in ENVIRONMENTS:
            out = Path(folder, Path(program).stem + ".out")
            out.mkdir()
            run_originals(program, Path(folder, Path(program).stem), out)
            for path in sorted(out.glob("*.npz")):
                worst = difference(path)
                print(f"{path.stem:12} differs by at most {worst:.1e}")
                failed |= not worst < WORST
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
