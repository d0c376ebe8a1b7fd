import shlex
from pathlib import Path

import pytest
import torch
from experiments import CONF, compose
from omegaconf import OmegaConf

from lnrnn.config.compose import instantiate
from lnrnn.config.values import check_keys
from lnrnn.training import ConfigurationError, check_overrides, compose_config, compose_experiment


def test_the_default_is_rnn_ln_on_japanese_vowels():
    experiment = compose()
    assert (experiment.model, experiment.data) == ("rnn_ln", "japanese_vowels")
    assert experiment.config.model.norm == "output"
    assert experiment.config.model.num_features == experiment.config.data.num_features == 12


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.epss=1e-3", ["no key model.epss", "Did you mean eps?", "hidden_size"]),
        ("+model.epss=1e-3", ["no key model.epss", "Did you mean eps?", "hidden_size"]),
        ("model=rnn_nl", ["no model=rnn_nl", "rnn_ln", "transformer"]),
        ("modle=rnn", ["no key modle", "Did you mean model?", "optimizer"]),
        ("+depth=3", ["no key depth", "seed"]),
        ("trainer.max_epoch=3", ["no key trainer.max_epoch", "max_epochs"]),
        ("+trainer.max_epoch=3", ["no key trainer.max_epoch", "max_epochs"]),
        ("optimizer.lrr=3", ["no key optimizer.lrr", "lr, weight_decay"]),
        ("data=wikitext3", ["no data=wikitext3", "japanese_vowels"]),
        ("model.eps=[1", ["cannot read the override"]),
        ("new.csv", ["'new.csv' has no key", "key=value"]),
        ("model.eps=${no.such.key}", ["cannot resolve"]),
        ("model=null", ["A group takes a file's name"]),
        ("~model", ["model"]),
        ("~trainer", ["trainer"]),
        ("~resume", ["resume was taken out"]),
        ("+logger.foo=1", ["conf/logger"]),
        ("resume=null", ["resume must be auto, never or a checkpoint's path"]),
        ("seed=abc", ["seed must be a whole number from 0 up, got 'abc'"]),
        ("seed=1.5", ["seed must be a whole number"]),
        ("checkpoint_every_n_steps=0", ["from 1 up, got 0"]),
        ("trainer.log_every_n_steps=0", ["from 1 up, got 0"]),
        ("trainer.accumulate_grad_batches=0", ["from 1 up, got 0"]),
        ("trainer.accumulate_grad_batches=1.5", ["from 1 up, got 1.5"]),
        ("trainer.gradient_clip_val=-1", ["null for no clipping, got -1"]),
        ("lr=1e-3", ["no key lr. Did you mean optimizer.lr?", "Keys at the top"]),
        ("trainer.lr=1e-3", ["no key trainer.lr. Did you mean optimizer.lr?"]),
        ("epochs=3", ["no key epochs. Did you mean trainer.max_epochs?"]),
        ("steps=3", ["no key steps. Did you mean trainer.max_steps or warmup_steps?"]),
        ("tset=3", ["no key tset. Did you mean test?"]),
        ("model.epsilon=1", ["no key model.epsilon. Did you mean eps?"]),
        ("model.size=3", ["Did you mean embedding_size or hidden_size?"]),
        ("n=1", ["no key n. Keys at the top"]),
        ("max=3", ["no key max. Did you mean trainer.max_epochs or trainer.max_steps?"]),
        ("trainer.resume=never", ["no key trainer.resume. Did you mean resume?"]),
        ("num_classes=3", ["no key num_classes. Did you mean data.num_classes?"]),
        ("optimizer.lr=true", ["optimizer.lr must be a number, got True"]),
        ("hidden_size=8", ["Did you mean model.hidden_size?"]),
        ("optimizer.lr=abc", ["optimizer.lr must be a number, got 'abc'"]),
        ("optimizer.weight_decay=1e-3x", ["optimizer.weight_decay must be a number, got '1e-3x'"]),
        ("schedule=cosin", ["schedule must be null, cosine or linear, got 'cosin'"]),
        ("model.norm=None", ["model.norm=None would be the word 'None'", "model.norm=null"]),
        ("early_stopping=None", ["early_stopping=null"]),
        ("name=a/../../b", ["name may hold letters"]),
        ("+trainer.gradient_clip_algorithm=value", ["must be norm"]),
        ("trainer.max_epochs=-1", ["training needs an end"]),
    ],
)
def test_a_wrong_override_is_named_with_what_would_be_right(override, words):
    with pytest.raises(ConfigurationError) as caught:
        check_overrides([override], CONF, "train", multirun=False)
    for word in words:
        assert word in str(caught.value)


