"""Training, resuming and evaluating sequence models from configurations."""

from lnrnn.config.compose import (
    Experiment,
    check_overrides,
    compose_config,
    compose_experiment,
    current_experiment,
)
from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.checkpoint_files import CheckpointError
from lnrnn.runs.folder import RunFolder, folder_of
from lnrnn.runs.interruption import Interrupted
from lnrnn.training.evaluation import Evaluation, evaluate
from lnrnn.training.finite import NonFiniteError
from lnrnn.training.fitting import FittedRun, fit
from lnrnn.training.run import train
from lnrnn.training.task import SequenceTask

__all__ = [
    "CheckpointError",
    "ConfigurationError",
    "Evaluation",
    "Experiment",
    "FittedRun",
    "Interrupted",
    "NonFiniteError",
    "RunFolder",
    "SequenceTask",
    "check_overrides",
    "compose_config",
    "compose_experiment",
    "current_experiment",
    "evaluate",
    "fit",
    "folder_of",
    "train",
]
