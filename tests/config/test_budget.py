"""Which limit of several holds, and what a run's configuration says of it."""

import pytest
from experiments import compose
from omegaconf import OmegaConf

from lnrnn.training import ConfigurationError, folder_of


@pytest.mark.parametrize(
    ("overrides", "epochs", "steps"),
    [
        ([], 20, -1),
        (["data=shakespeare"], 2, -1),
        (["data=shakespeare", "trainer.max_epochs=7"], 7, -1),
        (["trainer.max_epochs=null"], 20, -1),
        (["trainer.max_steps=1000"], -1, 1000),
        (["data=shakespeare", "++trainer.max_steps=6000"], -1, 6000),
        (["trainer.max_epochs=20", "trainer.max_steps=1000"], 20, 1000),
        (["trainer.max_epochs=-1", "trainer.max_steps=1000"], -1, 1000),
        (["trainer.max_epochs=${seed}", "seed=3"], 3, -1),
        (["trainer=debug"], -1, 5),
        (["trainer=debug", "trainer.max_epochs=2"], 2, 5),
        (["experiment=mnist1d_gru"], -1, 6000),
        (["experiment=mnist1d_gru", "trainer.max_epochs=3"], 3, 6000),
    ],
)
def test_what_the_data_say_is_a_limit_only_where_there_is_no_other(overrides, epochs, steps):
    trainer = compose(*overrides).config.trainer
    assert (trainer.max_epochs, trainer.max_steps) == (epochs, steps)
    assert "default_epochs" not in OmegaConf.to_yaml(trainer)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["trainer.max_epochs=-1"], "training needs an end"),
        (["trainer.max_steps=0"], r"max_steps must be a whole number from 1 up, or -1 .* got 0"),
        (["trainer.max_steps=null"], "got None"),
        (["trainer.max_steps=1e3"], r"got 1000\.0"),
        (["trainer.max_epochs=many"], "max_epochs must be .* got 'many'"),
        (["trainer.max_epochs=true"], "max_epochs must be .* got True"),
        (["trainer.default_epochs=3"], r"Give the limit itself: trainer\.max_epochs=5"),
        (["trainer={default_epochs:3}"], r"Give the limit itself: trainer\.max_epochs=5"),
        (["trainer.val_check_interval=0"], "a whole number of optimizer steps, .* got 0"),
        (["trainer.val_check_interval=true"], "got True"),
        (["trainer.val_check_interval=1.5"], r"got 1\.5"),
        (["trainer.val_check_interval='00:10:00'"], "got '00:10:00'"),
        (
            ["trainer.val_check_interval=3", "+trainer.check_val_every_n_epoch=2"],
            "check_val_every_n_epoch=2 cannot hold too",
        ),
    ],
)
def test_what_is_no_limit_is_refused(overrides, words):
    with pytest.raises(ConfigurationError, match=words):
        compose(*overrides)


def test_two_limits_are_both_in_the_name():
    name = folder_of(compose("trainer.max_epochs=5", "trainer.max_steps=10")).path.parent.name
    assert name == "rnn_ln-max_epochs-5-max_steps-10"
