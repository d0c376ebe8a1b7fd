"""Hostile inputs that would leave a mark if anything in them ran."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from experiments import CONF, QUIET
from hostile_objects import Bait

from lnrnn.training import Experiment, compose_experiment

Compose = Callable[..., Experiment]


@pytest.fixture
def canary(tmp_path) -> Iterator[Path]:
    """A file that appears if a hostile input has its way; it must not, whatever the test does."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "something in a hostile input has run"


@pytest.fixture
def baits(canary, tmp_path) -> dict[str, dict[str, Any]]:
    """Nodes by their target, each with arguments with which the target touches the canary."""
    path = {"_target_": "pathlib.Path", "_args_": [str(canary)]}
    (tmp_path / "payload").write_text("text")
    torch.save({"state_dict": Bait(canary)}, tmp_path / "payload.pt")
    unsafe = {"f": str(tmp_path / "payload.pt"), "weights_only": False}
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "hubconf.py").write_text(f"def bait():\n    open({str(canary)!r}, 'w').close()\n")
    nodes = [
        {"_target_": "os.system", "_args_": [f"touch {canary}"]},
        {"_target_": "pathlib.Path.write_text", "_args_": [path, "text"]},
        {
            "_target_": "urllib.request.urlretrieve",
            "url": (tmp_path / "payload").as_uri(),
            "filename": str(canary),
        },
        {"_target_": "torch.load", **unsafe},
        {"_target_": "torch.nn.init.torch.load", **unsafe},
        {"_target_": "torch.hub.load", "repo_or_dir": str(hub), "model": "bait", "source": "local"},
        {
            "_target_": "lightning.pytorch.callbacks.model_checkpoint.Path.touch",
            "_args_": [path],
        },
        {"_target_": "lnrnn.runs.record.replace_text", "path": path, "text": "text"},
    ]
    return {node["_target_"]: node for node in nodes}


@pytest.fixture
def conf(tmp_path) -> Path:
    """A copy of the configurations, to put files into."""
    shutil.copytree(CONF, tmp_path / "conf")
    return tmp_path / "conf"


@pytest.fixture
def compose(conf) -> Compose:
    """Compose with the files of the copy."""
    return lambda *overrides: compose_experiment([*QUIET, *overrides], conf)


@pytest.fixture
def package(tmp_path, monkeypatch, canary) -> Iterator[str]:
    """A package of the user's own, that can be imported; beside it one that should not be."""
    folder = tmp_path / "packages"
    (folder / "own_models").mkdir(parents=True)
    (folder / "own_models" / "__init__.py").write_text(
        "from lnrnn.models import RecurrentEncoder\n\n"
        "class Encoder(RecurrentEncoder):\n    pass\n\n"
        "def encoder(**settings):\n    return Encoder(**settings)\n"
    )
    (folder / "loud.py").write_text(
        f"open({str(canary)!r}, 'w').close()\ndef touch(*arguments, **settings):\n    return None\n"
    )
    monkeypatch.syspath_prepend(folder)
    yield "own_models"
    sys.modules.pop("own_models", None)
    sys.modules.pop("loud", None)
