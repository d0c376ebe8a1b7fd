"""Whether several processes are about to make the same run, asked before their first step."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig

from lnrnn.config.errors import ConfigurationError
from lnrnn.training.ranks import gather

STARTED_OUTSIDE = (
    "several processes are started by torchrun (or SLURM's srun), not by the command itself: "
    "torchrun --nproc-per-node=2 -m lnrnn train trainer=ddp. For one process leave out "
    "trainer=ddp, or set trainer.devices=1 trainer.num_nodes=1"
)


class Agreement(Callback):
    """Compares what every process trains with, and from where it continues.

    Processes on several machines each read their own command line, data and run folder. If those
    differed, gradients of different things would be averaged without a word, or some processes
    would wait forever for steps that others have behind them.

    Args:
        view: What must be equal, plain values by name.
    """

    def __init__(self, view: Mapping[str, Any]) -> None:
        self.view = dict(view)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare with the other processes, once they are connected and before anything is loaded.

        Raises:
            ConfigurationError: In all processes alike, listing what differs.
        """
        if stage != "fit":
            return
        first, *others = gather(self.view, trainer)
        lines = [
            f"  {key}: {first.get(key)} in process 0, {other.get(key)} in process {rank}"
            for rank, other in enumerate(others, start=1)
            for key in sorted(first.keys() | other.keys())
            if first.get(key) != other.get(key)
        ]
        if lines:
            shown = "\n".join(lines[:12])
            raise ConfigurationError(
                f"the processes of this run do not agree:\n{shown}\n"
                "All of them need the same command line, the same data, and one folder of runs on "
                "a disk that they share."
            )


def check_launch(trainer: DictConfig, environment: Mapping[str, str]) -> None:
    """Check that as many processes were started as the trainer is to have.

    Args:
        trainer: The configuration's node.
        environment: Where torchrun (``WORLD_SIZE``) and SLURM's srun (``SLURM_NTASKS``) say it.

    Raises:
        ConfigurationError: With the command, or the keys to change.
    """
    several = str(trainer.strategy).startswith("ddp")
    started = environment.get("WORLD_SIZE")
    if started is None and (several or environment.get("SLURM_PROCID", "0") != "0"):
        started = environment.get("SLURM_NTASKS")  # else it may be a job script's, without srun
    if several and started is None:
        raise ConfigurationError(STARTED_OUTSIDE)
    devices, nodes = trainer.devices, trainer.num_nodes
    if started is None or not (isinstance(devices, int) and isinstance(nodes, int)):
        return  # Lightning knows what "auto" and lists of devices mean
    if devices * nodes != int(started) or (int(started) > 1 and not several):
        raise ConfigurationError(
            f"{started} processes were started, but trainer.devices={devices} on "
            f"trainer.num_nodes={nodes} with trainer.strategy={trainer.strategy} is something "
            "else. Take trainer=ddp, as trainer.devices what --nproc-per-node (SLURM: "
            "--ntasks-per-node) says, and as trainer.num_nodes what --nnodes (--nodes) says."
        )


def check_launches_nothing(trainer: Trainer) -> None:
    """Check that a trainer starts no processes by itself, which "auto" and counts may ask for.

    Lightning would start the command again with another command line, of which nothing was checked.

    Raises:
        ConfigurationError: With the command that starts them.
    """
    outside = getattr(trainer.strategy, "cluster_environment", None)
    if outside is not None and outside.creates_processes_externally:
        return  # torchrun's or SLURM's processes have a launcher, too, which starts nothing
    if trainer.strategy.launcher is not None:
        raise ConfigurationError(
            f"trainer.devices={trainer.num_devices} on trainer.num_nodes={trainer.num_nodes} is "
            f"more than this process, and {STARTED_OUTSIDE}"
        )
