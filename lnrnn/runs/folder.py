"""A run's folder: where it is, whether it may be used, and what is recorded in it.

``runs/<data>/<model>[-<name>]/seed<k>/`` holds ``config.yaml``, ``run.json``, ``model.json``,
``metrics.jsonl``, ``checkpoints/`` and ``curves.png``; and ``run.lock`` while it is trained. The
folder follows from the configuration and never from the clock, so the same command finds the same
run again.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lnrnn.config.allowed_targets import resolve
from lnrnn.config.compose import Experiment
from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.added_keys import ADDED
from lnrnn.runs.checkpoint_files import newest_good
from lnrnn.runs.files import misplaced, open_own
from lnrnn.runs.names import plain, with_hash
from lnrnn.runs.record import RecordError, RunRecord, read_record, write_record

# Where a run is started, watched and resumed changes nothing in its numbers.
WITHOUT_EFFECT = (
    "resume",
    "name",
    "logger",
    "trust",
    "hydra",
    "checkpoint_every_n_steps",
    "monitor",
    "data.num_workers",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
)
IN_THE_PATH = ("data", "model", "seed")


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Args:
        path: The folder itself; it need not exist yet.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration, YAML."""
        return self.path / "config.yaml"

    @property
    def record(self) -> Path:
        """What ran, on what, and how it ended, JSON."""
        return self.path / "run.json"

    @property
    def model(self) -> Path:
        """What the model reads and answers, JSON: how to use it without its training data."""
        return self.path / "model.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, append-only."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def curves(self) -> Path:
        """The picture of the run's metrics."""
        return self.path / "curves.png"

    def read_record(self) -> RunRecord:
        """Return ``run.json``, or an empty record if there is none.

        Raises:
            ConfigurationError: If it is not what a run writes.
        """
        if not self.record.exists():
            return RunRecord()
        try:
            return read_record(self.record)
        except RecordError as error:
            raise ConfigurationError(
                f"{self.record} is damaged ({error}); remove that file to resume from the newest "
                "checkpoint"
            ) from error

    def read_config(self) -> DictConfig:
        """Return the resolved configuration of the run.

        Raises:
            ConfigurationError: If there is none, it cannot be read, or a value in it would be read
                from elsewhere, such as the environment.
        """
        try:
            with open_own(self.config) as file:
                config = OmegaConf.load(file)
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"run={self.path}: there is no run ({self.config} is missing). Give the folder "
                "that training printed, such as runs/japanese_vowels/rnn_ln/seed0."
            ) from error
        except Exception as error:
            raise ConfigurationError(f"{self.config} is damaged: {error}") from error
        if not isinstance(config, DictConfig) or not config:
            raise ConfigurationError(f"{self.config} is damaged: it holds no configuration")
        try:
            resolve(config)
        except (ConfigurationError, RecursionError) as error:
            raise ConfigurationError(f"{self.config}: {error}") from error
        return config

    def write_record(self, record: RunRecord) -> None:
        """Replace ``run.json`` in one step, so that a reader never sees half of it."""
        write_record(self.record, record)

    def update_record(self, **changes: Any) -> None:
        """Change some entries of ``run.json``."""
        self.write_record(replace(self.read_record(), **changes))

    def newest_checkpoint(self) -> Path | None:
        """Return the newest checkpoint that is whole, or None."""
        return newest_good(self.checkpoints)[0]


def folder_of(experiment: Experiment, root: Path = Path("runs")) -> RunFolder:
    """Return the folder that belongs to an experiment, below ``root``."""
    given = experiment.config.name
    name = derive_name(experiment) if given is None else given
    model = f"{experiment.model}-{name}" if name else experiment.model
    return RunFolder(root / experiment.data / model / f"seed{experiment.config.seed}")


def derive_name(experiment: Experiment) -> str:
    """Make a name from the overrides that change the result, so that two settings never share one.

    ``model.eps=1e-3 trainer.max_epochs=5`` gives ``eps-1e-3-max_epochs-5``; a key whose last part
    is in several places keeps its path (``model.dropout``). Over 60 characters, a hash ends it.
    """
    # Folders are named as before there was `test` beside `data.test`.
    keys = (key for key in leaf_keys(experiment.config) if key != "test")
    leaves = Counter(key.rpartition(".")[2] for key in keys)
    parts = sorted(filter(None, (_name_part(text, leaves) for text in experiment.overrides)))
    name = "-".join(parts)
    if len(name) <= 60:
        return name
    return with_hash(name[:51], name)


def _name_part(override: str, leaves: Mapping[str, int]) -> str:
    key, _, value = override.partition("=")
    removed, key = key.startswith("~"), key.lstrip("+~")
    if key in IN_THE_PATH or is_without_effect(key) or (key, value) in _SAME_NUMBERS:
        return ""
    if key == "experiment":
        return _plain(value)
    leaf = key.rpartition(".")[2]
    label = leaf if leaves[leaf] <= 1 else key
    return f"no-{_plain(label)}" if removed else f"{_plain(label)}-{_plain(_canonical(value))}"


_SAME_NUMBERS = {("trainer", "default"), ("trainer", "ddp")}


def is_without_effect(key: str) -> bool:
    """Return whether a key changes nothing in a run's numbers."""
    return is_part_of(key, WITHOUT_EFFECT)


def is_part_of(key: str, names: Sequence[str]) -> bool:
    """Return whether a dotted key is one of ``names``, or is below one."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _canonical(value: str) -> str:
    """Write a number in one way: ``1e-3`` and ``0.001``, as a sweep has it, name one run."""
    if value.lower() in ("true", "false", "null"):
        return value.lower()
    if re.fullmatch(r"[-+]?[0-9]+", value) or not re.fullmatch(r"[-+0-9.eE]+", value):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    mantissa, _, exponent = f"{number:e}".partition("e")
    scientific = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    decimal = repr(number)
    return scientific if float(scientific) == number and len(scientific) < len(decimal) else decimal


def _plain(text: str) -> str:
    """Keep letters, digits, ``.``, ``-`` and ``_``; if something went, a hash tells texts apart."""
    kept = plain(text).strip("_")
    return kept if kept == text else with_hash(kept, text, digits=4)


def leaf_keys(node: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted key of every value in a configuration."""
    if not isinstance(node, DictConfig):
        yield path
        return
    for key in node:
        yield from leaf_keys(node[key], f"{path}.{key}" if path else str(key))


def check_files(folder: Path) -> None:
    """Check that what is in a run's or a comparison's folder is there, not elsewhere by a link.

    Raises:
        ConfigurationError: Naming what is not.
    """
    if (problem := misplaced(folder)) is not None:
        raise ConfigurationError(problem)


def check_configuration(folder: RunFolder, config: DictConfig) -> None:
    """Check that a folder's earlier run had the same configuration.

    Raises:
        ConfigurationError: With the lines that differ, if it had another one; or if something in
            the folder is a link.
    """
    check_files(folder.path)
    if not folder.config.exists():
        return
    before, now = _comparable(folder.read_config()), _comparable(config)
    if before == now:
        return
    changes = difflib.unified_diff(before, now, "in the folder", "asked for", lineterm="", n=0)
    lines = "\n".join(line for line in changes if not line.startswith("@@"))
    raise ConfigurationError(
        f"{folder.path} holds a run with another configuration:\n{lines}\n"
        "Give this run a name of its own (name=...), or move that folder away."
    )


def _comparable(config: Any) -> list[str]:
    keys = (key for key in sorted({*leaf_keys(config), *ADDED}) if not is_without_effect(key))
    return [f"{key}: {OmegaConf.select(config, key, default=ADDED.get(key))}" for key in keys]
