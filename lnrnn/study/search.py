"""What ``lnrnn tune`` is asked for: what is searched, over what, and what all trials share."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lnrnn.checks import is_whole, stays_below
from lnrnn.config import CONF
from lnrnn.config.compose import compose_config, compose_experiment
from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.names import joined, plain, with_hash

OBJECTIVE = "val/loss"  # of the validation whose weights are those that the test has
SPACE = re.compile(r"(\+*[\w.@/]+)=(log|uniform|int|choice)\((.*)\)")


@dataclass(frozen=True)
class Space:
    """The values of one key.

    Args:
        kind: ``log``, ``uniform``, ``int`` or ``choice``.
        values: The lowest and the highest, as numbers; or the choices, as texts.
    """

    kind: str
    values: tuple[Any, ...]

    def written(self, value: Any) -> str:
        """Return a value as an override has it; four digits of a number say enough."""
        return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Search:
    """What a study is asked for.

    Args:
        spaces: What is searched, by key.
        shared: The overrides of all trials.
        trials: How many there are to be in all.
        jobs: How many processes this start makes.
        folder: Where the study is.
        storage: The URL of a database; None for a journal in the folder.
        own_files: The files of the user's own that its runs are composed of.
    """

    spaces: dict[str, Space]
    shared: tuple[str, ...]
    trials: int
    jobs: int
    folder: Path
    storage: str | None
    own_files: tuple[Path, ...] = ()


def read_search(words: Sequence[str]) -> Search:
    """Return what a command line asks for.

    Raises:
        ConfigurationError: If nothing is searched, a key or value does not exist or fit, or a space
            is none.
    """
    known = [str(key) for key in OmegaConf.load(CONF / "tune.yaml") if key != "defaults"]
    own = [text for text in words if text.split("=", 1)[0] in known]
    config = compose_config(own, "tune")
    for key in ("trials", "jobs"):
        if not is_whole(config[key], least=1):
            raise ConfigurationError(f"{key} must be a whole number from 1 up, got {config[key]!r}")
    found = {text: SPACE.fullmatch(text) for text in words if text not in own}
    spaces = {match[1]: _space(text, match) for text, match in found.items() if match}
    shared = tuple(text for text, match in found.items() if not match)
    if not spaces:
        raise ConfigurationError(
            "nothing is searched: give one key or more such a value as "
            "'optimizer.lr=log(1e-4,1e-1)', 'model.dropout=uniform(0,0.5)', "
            "'model.hidden_size=int(16,128)' or 'model.eps=choice(1e-5,1e-3)'"
        )
    if any(re.match(r"[+]*name=", text) for text in shared):
        raise ConfigurationError(
            "name=... would give all trials one folder: leave it out, and each is named after what "
            "it changes. The study has a name of its own: study=..."
        )
    first = [f"{key}={space.written(space.values[0])}" for key, space in spaces.items()]
    experiment = compose_experiment([*shared, *first])  # so a misspelt key is named at once
    return Search(
        spaces,
        shared,
        config.trials,
        config.jobs,
        Path("runs")
        / experiment.data
        / "tune"
        / _name(config.study, experiment.model, spaces, shared),
        config.storage,
        experiment.own_files,
    )


def _name(given: Any, model: str, spaces: dict[str, Space], shared: Sequence[str]) -> str:
    if given is None:
        keys = sorted(key.lstrip("+").rpartition(".")[2] for key in spaces)
        rest = sorted(text for text in shared if not text.startswith("data="))
        asked = repr([sorted(map(repr, spaces.items())), rest])
        return with_hash(joined([plain(model), *map(plain, keys)]), asked, digits=6)
    if plain(str(given)) != str(given) or not stays_below(str(given)):
        raise ConfigurationError(
            f"study must be a name of letters, digits, '.', '-' and '_', got {given!r}"
        )
    return str(given)


def _space(text: str, match: re.Match[str]) -> Space:
    kind, values = match[2], [part.strip() for part in match[3].split(",")]
    if kind == "choice":
        if len({*values}) < max(len(values), 2) or not all(values):
            raise ConfigurationError(f"{text}: give two choices or more, all different")
        return Space(kind, tuple(values))
    try:
        low, high = (int(part) if kind == "int" else float(part) for part in values)
    except ValueError as error:
        raise ConfigurationError(
            f"{text}: give the lowest and the highest number, {kind}(LOW,HIGH)"
        ) from error
    if not low < high < float("inf") or low == float("-inf") or (kind == "log" and low <= 0):
        least = ", both above zero" if kind == "log" else ""
        raise ConfigurationError(f"{text}: the first number must be below the second{least}")
    return Space(kind, (low, high))
