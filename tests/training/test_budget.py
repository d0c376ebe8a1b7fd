"""Where training ends, and which weights are validated."""

import json

import pytest
from experiments import compose
from omegaconf import OmegaConf

from lnrnn.training import RunFolder, SequenceTask, train

# An epoch has 7 batches.
SMALL = ("model.hidden_size=8", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1")


def validated(folder: RunFolder) -> list[int]:
    """Return the steps whose weights were validated."""
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [line["step"] for line in lines if line["name"] == "val/loss"]


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (["trainer.max_steps=18"], [7, 14, 18]),
        (["trainer.max_steps=14"], [7, 14]),
        (["trainer.max_steps=18", "trainer.val_check_interval=5"], [5, 10, 15, 18]),
        (["trainer.max_epochs=2", "trainer.val_check_interval=5"], [5, 10, 14]),
        (["trainer.max_epochs=2", "trainer.val_check_interval=100"], [14]),
        (["trainer.max_epochs=2", "trainer.val_check_interval=0.3"], [2, 4, 6, 9, 11, 13, 14]),
        (["trainer.max_epochs=3", "+trainer.check_val_every_n_epoch=2"], [14, 21]),
        (["trainer.max_epochs=5", "trainer.max_steps=10"], [7, 10]),
        (["trainer.max_epochs=1", "trainer.max_steps=10"], [7]),
        (["trainer.max_steps=10", "trainer.limit_val_batches=0"], []),
        # Three steps an epoch, the third of one batch.
        (
            [
                "trainer.accumulate_grad_batches=3",
                *("trainer.max_epochs=4", "trainer.val_check_interval=5"),
            ],
            [5, 10, 12],
        ),
        (["trainer.max_steps=6", "trainer.val_check_interval=4e0"], [4, 6]),
        (["trainer=debug"], [5]),
    ],
)
def test_validations_are_counted_in_steps_and_the_last_weights_are_validated(
    overrides, steps, tmp_path
):
    chosen = [text for text in overrides if text.startswith("trainer=")]
    rest = [text for text in overrides if text not in chosen]
    folder, _ = train(compose(*chosen, *SMALL, *rest), tmp_path)
    assert validated(folder) == steps


def test_a_budget_in_steps_is_the_budget(tmp_path):
    """The data say 20 epochs, which would be 40 steps."""
    overrides = (*SMALL, "trainer.max_steps=43", "trainer.limit_train_batches=2")
    folder, record = train(compose(*overrides, "schedule=linear"), tmp_path)
    assert (record.status, record.steps) == ("finished", 43)
    trainer = OmegaConf.load(folder.config).trainer
    assert (trainer.max_epochs, trainer.max_steps) == (-1, 43)
    assert validated(folder)[-2:] == [42, 43]


def test_of_two_limits_it_is_said_which_one_holds(tmp_path, capsys):
    train(compose(*SMALL, "trainer.max_epochs=1", "trainer.max_steps=10"), tmp_path)
    said = "trainer.max_epochs=1 is 7 steps and trainer.max_steps=10: training ends after 7, by "
    assert f"{said}max_epochs" in capsys.readouterr().out.splitlines()
    train(compose(*SMALL, "trainer.max_steps=1"), tmp_path)
    assert "training ends" not in capsys.readouterr().out


def test_the_loss_of_the_last_steps_comes_before_their_validation(tmp_path):
    folder, _ = train(compose(*SMALL, "trainer.max_steps=3"), tmp_path)
    names = [json.loads(line)["name"] for line in folder.metrics.read_text().splitlines()]
    assert names[0] == "train/loss"
    assert names.count("train/loss") == 1


def test_a_stop_that_must_wait_for_its_epochs_validates_the_last_weights(tmp_path, monkeypatch):
    original = SequenceTask.training_step

    def step(self, batch, batch_idx):
        if self.global_step == 5:
            self.trainer.should_stop = True
        return original(self, batch, batch_idx)

    monkeypatch.setattr(SequenceTask, "training_step", step)
    overrides = ["trainer.max_epochs=6", "+trainer.min_epochs=3"]
    folder, record = train(
        compose(*SMALL, *overrides, "+trainer.check_val_every_n_epoch=2"), tmp_path
    )
    assert record.steps == 21
    assert validated(folder) == [14, 21]
