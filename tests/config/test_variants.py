"""Configurations that differ in numbers are those that Hydra composes one by one."""

import pytest
from omegaconf import OmegaConf

from lnrnn.config import compose as composing
from lnrnn.config.variants import compose_variants
from lnrnn.training import ConfigurationError, compose_experiment

LSTM = ("model=lstm_lncell", "data=digits", "model.eps=1e-3")
SHARED = [
    (),
    LSTM,
    ("experiment=mnist1d_gru", "trainer.max_steps=30", "schedule=cosine"),
    ("data=table_files", "data.files=a.csv", "data.num_classes=2", "data.seed=7"),
    ("model=gru_ln", "data=shakespeare", "optimizer=sgd"),
]
SEEDS = [[f"seed={seed}"] for seed in (0, 1, 12)]
RATES = [[f"optimizer.lr={rate!r}", "seed=1000"] for rate in (0.003, 1e-05, 1.0)]


@pytest.fixture
def composed(monkeypatch) -> list:
    """Every call of Hydra."""
    calls, call = [], composing.compose
    monkeypatch.setattr(composing, "compose", lambda *a, **k: calls.append(a) or call(*a, **k))
    return calls


def assert_same(shared, variants):
    found = compose_variants(shared, variants)
    assert len(found) == len(variants)
    for experiment, variant in zip(found, variants, strict=True):
        alone = compose_experiment([*shared, *variant])
        assert experiment == alone
        assert OmegaConf.to_yaml(experiment.config) == OmegaConf.to_yaml(alone.config)
        kinds = [type(value) for value in (experiment.config.seed, experiment.config.optimizer.lr)]
        assert kinds == [type(v) for v in (alone.config.seed, alone.config.optimizer.lr)]


@pytest.mark.parametrize("shared", SHARED, ids=lambda words: words[0] if words else "default")
@pytest.mark.parametrize("variants", [SEEDS, RATES], ids=["seeds", "rates"])
def test_each_is_what_hydra_makes_of_it(shared, variants):
    assert_same(shared, variants)


def test_hydra_composes_once(composed):
    compose_variants([], [*SEEDS, ["data.split_seed=3", "seed=1"]])
    assert len(composed) == 1


@pytest.mark.parametrize(
    "variants",
    [
        [["data.split_seed=3", "seed=0"], ["seed=0"]],  # the second is no copy of the first
        [["seed=0"], ["model=lstm", "seed=0"]],
        [["seed=0"], ["data.split_seed=null"]],
        [["seed=0"], ["++model.dropout=0.5", "seed=1"]],
        [["seed=0"], ["seed=1", "name=other"]],
    ],
)
def test_what_is_no_number_or_not_there_is_left_to_hydra(variants, composed):
    assert_same([], variants)
    assert len(composed) == 2 + len(variants)


def test_every_value_is_checked_and_named_as_ever():
    for wrong in (["seed=-1"], ["seed=1.5"], ["optimizer.lrr=0.1", "seed=1"], ["seed=[1"]):
        with pytest.raises(ConfigurationError) as alone:
            compose_experiment(wrong)
        with pytest.raises(ConfigurationError) as among:
            compose_variants([], [["seed=0"], wrong])
        assert str(among.value) == str(alone.value)


def test_files_of_ones_own_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "conf" / "model" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("defaults: [rnn]\nhidden_size: 5\n")
    assert_same(["model=mine"], SEEDS)
    assert all(len(run.own_files) == 1 for run in compose_variants(["model=mine"], SEEDS))
