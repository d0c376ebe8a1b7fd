"""What is refused before processes that do not fit together could wait for one another."""

import pickle
from types import FunctionType, ModuleType

import pytest
from experiments import compose
from lightning.pytorch import Trainer

from lnrnn import training
from lnrnn.cli import train
from lnrnn.training import ConfigurationError
from lnrnn.training.rank_agreement import check_launch, check_launches_nothing
from lnrnn.training.rate_finder import find_rate

TORCHRUN = {"WORLD_SIZE": "2", "RANK": "1"}
TASK = {"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}
# What Lightning looks for.
ELASTIC = {
    **TORCHRUN,
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "a",
}
SRUN = {**TASK, "SLURM_NTASKS_PER_NODE": "2", "SLURM_LOCALID": "1", "SLURM_NODEID": "0"} | {
    "SLURM_JOB_NAME": "job",
    "SLURM_NODELIST": "node1",
    "SLURM_JOB_ID": "1",
    "SLURM_NNODES": "1",
}


def check(overrides: str, environment: dict[str, str]) -> None:
    check_launch(compose(*overrides.split()).config.trainer, environment)


@pytest.mark.parametrize(
    ("overrides", "environment"),
    [
        ("", {}),
        ("trainer=ddp", TORCHRUN),
        ("trainer=ddp trainer.devices=1 trainer.num_nodes=2", TORCHRUN),
        ("trainer=ddp trainer.devices=auto", TORCHRUN),  # Lightning compares, once it has counted
        ("trainer=ddp", TASK),
        ("", {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}),  # a job script's own, without srun
    ],
)
def test_what_was_started_is_what_the_trainer_is_to_have(overrides, environment):
    check(overrides, environment)


@pytest.mark.parametrize(
    ("overrides", "environment", "words"),
    [
        ("trainer=ddp", {}, "torchrun --nproc-per-node=2 -m lnrnn train trainer=ddp"),
        ("", TORCHRUN, "2 processes were started.*Take trainer=ddp"),
        ("trainer.devices=2", TORCHRUN, "trainer.strategy=auto is something else"),
        ("trainer=ddp trainer.num_nodes=2", TORCHRUN, "trainer.devices=2 on trainer.num_nodes=2"),
        ("trainer=ddp", {**TASK, "SLURM_NTASKS": "3"}, "3 processes were started"),
        ("", TASK, "2 processes were started.*--ntasks-per-node"),
    ],
)
def test_another_number_of_processes_is_refused(overrides, environment, words):
    with pytest.raises(ConfigurationError, match=words):
        check(overrides, environment)


@pytest.mark.parametrize("key", ["trainer.devices", "trainer.num_nodes"])
def test_no_trainer_starts_processes_by_itself(key, tmp_path):
    """The strategy is left to Lightning, which would start the command again."""
    experiment = compose(f"{key}=2", "trainer.accelerator=cpu", "trainer.max_steps=1")
    words = f"{key}=2.*torchrun .*-m lnrnn train trainer=ddp.* trainer.num_nodes=1"
    with pytest.raises(ConfigurationError, match=words):
        training.train(experiment, tmp_path)
    with pytest.raises(ConfigurationError, match=f"by one process, and .*{key}=2.* both to 1"):
        find_rate(experiment.config, lowest=1e-5, highest=1.0, steps=20)


@pytest.mark.parametrize("environment", [ELASTIC, SRUN], ids=["torchrun", "srun"])
def test_processes_that_others_start_are_let_be(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    trainer = Trainer(strategy="ddp", devices=2, accelerator="cpu", logger=False)
    assert trainer.strategy.launcher is not None  # which starts nothing
    check_launches_nothing(trainer)


def test_a_launcher_can_send_the_command_elsewhere():
    """Launchers such as submitit's pickle what the command's functions refer to."""
    own = [
        value
        for name, value in vars(train).items()
        if not name.startswith("__") and not isinstance(value, ModuleType | FunctionType)
    ]
    assert own
    pickle.dumps(own)