def test_the_word_none_can_be_written():
    experiment = compose_experiment(["name='None'"])
    assert experiment.config.name == "None"


def test_an_optimizer_may_want_a_pair_where_others_take_a_number():
    words = ["optimizer._target_=torch.optim.Adafactor", "++optimizer.eps=[null,1e-3]"]
    made = instantiate(compose(*words).config.optimizer)([torch.zeros(3, requires_grad=True)])
    assert list(made.defaults["eps"]) == [None, 1e-3]


def test_every_combination_of_a_sweep_is_checked():
    check_overrides(["model=rnn,rnn_ln", "model.eps=1e-5,1e-3"], CONF, "train", multirun=True)
    with pytest.raises(ConfigurationError, match="describe 2 runs; add -m"):
        check_overrides(["model=rnn,rnn_ln"], CONF, "train", multirun=False)
    with pytest.raises(ConfigurationError, match="no model=rnn_nl"):
        check_overrides(["model=rnn,rnn_nl"], CONF, "train", multirun=True)


def test_a_key_without_a_default_must_be_given():
    with pytest.raises(ConfigurationError, match=r"data\.files must be given"):
        compose("data=text_files")
    # A head refers to the second, which is no reason to say less of it.
    with pytest.raises(ConfigurationError, match=r"^data\.num_classes must be given, for example"):
        compose("data=table_files", "data.files=new.csv", "data.num_classes=???")
    with pytest.raises(ConfigurationError, match="run must be given"):
        compose_config([], "evaluate")


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "pathlib.Path.write_text",
        "torch.load",
        "torch.nn.init.torch.load",
        "torch.nn.functional.relu",
        "lnrnn.runs.files.os.unlink",
        "lnrnn.runs.folder.Path",
        "lightning.pytorch.callbacks.model_checkpoint.Path.touch",
    ],
)
def test_a_configuration_names_only_objects_of_allowed_packages(target):
    config = OmegaConf.create({"model": {"_target_": target}})
    with pytest.raises(ConfigurationError, match="may only name lnrnn's"):
        check_keys(config)


def test_a_target_that_does_not_exist_is_named():
    config = OmegaConf.create({"model": {"_target_": "torch.nn.Liner"}})
    with pytest.raises(ConfigurationError, match="Liner"):
        check_keys(config)


def test_a_nested_target_is_checked():
    norm = {"_target_": "lnrnn.nn.CellNorm", "cel": "state"}
    config = OmegaConf.create({"model": {"_target_": "lnrnn.nn.LSTM", "norm": norm}})
    with pytest.raises(ConfigurationError, match=r"no key model\.norm\.cel\..*cell"):
        check_keys(config)


def test_instantiate_speaks_in_the_constructors_words():
    node = OmegaConf.create(
        {"_target_": "lnrnn.nn.LSTM", "input_size": 3, "hidden_size": -1, "norm": None}
    )
    with pytest.raises(ConfigurationError, match="hidden_size"):
        instantiate(node)


def test_an_experiment_changes_model_and_data():
    experiment = compose("experiment=mnist1d_gru")
    assert (experiment.data, experiment.model) == ("mnist1d", "gru")
    assert experiment.config.model.hidden_size == 6


def test_conf_is_found_from_any_folder(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert compose_experiment(["model=gru"], CONF).model == "gru"


@pytest.mark.parametrize("path", ["d/a=b.csv", "fürst.csv", "/x/br[y]/a.csv", "a(1).csv"])
def test_a_path_that_hydra_cannot_read_is_shown_with_quotes_that_it_can(path):
    with pytest.raises(ConfigurationError, match="is quoted inside too: ") as error:
        check_overrides(["data=text_files", f"data.files={path}"], multirun=False)
    (override,) = shlex.split(str(error.value).rsplit("too: ", 1)[1])
    config = compose("data=text_files", override).config
    assert config.data.files == path


def test_a_list_that_hydra_cannot_read_is_shown_with_quotes_that_it_can():
    words = ["data=table_files", "data.files=a.csv", "data.num_classes=2"]
    with pytest.raises(ConfigurationError, match="is quoted inside too: ") as error:
        check_overrides([*words, "data.input_columns=[Größe, x]"], multirun=False)
    (override,) = shlex.split(str(error.value).rsplit("too: ", 1)[1])
    assert compose(*words, override).config.data.input_columns == ["Größe", "x"]
