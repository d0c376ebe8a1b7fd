"""A configuration names what it may, wherever it comes from and wherever in it the name stands."""

import sys
from pydoc import locate as find
from typing import Any

import pytest
import yaml
from hostile_objects import TARGETS
from omegaconf import OmegaConf

from lnrnn.config.allowed_targets import locate
from lnrnn.config.compose import instantiate
from lnrnn.config.values import check_keys
from lnrnn.models import RecurrentEncoder
from lnrnn.nn import CellNorm
from lnrnn.training import ConfigurationError, check_overrides, folder_of
from lnrnn.training.build import build_data, build_task


def build_carelessly(node):
    """Build what a node names, whatever it is: what must never happen to these nodes."""
    if not isinstance(node, dict):
        return node
    settings = {key: build_carelessly(value) for key, value in node.items()}
    function, arguments = find(settings.pop("_target_")), settings.pop("_args_", [])
    assert callable(function)
    return function(*map(build_carelessly, arguments), **settings)


def write_experiment(conf, **content):
    """Write conf/experiment/given.yaml, which may change everything."""
    text = "# @package _global_\n" + yaml.safe_dump(content)
    (conf / "experiment" / "given.yaml").write_text(text)


@pytest.mark.parametrize("target", TARGETS)
def test_every_bait_would_work(baits, target, canary):
    build_carelessly(baits[target])
    assert canary.exists()
    canary.unlink()


@pytest.mark.parametrize("target", TARGETS)
def test_a_bait_is_refused_in_a_file_and_where_it_would_be_built(
    baits, target, compose, conf, canary
):
    write_experiment(conf, model={"norm": baits[target]})
    with pytest.raises(ConfigurationError, match="may only name lnrnn's"):
        compose("experiment=given")
    with pytest.raises(ConfigurationError, match="may only name lnrnn's"):
        instantiate(OmegaConf.create({"model": baits[target]}).model)


def test_the_harmless_twin_is_built(compose, conf):
    norm = {"_target_": "lnrnn.nn.CellNorm", "kind": "rms"}
    write_experiment(conf, model={"norm": norm})
    config = compose("experiment=given").config
    encoder: Any = build_task(config, build_data(config)).model.encoder
    assert encoder.layer.norm == CellNorm(kind="rms")
    assert instantiate(OmegaConf.create({"norm": norm}).norm) == CellNorm(kind="rms")


@pytest.mark.parametrize("place", ["list", "unread", "arguments", "deep"])
def test_a_bait_is_found_where_hydra_would_find_it(baits, place, compose, conf, canary):
    bait = baits["pathlib.Path.write_text"]
    harmless = {"_target_": "lnrnn.nn.CellNorm"}
    model = {
        "list": lambda node: {"norm": [node]},
        "unread": lambda node: {"norm": node, "_recursive_": False},
        "arguments": lambda node: {"_args_": [node]},
        "deep": lambda node: {"norm": {"a": [{"b": [node]}]}},
    }[place]
    write_experiment(conf, model=model(bait))
    with pytest.raises(ConfigurationError, match=r"write_text.*may only name"):
        compose("experiment=given")
    write_experiment(conf, model=model(harmless))
    compose("experiment=given")


def test_a_name_is_checked_after_it_is_put_together(compose, conf, canary):
    write_experiment(conf, model={"cell": "os", "norm": {"_target_": "${model.cell}.system"}})
    with pytest.raises(ConfigurationError, match=r"'os\.system'.*may only name"):
        compose("experiment=given")
    norm = {"_target_": "${model.cell}.nn.CellNorm"}
    write_experiment(conf, model={"cell": "lnrnn", "norm": norm})
    assert compose("experiment=given").config.model.norm._target_ == "lnrnn.nn.CellNorm"


