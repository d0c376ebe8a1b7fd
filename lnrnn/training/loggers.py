"""Loggers beside ``metrics.jsonl``: each has one run of its own for one run of ours.

What tells a run apart is an identity that ``run.json`` keeps from its first start on. With it a
resumed run continues what its logger has, and two runs in one process never share anything.
"""

import fcntl
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
from lnrnn.runs.files import open_own
from lnrnn.runs.folder import RunFolder
from lnrnn.runs.interruption import Interrupted
from lnrnn.runs.processes import is_first_process
from lnrnn.runs.record import RunRecord
from lnrnn.runs.reporting import best_effort

TAG = "lnrnn.identity"  # by which a run is found in MLflow, which gives identities of its own
STORE = "mlflow.db"  # of all runs, beside their folders
LOCK = "mlflow.lock"  # held while a process opens the store


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
        if not _is_missing_package(error):
            raise
        extra = kind.removesuffix("Logger").lower()
        raise ConfigurationError(f"{error}\npip install 'lnrnn[{extra}]'") from error


def _is_missing_package(error: BaseException | None) -> bool:
    """Return whether an error comes of an import that failed."""
    while error is not None and not isinstance(error, ImportError):
        error = error.__cause__
    return error is not None


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
    artifacts = (identity.home / "mlflow").resolve().as_uri()  # of an experiment
    settings = {
        "tracking_uri": uri,
        "artifact_location": artifacts,
        "run_name": node.get("run_name") or title,
        "tags": {**(node.get("tags") or {}), TAG: identity.text},
    }
    if is_first_process():
        found = _known_to_mlflow(uri, node.experiment_name, artifacts, identity)
        if identity.resumed and not node.get("run_id"):
            settings["run_id"] = found
    return settings


def _known_to_mlflow(uri: str, experiment: str, artifacts: str, identity: Identity) -> str | None:
    """Open the store, and return what MLflow calls a run; None if it does not know it.

    Store and experiment are made if need be, by one process at a time: of two that make the tables
    of a new database at once, one fails.

    Raises:
        ConfigurationError: If the store cannot be opened.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    identity.home.mkdir(parents=True, exist_ok=True)
    try:
        with open_own(identity.home / LOCK, "a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            client = MlflowClient(uri)
            known = client.get_experiment_by_name(experiment)
            if known is None:
                client.create_experiment(experiment, artifact_location=artifacts)
                return None
        query = f"tags.`{TAG}` = '{identity.text}'"
        found = client.search_runs([known.experiment_id], query, max_results=1)
        if not found:
            return None
        client.update_run(found[0].info.run_id, status="RUNNING")
        return found[0].info.run_id
    except (MlflowException, *_database_errors()) as error:
        raise ConfigurationError(
            f"MLflow's store {uri} cannot be used: {error}. Check logger.tracking_uri, or start "
            "without logger=mlflow"
        ) from error


def _database_errors() -> tuple[type[Exception], ...]:
    try:
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:  # mlflow-skinny does without, where the store is a server
        return ()
    return (SQLAlchemyError,)


def log_configuration(loggers: Sequence[Logger], config: dict[str, Any]) -> None:
    """Hand a run's configuration to its loggers; MLflow, which cannot change one, once."""
    for logger in loggers:
        if not (isinstance(logger, MLFlowLogger) and is_first_process() and _has_one(logger)):
            logger.log_hyperparams(config)


def _has_one(logger: MLFlowLogger) -> bool:
    """Return whether MLflow has a run's configuration, as of one that is resumed."""
    run = logger.experiment.get_run(logger.run_id)  # the client comes first: it makes the run
    return bool(run.data.params)


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
