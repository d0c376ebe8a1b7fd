"""What files may not make Hydra do, before any function of ours is called."""

import os
import re

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize
from hydra.core.config_store import ConfigStore

from lnrnn.config.hydra_node import check_hydra
from lnrnn.training import ConfigurationError, check_overrides

PLUGIN = "hydra_plugins.marked.Marked"


@pytest.fixture(autouse=True)
def plugin():
    """What an installed plugin does: it adds a launcher that can be chosen."""
    store = ConfigStore.instance()
    node = {"_target_": PLUGIN, "jobs": 2, "setup": []}
    store.store(group="hydra/launcher", name="marked", node=node, provider="marked")
    yield
    del store.repo["hydra"]["launcher"]["marked.yaml"]


def given(conf, content):
    """Write conf/experiment/given.yaml, which may change everything, and compose with it."""
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (conf / "experiment" / "given.yaml").write_text("# @package _global_\n" + text)


LOG = {"handlers": {"bait": {"()": "os.system", "command": "touch canary"}}, "version": 1}
REFUSED = {
    "callbacks": {"callbacks": {"bait": {"_target_": "os.system", "command": "touch canary"}}},
    "callbacks, harmless": {"callbacks": {"a": {"_target_": "lightning.pytorch.Callback"}}},
    "job_logging": {"job_logging": LOG},
    "hydra_logging": {"hydra_logging": LOG},
    "launcher": {"launcher": {"_target_": "os.system"}},
    "sweeper": {"sweeper": {"_target_": "os.system"}},
    "sweeper.params": {"sweeper": {"params": {"+hydra.callbacks": "{}"}}},
    "job.env_set": {"job": {"env_set": {"CXX": "touch canary;"}}},
    "job.env_copy": {"job": {"env_copy": ["PATH"]}},
    "job.name": {"job": {"name": "../../x"}},
}
FOLDERS = {  # those that conf/train.yaml sets itself, over what any other file says
    "run.dir": {"run": {"dir": "/tmp/x"}},
    "run.dir, up": {"run": {"dir": "a/../../x"}},
    "run.dir, environment": {"run": {"dir": "${oc.env:HOME}"}},
    "sweep.subdir": {"sweep": {"subdir": "../../x"}},
    "output_subdir": {"output_subdir": "/tmp/x"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_does_not_decide_what_hydra_does(name, compose, conf):
    given(conf, {"hydra": REFUSED[name]})
    key = name.partition(",")[0]
    with pytest.raises(ConfigurationError, match=re.escape(f"hydra.{key} ")):
        compose("experiment=given")


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_names_no_folder_elsewhere(name, compose, conf):
    primary = yaml.safe_load((conf / "train.yaml").read_text())
    key = name.partition(",")[0]
    (conf / "train.yaml").write_text(yaml.safe_dump({**primary, "hydra": FOLDERS[name]}))
    with pytest.raises(ConfigurationError, match=re.escape(f"hydra.{key} ")):
        compose()
    below = yaml.safe_load(yaml.safe_dump(FOLDERS[name]).replace(": ", ": below #"))
    (conf / "train.yaml").write_text(yaml.safe_dump({**primary, "hydra": below}))
    compose()


@pytest.mark.parametrize(
    "harmless",
    [
        {"verbose": True},
        {"job": {"chdir": False}},
        {"run": {"dir": "outputs"}},
        {"sweep": {"dir": "outputs/sweep", "subdir": "a"}},
        {"help": {"header": "ours"}},
        {"callbacks": {}},
    ],
)
def test_a_file_may_say_what_is_harmless(harmless, compose, conf):
    given(conf, {"hydra": harmless})
    compose("experiment=given")


def test_a_launcher_is_chosen_on_the_command_line(compose, conf):
    compose("hydra/launcher=marked", "hydra.launcher.jobs=4")
    given(conf, "defaults:\n  - override /hydra/launcher: marked\n")
    with pytest.raises(ConfigurationError, match=r"hydra\.launcher must be as"):
        compose("experiment=given")
    compose("experiment=given", "hydra/launcher=basic")


def test_a_file_does_not_change_the_launcher_that_was_chosen(compose, conf):
    for setup in ("touch canary", {"_target_": "os.system", "command": "touch canary"}):
        given(conf, {"hydra": {"launcher": {"setup": [setup]}}})
        with pytest.raises(ConfigurationError, match=r"hydra\.launcher must be as"):
            compose("hydra/launcher=marked", "experiment=given")
    compose("hydra/launcher=marked", "hydra.launcher.setup=[module load cuda]")


def test_a_launcher_lies_in_hydra_or_a_plugin(compose, conf):
    folder = conf / "hydra" / "launcher"
    folder.mkdir(parents=True)
    (folder / "given.yaml").write_text("_target_: os.system\n")
    with pytest.raises(ConfigurationError, match="only files of Hydra and its installed plugins"):
        compose("hydra/launcher=given")


@pytest.mark.parametrize(
    "override",
    [
        "+hydra.callbacks.bait._target_=os.system",
        "+hydra.callbacks={bait:{_target_:os.system}}",
        "hydra.launcher._target_=os.system",
        "+hydra.launcher.a={_target_:os.system}",
        "+hydra.job_logging.handlers={bait:{class:os.system}}",
    ],
)
def test_classes_under_hydra_are_not_typed(override, compose):
    with pytest.raises(ConfigurationError, match="hydra"):
        compose(override)


@pytest.mark.parametrize(
    "override",
    [
        "hydra.sweep.dir=/tmp/elsewhere",
        "hydra/job_logging=default",
        "hydra.verbose=true",
        "+hydra.job.env_set.A=b",
        "+hydra.job.env_set.OMP_NUM_THREADS='1'",
    ],
)
def test_what_is_typed_for_hydra_passes(override, compose):
    compose(override)


def test_a_search_path_is_typed_and_not_read_from_a_file(compose, conf, package, canary, tmp_path):
    primary = conf / "train.yaml"
    text = primary.read_text()
    primary.write_text(text.replace("hydra:\n", "hydra:\n  searchpath: ['pkg://loud']\n"))
    with pytest.raises(ConfigurationError, match=r"hydra\.searchpath is set in a file"):
        compose()
    primary.write_text(text)
    folder = tmp_path / "own" / "model"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text((conf / "model" / "rnn.yaml").read_text())
    assert compose(f"hydra.searchpath=[file://{folder.parent}]", "model=mine").model == "mine"


def test_a_group_does_not_lead_out_of_its_folder(compose, conf, tmp_path):
    text = (conf / "model" / "rnn.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text)
    (conf / "model" / "mine.yaml").write_text(text)
    up = os.path.relpath(tmp_path, conf / "model")
    for name in (f"{up}/mine", "../model/mine", "../../mine"):
        with pytest.raises(ConfigurationError, match="leads out of the folder"):
            compose(f"model={name}")
        (conf / "model" / "given.yaml").write_text(f"defaults: ['{name}']\n")
        with pytest.raises(ConfigurationError, match="leads out of the folder"):
            compose("model=given")
    with pytest.raises(ConfigurationError, match="there is no model"):
        compose(f"model={tmp_path}/mine")
    (conf / "model" / "given.yaml").write_text("defaults: [mine]\n")
    assert compose("model=given").model == "given"


def test_every_file_that_a_sweep_would_choose_is_checked(conf):
    (conf / "model" / "given.yaml").write_text(
        "# @package _global_\nhydra: {job_logging: {handlers: {a: {class: os.system}}}}\n"
    )
    for sweep in ("model=rnn,given", "model=glob(g*)", "model=choice(rnn,given)"):
        with pytest.raises(ConfigurationError, match="job_logging"):
            check_overrides([sweep], conf, "train", multirun=True)
    check_overrides(["model=glob(gru*)"], conf, "train", multirun=True)


def test_check_hydra_reads_and_does_not_resolve():
    """A reference under ``hydra.`` is compared as written: reading it could call a resolver."""
    overrides = ["hydra.run.dir=${oc.env:NOT_SET_ANYWHERE}"]
    with initialize(config_path=None, version_base="1.3", job_name="app"):
        composed = hydra_compose(overrides=overrides, return_hydra_config=True)
    check_hydra(composed.hydra, overrides)
