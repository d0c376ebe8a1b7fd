"""What a configuration may say to Lightning's trainer and loggers, which write files.

Files belong into the run's folder. A configuration may come from somebody else, so no argument in
it leads elsewhere, unless a person has typed it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lnrnn.checks import stays_below
from lnrnn.config.errors import ConfigurationError

DECIDED = {  # arguments of the trainer that a run decides, and how what they do is had
    "callbacks": "a run has its own; what is recorded: monitor=true, early_stopping=3",
    "default_root_dir": "everything is written into the run's folder",
    "logger": "choose one of conf/logger: logger=tensorboard",
    "num_sanity_val_steps": "the first validation comes when it is due",
    "plugins": "a run reads and writes its own checkpoints",
    "use_distributed_sampler": "the data are divided exactly, for any number of processes",
}

# Loggers to what may be set. Left out: save_dir, for which a run gives its folder, and whatever
# else would write elsewhere, or is handed on to the logger's own package unseen.
LOGGERS = {
    "lightning.pytorch.loggers.CSVLogger": "flush_logs_every_n_steps name prefix version",
    "lightning.pytorch.loggers.MLFlowLogger": (
        "experiment_name log_model prefix run_id run_name synchronous tags tracking_uri"
    ),
    "lightning.pytorch.loggers.TensorBoardLogger": (
        "default_hp_metric flush_secs log_graph max_queue name prefix version"
    ),
    "lightning.pytorch.loggers.WandbLogger": (
        "entity group id job_type log_model name notes offline prefix project tags version"
    ),
}
NAMES_OF_FOLDERS = ("CSVLogger", "TensorBoardLogger")


def check_trainer(node: Mapping[str, Any]) -> None:
    """Check that a trainer's node leaves to a run what a run decides.

    Raises:
        ConfigurationError: Naming the argument.
    """
    for key, why in DECIDED.items():
        if node.get(key):
            raise ConfigurationError(f"trainer.{key} cannot be set: {why}. Got {node[key]!r}")


def check_logger(node: Mapping[str, Any] | None, typed: Sequence[str]) -> None:
    """Check that a logger writes below the run's folder, or where a person has said.

    Args:
        node: The node; a logger that is not in ``LOGGERS`` is somebody's who is trusted.
        typed: The overrides of the command line.

    Raises:
        ConfigurationError: Naming the argument.
    """
    target = str(node.get("_target_")) if node else ""
    if not node or target not in LOGGERS:
        return
    valid = LOGGERS[target].split()
    for key in node:
        if key == "_args_" or (key[0] != "_" and key not in valid):
            raise ConfigurationError(
                f"logger.{key} cannot be set for {target.rpartition('.')[2]}, only: "
                f"{', '.join(valid)}. A logger writes below the run's folder; with "
                "'trust=[lightning.pytorch.loggers]' it takes any argument"
            )
    for key in ("name", "version"):
        value = node.get(key)
        if target.endswith(NAMES_OF_FOLDERS) and value and not stays_below(str(value)):
            raise ConfigurationError(
                f"logger.{key} must be a name of a folder in the run's folder, got {value!r}"
            )
    _check_address(node.get("tracking_uri"), typed)


def _check_address(address: Any, typed: Sequence[str]) -> None:
    is_typed = any(text.lstrip("+").startswith("logger.tracking_uri=") for text in typed)
    if address is None or is_typed or str(address).startswith(("http://", "https://")):
        return
    raise ConfigurationError(
        f"logger.tracking_uri is {address!r} in a file, where it must be null, for a file "
        "beside the runs, or an address that begins with https://. Say on the command line where "
        "else to write: logger.tracking_uri=..."
    )
