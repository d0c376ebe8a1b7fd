"""A run's folder: where it is, whether it may be used, and what is recorded in it.

``runs/<data>/<model>[-<name>]/seed<k>/`` holds ``config.yaml``, ``run.json``, ``model.json``,
``metrics.jsonl``, ``checkpoints/`` and ``curves.png``; where there are classes, ``confusion.json``
and its picture; and ``run.lock`` while it is trained. The folder follows from the configuration and
never from the clock, so the same command finds the same run again.
"""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lnrnn.config.allowed_targets import resolve
from lnrnn.config.compose import Experiment
from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.added_keys import added_keys
from lnrnn.runs.checkpoint_files import newest_good
from lnrnn.runs.effects import is_without_effect
from lnrnn.runs.files import misplaced, open_own
from lnrnn.runs.names import cut, joined, plain, with_hash
from lnrnn.runs.record import RecordError, RunRecord, read_record, write_record

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

    @property
    def confusion(self) -> Path:
        """Which class the model takes for which in its test, JSON; a picture is beside it."""
        return self.path / "confusion.json"

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
    """Return the folder that belongs to an experiment, below ``root``.

    A run whose long name was cut by an older version, and which is there, keeps its folder.
    """
    given = experiment.config.name
    names = [derive_name(experiment), derive_name(experiment, cut)] if given is None else [given]
    home, seed = root / experiment.data, f"seed{experiment.config.seed}"
    paths = [home / "-".join(filter(None, [experiment.model, name])) / seed for name in names]
    return RunFolder(next((path for path in paths if path.exists()), paths[0]))


def derive_name(experiment: Experiment, shorten: Callable[[str], str] | None = None) -> str:
    """Make a name from the overrides that change the result, so that two settings never share one.

    ``model.eps=1e-3 trainer.max_epochs=5`` gives ``eps-1e-3-max_epochs-5``; a key whose last part
    is in several places keeps its path (``model.dropout``). One over 60 characters is shortened.

    Args:
        experiment: With its overrides.
        shorten: What makes a long name short; None takes what new folders get.
    """
    # Folders are named as before there was `test` beside `data.test`.
    keys = (key for key in leaf_keys(experiment.config) if key != "test")
    leaves = Counter(key.rpartition(".")[2] for key in keys)
    parts = sorted(filter(None, (_name_part(text, leaves) for text in experiment.overrides)))
    return joined(parts) if shorten is None else shorten("-".join(parts))


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
    lines = changed_lines(folder.read_config(), config, ("in the folder", "asked for"))
    if lines:
        raise ConfigurationError(
            f"{folder.path} holds a run with another configuration:\n{lines}\n"
            "Give this run a name of its own (name=...), or move that folder away."
        )


def changed_lines(before: DictConfig, now: DictConfig, titles: tuple[str, str]) -> str:
    """Return the values by which two runs' results may differ, as lines to show; empty for none."""
    both = _comparable(before), _comparable(now)
    changes = difflib.unified_diff(*both, *titles, lineterm="", n=0)
    return "\n".join(line for line in changes if not line.startswith("@@"))


def _comparable(config: Any) -> list[str]:
    added = added_keys(OmegaConf.select(config, "data._target_"))
    keys = (key for key in sorted({*leaf_keys(config), *added}) if not is_without_effect(key))
    return [f"{key}: {OmegaConf.select(config, key, default=added.get(key))}" for key in keys]