@pytest.mark.parametrize(
    "target",
    [
        "torch.nn.Linear",
        "torch.nn.CrossEntropyLoss",
        "torch.nn.GELU",
        "torch.optim.AdamW",
        "torch.optim.lr_scheduler.StepLR",
        "torchmetrics.Accuracy",
        "lightning.pytorch.Trainer",
        "lightning.pytorch.loggers.CSVLogger",
        "lnrnn.LSTM",
        "lnrnn.data.table_files",
    ],
)
def test_what_models_data_and_training_are_made_of_passes(target):
    assert locate("model", target) is find(target)


@pytest.mark.parametrize(
    "target",
    [
        "torch.nn.modules.linear.Linear",  # allowed by another name
        "torch.nn.DataParallel",
        "torch.nn.functional.relu",  # a function
        "torch.nn.Module.load_state_dict",  # a method
        "torch.nn.Linear.forward",
        "lightning.pytorch.LightningModule.load_from_checkpoint",
        "lightning.pytorch.callbacks.ModelCheckpoint",  # writes where it is told
        "lightning.pytorch.profilers.AdvancedProfiler",
        "lightning.pytorch.strategies.DeepSpeedStrategy",
        "torchmetrics.text.ROUGEScore",  # downloads
        "lnrnn.data.DataModule",  # calls what it is given
        "lnrnn.training.SequenceTask",
        "lnrnn.study.pool.Worker",  # starts a process
        "lightning.pytorch.callbacks.model_checkpoint.Path",  # another module's import
        "lightning.pytorch.callbacks.model_checkpoint.os.system",
        "torch.optim.adamw.Optimizer",
        "torch.nn.modules.rnn.Module",
        "lnrnn.runs.folder.os.unlink",
        "lnrnn.runs.folder.Path",
        "lnrnn.config.compose.hydra_instantiate",
        "lnrnn.config.compose.instantiate",  # acts on what it is given
        "lnrnn.config.compose.compose_config",
        "lnrnn.runs.record.replace_text",
        "lnrnn.ops.cpu.load",  # compiles and loads
        "lightning.pytorch.cli.LightningCLI",  # builds what its arguments name
        "lightning.pytorch.Trainer.__init__.__globals__",
        "lnrnn.__loader__",
        "torch.nn",  # no class
        "lnrnnx.LSTM",
        "torch.nnx.Linear",
        "LSTM",
        "",
        ".lnrnn.LSTM",
        "lnrnn..LSTM",
        "lnrnn.LSTM.",
        "lnrnn/../os.system",
        7,
        None,
    ],
)
def test_everything_else_is_refused(target):
    with pytest.raises(ConfigurationError, match="may only name lnrnn's"):
        locate("model", target)


def test_two_steps_do_not_do_what_one_may_not(canary, tmp_path):
    """Ours compose and instantiate too: together they would build anything."""
    inner = {
        "_target_": "lnrnn.config.compose.compose_config",
        "overrides": ["+_target_=pathlib.Path.touch", f"+_args_=[{canary}]"],
        "config_dir": str(tmp_path),
        "config_name": "evaluate",
    }
    outer = {"_target_": "lnrnn.config.compose.instantiate", "node": inner}
    with pytest.raises(ConfigurationError, match=r"instantiate.*may only name"):
        check_keys(OmegaConf.create({"model": outer}))


@pytest.mark.parametrize("target", ["loud.touch", "torch.nn.loud.touch", "lnrnn.nn.loud.touch"])
def test_looking_a_name_up_imports_no_other_module(target, package, canary):
    with pytest.raises(ConfigurationError, match="may only name lnrnn's"):
        locate("model", target)
    assert "loud" not in sys.modules


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:PATH}",
        "${oc.decode:'${oc.env:PATH}'}",
        "${oc.${seed}:PATH}",
        "a ${now:%f} b",
        "${oc.create:{_target_: os.system}}",
    ],
)
def test_only_references_to_other_keys_are_resolved(value, compose, conf):
    write_experiment(conf, model={"cell": value})
    with pytest.raises(ConfigurationError, match=r"model.cell is .*only references to other keys"):
        compose("experiment=given")
    write_experiment(conf, model={"cell": "a${seed}"})
    assert compose("experiment=given", "seed=3").config.model.cell == "a3"


