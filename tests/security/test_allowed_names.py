"""The list of what a configuration may name: it is complete, and nothing beside it is built."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

import pytest
import yaml
from experiments import compose as compose_ours
from omegaconf import OmegaConf

from lnrnn.config import CONF
from lnrnn.config import compose as composing
from lnrnn.config.allowed_names import ALLOWED
from lnrnn.config.allowed_targets import locate, target_nodes
from lnrnn.config.compose import instantiate
from lnrnn.config.known_arguments import KNOWN_ARGUMENTS
from lnrnn.config.lightning_nodes import DECIDED, LOGGERS
from lnrnn.training import ConfigurationError

PACKAGES = ("torch", "torchmetrics", "lightning", "lnrnn")


def public_names(package: str) -> set[str]:
    """Return every public name in a package and in what of it is loaded, and its modules."""
    module = import_module(package)
    for found in iter_modules(module.__path__, f"{package}."):
        if package in ("torchmetrics", "lightning.pytorch", "lnrnn") and "__" not in found.name:
            import_module(found.name)
    loaded = [name for name in sys.modules if name == package or name.startswith(f"{package}.")]
    return {
        f"{place}.{name}"
        for place in loaded
        for name in vars(sys.modules[place] or object())
        if not name.startswith("_")
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_else_of_the_packages_is_built(package, monkeypatch):
    monkeypatch.setattr(composing, "hydra_instantiate", lambda *_, **__: pytest.fail("was built"))
    names = public_names(package) - ALLOWED
    assert len(names) > 100
    for name in names:
        with pytest.raises(ConfigurationError, match="may only name lnrnn's"):
            locate("model", name)
    node = OmegaConf.create({"model": {"_target_": "", "norm": [{"a": {"_target_": ""}}]}})
    for name in sorted(names)[::50]:
        for place in (node.model, node.model.norm[0].a):
            place._target_ = name
            with pytest.raises(ConfigurationError, match="may only name lnrnn's"):
                instantiate(node.model)
            place._target_ = "torch.nn.ReLU"


def test_a_refusal_imports_nothing():
    """Not even a module of a package that has names in the list."""
    code = (
        "import sys\n"
        "from lnrnn.config.allowed_targets import locate\n"
        "before = set(sys.modules)\n"
        "for name in ('torchmetrics.multimodal.CLIPScore', 'torch.hub.load', 'antigravity.open'):\n"
        "    try: locate('model', name)\n"
        "    except ValueError: continue\n"
        "    sys.exit(f'{name} passed')\n"
        "sys.exit(str(set(sys.modules) - before) if set(sys.modules) - before else 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_list_names_what_there_is():
    assert all(callable(locate("model", name)) for name in ALLOWED)


def test_the_list_has_all_that_ours_show_and_that_shipped_files_name():
    others = {"DataModule", "Batch", "IGNORED", "NOTHING", "__version__"}  # which no file can use
    others |= {"Preset", "convert", "count_classes", "is_recurrent", "load", "presets"}
    others |= {"Claims", "Encoder", "SplitSeed", "sequence_data", "stream_data"}
    for module in map(import_module, ("lnrnn", "lnrnn.nn", "lnrnn.models", "lnrnn.data")):
        shown = {f"{module.__name__}.{name}" for name in set(module.__all__) - others}
        assert shown <= ALLOWED
    files = [yaml.safe_load(path.read_text()) for path in CONF.rglob("*.yaml")]
    named = {node["_target_"] for content in files for _, node in target_nodes(content, "")}
    assert named <= ALLOWED
    assert set(KNOWN_ARGUMENTS) <= ALLOWED
    assert set(LOGGERS) == {name for name in ALLOWED if ".loggers." in name}


def test_a_name_in_another_spelling_is_told():
    with pytest.raises(ConfigurationError, match=r"Did you mean torch\.optim\.AdamW\?"):
        locate("optimizer", "torch.optim.adamw.AdamW")


STUB = """
import pathlib

class AutoModel:
    def from_pretrained(path, trust_remote_code=False):
        assert trust_remote_code
        exec(pathlib.Path(path, 'code.py').read_text())

