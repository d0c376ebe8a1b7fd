"""conf/data: keys are the arguments, and nothing is read before it is needed."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_method, instantiate
from omegaconf import OmegaConf

from lnrnn.data import DataModule

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "conf/data").glob("*.yaml"))
NAMES = [path.stem for path in FILES]
FORECAST = {"input_columns": ["x"], "target_column": "x", "window": 4, "horizon": 2}
OWN = {
    "mnist": {"file": "none"},
    "mnist_pixels": {"file": "none"},
    "text_files": {"files": "none"},
    "table_files": {"files": "none", "num_classes": 2},
    "table_tagging": {"files": "none", "num_classes": 2, "num_features": 1},
    "table_regression": {"files": "none", "num_features": 1},
    "table_forecasting": {"files": "none", "num_features": 1, **FORECAST},
}
HEADS = {
    "classification": ("classification",),
    "regression": ("regression", "forecast"),
    "tagging": ("tokens",),
    "language_modeling": ("tokens",),
}


def node(name):
    """A file with what it builds on, as Hydra puts them together."""
    own = yaml.safe_load((ROOT / f"conf/data/{name}.yaml").read_text())
    first, *others = own["defaults"]
    if not isinstance(first, str):
        return own
    base = node(first)
    head = {"/head": others[0]["override /head"]} if others else base["defaults"][0]
    return {"defaults": [head], "data": {**base["data"], **own["data"]}}


def built(name, **overrides):
    config = OmegaConf.create({"seed": 3, "data": node(name)["data"]})
    return instantiate(OmegaConf.merge(config, {"data": {**OWN.get(name, {}), **overrides}}).data)


def test_all_the_files_are_here():
    assert NAMES == [
        "adding",
        "copying",
        "digits",
        "digits_pixels",
        "imdb",
        "japanese_vowels",
        "mnist",
        "mnist1d",
        "mnist_pixels",
        "shakespeare",
        "sst2",
        "sunspots",
        "table_files",
        "table_forecasting",
        "table_regression",
        "table_tagging",
        "text_files",
        "wikitext2",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_keys_are_the_arguments(name):
    data = dict(node(name)["data"])
    parameters = inspect.signature(get_method(data.pop("_target_"))).parameters
    assert set(data) == set(parameters)
    assert {p.kind for p in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize(
    "name", ["adding", "copying", "digits", "japanese_vowels", "mnist1d", "shakespeare", "sunspots"]
)
def test_values_are_the_defaults(name):
    data = dict(node(name)["data"])
    parameters = inspect.signature(get_method(data.pop("_target_"))).parameters
    assert data.pop("seed", "${seed}") == "${seed}"
    for key, value in data.items():
        default = parameters[key].default
        if str(value).startswith("${."):
            value = data[value.removeprefix("${.").removesuffix("}")]
        assert value == (list(default) if isinstance(default, tuple) else default), key


@pytest.mark.parametrize("name", NAMES)
def test_building_reads_nothing(name, folder):
    datamodule = built(name)
    assert isinstance(datamodule, DataModule)
    assert datamodule.seed == (0 if datamodule.kind == "language_modeling" else 3)
    assert not datamodule._splits
    head = node(name)["defaults"][0]["/head"]
    assert head in HEADS[datamodule.kind]
    assert (ROOT / f"conf/head/{head}.yaml").is_file()


@pytest.mark.parametrize("name", sorted(OWN))
def test_own_files_are_named_when_they_are_not_there(name, folder):
    with pytest.raises(FileNotFoundError, match=r"data.files? must (name files|be a folder)"):
        built(name).prepare_data()


def test_lists_of_the_configuration_are_taken(folder):
    for name in ("a", "b"):
        (folder / f"{name}.txt").write_text(name * 100)
    datamodule = built("text_files", files=["a.txt", "b.txt"], batch_size=2, window=8)
    assert len(datamodule.splits["train"].text) == 180


def test_every_knob_has_a_comment():
    for path in FILES:
        text = path.read_text()
        assert text.startswith("# @package _global_\n# ")
        for line in text[text.index("\ndata:\n") :].splitlines()[2:]:
            if line.startswith(("  _target_", "  task: ")):
                continue
            key = line.split(":")[0].strip()
            explained = "#" in line or key.endswith(("_column", "_plays", "_split", "revision"))
            assert explained or key in {"num_classes", "subset"}, f"{path.name}: {line}"


def test_importing_the_package_does_not_import_datasets():
    code = "import sys, lnrnn.data; print('datasets' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