def test_texts_cannot_be_joined_to_a_resolver(compose, conf):
    parts = {"cell": "$", "projection": "{oc.env:PATH}"}
    write_experiment(conf, model={**parts, "norm": "${model.cell}${model.projection}"})
    with pytest.raises(
        ConfigurationError, match=r"model\.norm must not be a reference once resolved"
    ):
        compose("experiment=given")


def test_the_command_line_may_not_read_the_environment_either(compose):
    with pytest.raises(ConfigurationError, match=r"the shell's \$NAME"):
        compose("name=${oc.env:USER}")


def test_yaml_makes_no_objects(compose, conf, canary):
    file = conf / "experiment" / "given.yaml"
    file.write_text(f'name: !!python/object/apply:os.system ["touch {canary}"]\n')
    with pytest.raises(ConfigurationError, match="not plain YAML"):
        compose("experiment=given")
    file.write_text("# @package _global_\nmodel:\n  cell: !!str plain\n")
    assert compose("experiment=given").config.model.cell == "plain"


def test_trust_widens_the_list_from_the_command_line(compose, conf, package):
    for name in ("Encoder", "encoder"):
        write_experiment(conf, model={"_target_": f"{package}.{name}"})
        with pytest.raises(ConfigurationError, match=r"'trust=\[package\]'"):
            compose("experiment=given")
        config = compose("experiment=given", f"trust=[{package}]").config
        encoder = build_task(config, build_data(config)).model.encoder
        assert type(encoder).__name__ == "Encoder"
        assert isinstance(encoder, RecurrentEncoder)


def test_a_trusted_package_that_is_not_found_says_how_it_is(compose, conf):
    write_experiment(conf, model={"norm": {"_target_": "absent_models.Norm"}})
    with pytest.raises(ConfigurationError, match="install it, or add its folder to PYTHONPATH"):
        compose("experiment=given", "trust=[absent_models]")
    with pytest.raises(ConfigurationError) as refusal:
        compose("experiment=given")
    assert "PYTHONPATH" not in str(refusal.value)


def test_trust_is_in_no_name_of_a_folder(compose):
    assert folder_of(compose("trust=[own_models]")) == folder_of(compose())


@pytest.mark.parametrize("given", [[], ["trust=[own_models]"]])
def test_trust_in_a_file_is_an_error(compose, conf, package, given, baits, canary):
    write_experiment(conf, trust=["pathlib"], model={"norm": baits["pathlib.Path.write_text"]})
    with pytest.raises(ConfigurationError, match=r"trust is \['pathlib'\] in a file"):
        compose("experiment=given", *given)
    with pytest.raises(ConfigurationError, match=r"trust is \['pathlib'\] in a file"):
        check_overrides(["experiment=given", *given], conf, "train", multirun=False)


def test_trust_in_a_file_of_models_is_no_trust(compose, conf, package):
    (conf / "model" / "given.yaml").write_text(f"_target_: {package}.Encoder\ntrust: [{package}]\n")
    with pytest.raises(ConfigurationError, match="may only name"):
        compose("model=given")


@pytest.mark.parametrize("value", ["os", "null", "[1]", "['../x']", "['']", "{a: b}", "[a,[b]]"])
def test_trust_is_a_list_of_packages(compose, value):
    with pytest.raises(ConfigurationError, match="trust must be a list of packages"):
        compose(f"trust={value}")


def test_trusting_one_package_trusts_no_other(compose, conf, package, baits, canary):
    write_experiment(conf, model={"norm": baits["pathlib.Path.write_text"]})
    with pytest.raises(ConfigurationError, match="may only name"):
        compose("experiment=given", f"trust=[{package}]")
