"""What importing the package costs, and what it must not load."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import lnrnn


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules, sep='\\n')"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(answer.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        (
            "import lnrnn",
            {"lightning", "datasets", "hydra", "torchmetrics", "triton", "matplotlib"},
        ),
        ("import lnrnn.models", {"lightning", "datasets", "hydra", "torchmetrics", "triton"}),
        ("import lnrnn.data", {"datasets", "hydra"}),
        ("import lnrnn; lnrnn.load", {"lightning", "datasets", "torchmetrics", "matplotlib"}),
        ("import lnrnn.comparison", {"lightning", "datasets", "hydra"}),
    ],
)
def test_importing_loads_only_what_is_needed(statement, absent):
    assert not loaded_by(statement) & absent


def test_importing_lnrnn_adds_little_to_importing_torch():
    """A count of modules says the same on every machine; seconds do not."""
    added = loaded_by("import lnrnn") - loaded_by("import torch")
    assert len(added) < 60, sorted(added)


def test_public_names_are_there():
    assert all(hasattr(lnrnn, name) for name in lnrnn.__all__)
    assert {*lnrnn.__all__} <= {*dir(lnrnn)}
    assert lnrnn.__version__.count(".") == 2


def test_a_copied_folder_can_be_imported(tmp_path):
    """Its version is in metadata, which only an installation makes."""
    copied, others = tmp_path / "copied", tmp_path / "others"
    others.mkdir()
    shutil.copytree(Path(lnrnn.__file__).parent, copied / "lnrnn")
    for place in Path(sysconfig.get_path("purelib")).iterdir():
        if "lnrnn" not in place.name:
            (others / place.name).symlink_to(place)
    answer = subprocess.run(
        [sys.executable, "-S", "-c", "import lnrnn; print(lnrnn.__version__, lnrnn.__file__)"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(copied), str(others)))},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    version, place = answer.stdout.split()
    assert version == "0+unknown"
    assert place == str(copied / "lnrnn" / "__init__.py")
