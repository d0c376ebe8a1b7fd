"""Every configuration composes, builds and trains; what makes no sense together says why."""

import shutil
import warnings

import numpy as np
import pytest
import torch
from experiments import CONF, compose
from omegaconf import OmegaConf

from lnrnn.runs.folder import RunFolder
from lnrnn.training import ConfigurationError, train
from lnrnn.training.build import build_data, build_task, build_trainer
from lnrnn.training.loggers import Identity

FILES = sorted(str(path.relative_to(CONF).with_suffix("")) for path in CONF.rglob("*.yaml"))
GROUPS = ("model", "data", "head", "optimizer", "trainer", "logger", "experiment", "launcher")
ONLINE = ("wikitext2", "imdb", "sst2")  # the Hugging Face hub
OWN_FILES = (  # the user's
    "mnist",
    "mnist_pixels",
    "text_files",
    "table_files",
    "table_tagging",
    "table_regression",
    "table_forecasting",
)
# What a configuration needs beside a CPU and the package, in the words of its refusal.
NEEDS = {"trainer/ddp": "torchrun"}
if not torch.cuda.is_available():
    NEEDS["trainer/gpu"] = "gpu"

SMALL = (
    "trainer.max_steps=3",
    "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=2",
    "model.hidden_size=8",
)
MODELS = [path.removeprefix("model/") for path in FILES if path.startswith("model/")]
DATA = [path.removeprefix("data/") for path in FILES if path.startswith("data/")]
OFFLINE = [data for data in DATA if data not in (*ONLINE, *OWN_FILES)]
# One data set of each kind; and whether its task forbids to look ahead.
KINDS = {
    "japanese_vowels": (),
    "copying": ("data.length=25",),
    "adding": ("data.length=12",),
    "text_files": ("data.batch_size=3", "data.window=12"),
    "table_forecasting": (),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, tuple[str, ...]]:
    """Files of the user's, and the overrides that name them."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "text.txt").write_text("To be, or not to be, that is the question. " * 60)
    rows = "".join(f"row {i} of the table,{i % 2}\n" for i in range(60))
    (folder / "table.csv").write_text("text,label\n" + rows)
    lines = [f"{i // 9},{i % 9},{i % 5},{i % 7},{i % 2}" for i in range(540)]
    (folder / "steps.csv").write_text("\n".join(["id,time,x,y,state", *lines]))
    steps = (
        f"data.files={folder / 'steps.csv'}",
        "data.group_by=id",
        "data.order_by=time",
        "data.input_columns=[x,y]",
        "data.num_features=2",
    )
    images = {
        "x_train": np.zeros((60, 28, 28), np.uint8),
        "x_test": np.zeros((10, 28, 28), np.uint8),
    }
    labels = {"y_train": np.arange(60) % 10, "y_test": np.arange(10)}
    np.savez(folder / "mnist.npz", **images, **labels)  # pyright: ignore[reportArgumentType]
    return {
        "mnist": (f"data.file={folder / 'mnist.npz'}",),
        "mnist_pixels": (f"data.file={folder / 'mnist.npz'}",),
        "table_tagging": (*steps, "data.target_column=state", "data.num_classes=2"),
        "table_regression": (
            *steps,
            "data.target_column=x",
            "data.per_step=true",
            "head.pooling=none",
        ),
        "table_forecasting": (
            *steps,
            "data.target_column=y",
            "data.window=4",
            "data.horizon=3",
        ),
        "text_files": (f"data.files={folder / 'text.txt'}", "data.batch_size=3", "data.window=12"),
        "table_files": (f"data.files={folder / 'table.csv'}", "data.num_classes=2"),
    }


def test_no_file_is_forgotten():
    assert len(MODELS) == 12
    assert len(DATA) == 18
    assert set(FILES) == {
        "train",
        "evaluate",
        "predict",
        "generate",
        "export",
        "push",
        "compare",
        "tune",
        "find_lr",
        *(path for path in FILES if path.split("/")[0] in GROUPS),
    }


# A launcher's are no part of a run: tests/study/test_launchers.py composes them.
@pytest.mark.parametrize("path", [p for p in FILES if "/" in p and p[:9] != "launcher/"])
def test_every_file_composes_and_builds(path, files, tmp_path):
    group, name = path.split("/")
    overrides = [f"{group}={name}"]
    if group == "data":
        overrides += files.get(name, ())
        if compose(*overrides).config.data.num_tokens and "wikitext" not in name:
            overrides.append("model=gru")
    if path == "head/tokens":
        overrides.append("data=copying")
    if path == "head/regression":
        overrides.append("data=adding")
    if path == "head/forecast":
        overrides.append("data=sunspots")
    experiment = compose(*overrides)
    assert not OmegaConf.missing_keys(experiment.config)
    if name in ONLINE:
        with pytest.raises(ConfigurationError, match="run: HF_HUB_OFFLINE=0 python"):
            build_data(experiment.config)
    elif path in NEEDS:
        with pytest.raises(ConfigurationError, match=f"(?i){NEEDS[path]}"):
            build_trainer(
                experiment.config, RunFolder(tmp_path / "run"), {}, Identity("", tmp_path)
            )
    else:
        datamodule = build_data(experiment.config)
        build_task(experiment.config, datamodule)
        if group == "logger":  # other packages warn of one another
            warnings.simplefilter("ignore")
        build_trainer(experiment.config, RunFolder(tmp_path / "run"), {}, Identity("", tmp_path))


@pytest.mark.parametrize("data", KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_on_every_kind_of_data(model, data, files, tmp_path):
    overrides = [f"model={model}", f"data={data}", *files.get(data, ()), *KINDS[data], *SMALL]
    if model.startswith("transformer") and data == "text_files":
        overrides.append("model.causal=true")
    _, record = train(compose(*overrides), tmp_path)
    assert record.status == "finished"
    assert record.steps == 3


@pytest.mark.parametrize("data", [*OFFLINE, *OWN_FILES])
def test_every_data_set_trains_a_model(data, files, tmp_path):
    overrides = ["model=gru_ln", f"data={data}", *files.get(data, ()), *SMALL]
    folder, record = train(compose(*overrides), tmp_path)
    assert f"test/{record.metric}" in record.metrics
    shutil.rmtree(folder.path)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data=shakespeare", "model=transformer"], r"model\.causal=true"),
        (["data=shakespeare", "model=gru", "model.bidirectional=true"], "bidirectional=false"),
        (["data=shakespeare", "head=classification"], "needs a TokenHead"),
        (["data=adding", "head=classification", "data.num_classes=2"], "num_classes"),
        (["head.pooling=flatten"], "flatten"),
        (["head=tokens", "head.tied=true"], "tied"),
        (["model=gru", "model.norm={_target_:lnrnn.nn.CellNorm,cell:state}"], "cell state"),
        (["model=rnn", "model.norm={_target_:lnrnn.nn.CellNorm,cell:state}"], "cell state"),
        (["model=rnn_ln", "model.hidden_size=1"], "single value"),
        (["model.norm=batch"], "norm must be"),
        (["model=transformer", "model.num_heads=5"], "num_heads"),
        (["+model.num_heads=4"], "no key model.num_heads"),
    ],
)
def test_what_makes_no_sense_says_why(overrides, words):
    def build():
        config = compose(*overrides).config
        return build_task(config, build_data(config))

    with pytest.raises(ConfigurationError, match=words):
        build()
