"""The files in conf/model and conf/head: each composes, builds, and changes what it says."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lnrnn.models import SequenceModel

CONF = Path(__file__).resolve().parents[2] / "conf"
BASE_AND_CHANGE = {
    "lstm": ("rnn", {"cell": "lstm"}),
    "gru": ("rnn", {"cell": "gru"}),
    "rnn_ln": ("rnn", {"norm": "output"}),
    "lstm_ln": ("lstm", {"norm": "output"}),
    "gru_ln": ("gru", {"norm": "output"}),
    "rnn_lncell": ("rnn", {"norm": "cell"}),
    "lstm_lncell": ("lstm", {"norm": "cell"}),
    "gru_lncell": ("gru", {"norm": "cell"}),
    "transformer_post": ("transformer", {"norm": "post"}),
    "transformer_nonorm": ("transformer", {"norm": None}),
}
MODELS = ["rnn", "transformer", *BASE_AND_CHANGE]
FEATURES = "+data={num_features:3,num_tokens:null,num_classes:4,length:5}"
SYMBOLS = "+data={num_features:null,num_tokens:11,num_classes:11,length:null}"


def configuration(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(overrides=list(overrides))


def test_every_file_is_known() -> None:
    assert {file.stem for file in (CONF / "model").glob("*")} == set(MODELS)
    assert {file.stem for file in (CONF / "head").glob("*")} == {
        "classification",
        "forecast",
        "tokens",
        "regression",
    }


@pytest.mark.parametrize("name", BASE_AND_CHANGE)
def test_a_derived_file_changes_one_key_of_its_base(name: str) -> None:
    base, change = BASE_AND_CHANGE[name]
    written = OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{name}.yaml"))
    assert written == {"defaults": [base], **change}
    before, after = (
        OmegaConf.to_container(configuration(f"+model={file}", FEATURES).model, resolve=True)
        for file in (base, name)
    )
    assert isinstance(before, dict)
    assert after == {**before, **change}
    assert after != before


@pytest.mark.parametrize("head", ["classification", "regression"])
@pytest.mark.parametrize("model", MODELS)
def test_features_to_one_answer(model: str, head: str) -> None:
    config = configuration(f"+model={model}", f"+head={head}", FEATURES)
    built = SequenceModel(instantiate(config.model), instantiate(config.head))
    predictions, _ = built(torch.randn(2, 5, 3), torch.tensor([5, 2]))
    assert predictions.shape == ((2, 4) if head == "classification" else (2,))
    assert predictions.isfinite().all()


@pytest.mark.parametrize("model", MODELS)
def test_symbols_to_a_tied_answer_for_every_step(model: str) -> None:
    config = configuration(f"+model={model}", "+head=tokens", "head.tied=true", SYMBOLS)
    built = SequenceModel(instantiate(config.model), instantiate(config.head))
    predictions, _ = built(torch.randint(11, (2, 5)))
    assert predictions.shape == (2, 5, 11)


def test_a_cell_norm_is_a_node() -> None:
    node = "model.norm={_target_:lnrnn.nn.CellNorm,cell:state}"
    built = instantiate(configuration("+model=lstm", node, FEATURES).model)
    assert built.layer.norm.cell == "state"


def test_keys_are_constructor_arguments() -> None:
    config = configuration("+model=rnn", "+model.epss=1", FEATURES)
    with pytest.raises(Exception, match="unexpected keyword argument 'epss'"):
        instantiate(config.model)
