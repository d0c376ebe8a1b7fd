"""Loggers beside ``metrics.jsonl``: each has one run of its own for one run of ours.

What tells a run apart is an identity that ``run.json`` keeps from its first start on. With it a
resumed run continues what its logger has, and two runs in one process never share anything.
"""

import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from omegaconf import DictConfig

from lnrnn.config.compose import instantiate
from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.folder import RunFolder
from lnrnn.runs.interruption import Interrupted
from lnrnn.runs.processes import is_first_process
from lnrnn.runs.record import RunRecord
from lnrnn.runs.reporting import best_effort

TAG = "lnrnn.identity"  # by which a run is found in MLflow, which gives identities of its own
STORE = "mlflow.db"  # of all runs, beside their folders


@dataclass(frozen=True)
class Identity:
    """What loggers know a run by.

    Args:
        text: Hexadecimal digits that no other run has.
        home: The folder that holds all runs.
        resumed: Whether a logger may know it already.
        step: Optimizer steps that the run continues from; None from the start.
    """

    text: str
    home: Path
    resumed: bool = False
    step: int | None = None


def identity_of(record: RunRecord, home: Path, step: int | None) -> Identity:
    """Return the identity that a record keeps, or a new one.

    Args:
        record: What the folder's ``run.json`` said before this start.
        home: The folder that holds all runs.
        step: Optimizer steps of the checkpoint that the run continues from, if it does.
    """
    if record.identity is None:
        return Identity(uuid.uuid4().hex, home, step=step)
    return Identity(record.identity, home, resumed=True, step=step)


def build_logger(node: DictConfig | None, folder: RunFolder, identity: Identity) -> Logger | bool:
    """Return the chosen logger, writing below the run's folder, or False for none.

    Args:
        node: The configuration's ``logger``.
        folder: The run's folder.
        identity: Of the run.

    Raises:
        ConfigurationError: If its package is not installed, and which extra has it; if a run of
            wandb is under way in this process; or if the logger refuses its settings.
    """
    if not node:
        return False
    kind = node._target_.rpartition(".")[2]
    settings: dict[str, Any] = {"save_dir": str(folder.path)}
    title = folder.path.relative_to(identity.home).as_posix()
    try:
        if kind == WandbLogger.__name__:
            settings |= _of_wandb(node, title, identity)
        elif kind == TensorBoardLogger.__name__ and identity.step is not None:
            settings["purge_step"] = identity.step + 1  # what was lost is not shown twice
        elif kind == MLFlowLogger.__name__:
            settings |= _of_mlflow(node, title, identity)
        return instantiate(node, **settings)
    except (ConfigurationError, ImportError) as error:
        extra = kind.removesuffix("Logger").lower()
        raise ConfigurationError(
            f"{error}\nIf its package is not installed: pip install 'lnrnn[{extra}]'"
        ) from error


def _of_wandb(node: DictConfig, title: str, identity: Identity) -> dict[str, Any]:
    wandb: Any = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        raise ConfigurationError(
            f"a run of wandb is under way in this process ({wandb.run.id}), which is not this "
            "run's: call wandb.finish() first"
        )
    settings = {} if node.get("id") or node.get("version") else {"id": identity.text}
    return settings if node.get("name") else {**settings, "name": title}


def _of_mlflow(node: DictConfig, title: str, identity: Identity) -> dict[str, Any]:
    uri = node.get("tracking_uri") or f"sqlite:///{identity.home.resolve() / STORE}"
    settings = {
        "tracking_uri": uri,
        "artifact_location": (identity.home / "mlflow").resolve().as_uri(),  # of an experiment
        "run_name": node.get("run_name") or title,
        "tags": {**(node.get("tags") or {}), TAG: identity.text},
    }
    if identity.resumed and not node.get("run_id") and is_first_process():
        settings["run_id"] = _known_to_mlflow(uri, node.experiment_name, identity)
    return settings


def _known_to_mlflow(uri: str, experiment: str, identity: Identity) -> str | None:
    """Return what MLflow calls a run that it knows, which goes on; None if it does not know it."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    known = client.get_experiment_by_name(experiment)
    if known is None:
        return None
    query = f"tags.`{TAG}` = '{identity.text}'"
    found = client.search_runs([known.experiment_id], query, max_results=1)
    if not found:
        return None
    client.update_run(found[0].info.run_id, status="RUNNING")
    return found[0].info.run_id


def log_configuration(
    loggers: Sequence[Logger], config: dict[str, Any], identity: Identity
) -> None:
    """Hand a run's configuration to its loggers; MLflow, which cannot change one, once."""
    for logger in loggers:
        if not (isinstance(logger, MLFlowLogger) and identity.resumed):
            logger.log_hyperparams(config)


@contextmanager
def finishing(loggers: Sequence[Logger]) -> Iterator[None]:
    """Finish every logger at the end of a run, whatever the end is; Lightning leaves some open."""
    status = "FINISHED"
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, (Interrupted, KeyboardInterrupt))
        status = "KILLED" if stopped else "FAILED"
        raise
    finally:
        for logger in loggers:
            with best_effort(f"{type(logger).__name__} was not told that the run has ended"):
                _finish(logger, status)


def _finish(logger: Logger, status: str) -> None:
    if not is_first_process():
        return
    if isinstance(logger, WandbLogger) and logger._experiment is not None:
        logger._experiment.finish(exit_code=0 if status == "FINISHED" else 1)
    elif isinstance(logger, MLFlowLogger) and logger._initialized:
        logger.experiment.set_terminated(logger.run_id, status)