class AutoProcessor(AutoModel): pass
class CLIPConfig: pass
class CLIPModel: pass
class CLIPProcessor: pass
"""


@pytest.fixture
def clip_score(tmp_path, canary, monkeypatch) -> Iterator[dict[str, str]]:
    """A metric that loads a model with its code where `transformers` is installed: here a stub."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "transformers.py").write_text(STUB)
    monkeypatch.syspath_prepend(tmp_path / "site")
    module = import_module("torchmetrics.functional.multimodal.clip_score")
    monkeypatch.setattr(module, "_TRANSFORMERS_GREATER_EQUAL_4_10", True)
    sys.modules.pop("transformers", None)
    (tmp_path / "jinaai").mkdir()
    (tmp_path / "jinaai" / "code.py").write_text(f"open({str(canary)!r}, 'w').close()")
    target = "torchmetrics.multimodal.clip_score.CLIPScore"
    yield {"_target_": target, "model_name_or_path": str(tmp_path / "jinaai")}
    sys.modules.pop("transformers", None)


def test_a_metric_that_runs_a_models_code_is_refused(clip_score, canary, compose, conf):
    def content(**node):
        (conf / "experiment" / "given.yaml").write_text(
            "# @package _global_\n" + yaml.safe_dump(node)
        )

    arguments = dict(clip_score)
    metric = import_module("torchmetrics.multimodal.clip_score").CLIPScore
    arguments.pop("_target_")
    metric(**arguments)  # it would have worked
    assert canary.exists()
    canary.unlink()
    for place in ({"model": clip_score}, {"trainer": {"callbacks": [clip_score]}}):
        content(**place)
        with pytest.raises(ConfigurationError, match=r"CLIPScore.*'trust=\[package\]'"):
            compose("experiment=given")
    node = OmegaConf.create({"trust": ["torchmetrics.multimodal"], "metric": clip_score}).metric
    instantiate(node)  # the way out, which only a command line can go
    assert canary.exists()
    canary.unlink()


@pytest.mark.parametrize("key", DECIDED)
def test_a_run_decides_for_itself_about_the_trainers_parts(key):
    with pytest.raises(ConfigurationError, match=rf"trainer\.{key} cannot be set: "):
        compose_ours(f"+trainer.{key}=x")
    compose_ours(f"+trainer.{key}=null")


@pytest.mark.parametrize(
    ("logger", "settings"),
    [
        ("tensorboard", {"save_dir": "/tmp/x"}),
        ("tensorboard", {"sub_dir": "../../x"}),
        ("tensorboard", {"name": "/tmp/x"}),
        ("tensorboard", {"name": "../../x"}),
        ("tensorboard", {"version": "../../x"}),
        ("tensorboard", {"filename_suffix": "/../x"}),
        ("tensorboard", {"_args_": ["/tmp/x"]}),
        ("wandb", {"dir": "/tmp/x"}),
        ("wandb", {"settings": {"wandb_dir": "/tmp/x"}}),
        ("mlflow", {"artifact_location": "/tmp/x"}),
        ("mlflow", {"tracking_uri": "file:///tmp/x"}),
        ("mlflow", {"tracking_uri": "sqlite:////tmp/x"}),
    ],
)
def test_a_logger_writes_below_the_runs_folder(logger, settings, compose, conf):
    original = (conf / "logger" / f"{logger}.yaml").read_text()
    given = {**yaml.safe_load(original), **settings}
    (conf / "logger" / "given.yaml").write_text(yaml.safe_dump(given))
    with pytest.raises(ConfigurationError, match=rf"logger\.{next(iter(settings))} "):
        compose("logger=given")
    compose(f"logger={logger}")


def test_a_person_may_say_where_else_a_logger_writes(compose):
    compose("logger=mlflow", "logger.tracking_uri=https://example.org")
    compose("logger=mlflow", "logger.tracking_uri=file:///tmp/x")
    for package in ("lightning.pytorch.loggers", "lightning"):
        compose("logger=tensorboard", "+logger.sub_dir=x", f"trust=[{package}]")
    with pytest.raises(ConfigurationError, match=r"logger\.sub_dir cannot be set"):
        compose("logger=tensorboard", "+logger.sub_dir=x", "trust=[own_models]")
