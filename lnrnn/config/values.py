"""What a training configuration may hold: which keys, which values.

Everything is looked at before anything is built.
"""

import difflib
import inspect
import re
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf

from lnrnn.checks import is_whole
from lnrnn.config.allowed_targets import locate, target_nodes
from lnrnn.config.errors import ConfigurationError
from lnrnn.config.known_arguments import KNOWN_ARGUMENTS
from lnrnn.config.transfer import check_transfer

WHOLE_NUMBERS = {  # key and the least that makes sense
    "seed": 0,
    "warmup_steps": 0,
    "checkpoint_every_n_steps": 1,
    "trainer.accumulate_grad_batches": 1,
    "trainer.log_every_n_steps": 1,
}
# Torch compares them with 0 before it looks at what they are. Lists are left to the optimizer:
# Adafactor's eps is a pair.
NUMBERS_OF_OPTIMIZERS = ("lr", "weight_decay", "eps", "momentum", "dampening")

SHOWN = 3  # suggestions


def check_nodes(config: DictConfig, nodes: Sequence[str], values: Sequence[str]) -> None:
    """Check that nothing was taken out of a configuration that training needs.

    Args:
        config: A resolved configuration.
        nodes: Keys that must describe an object; of them the logger may be empty.
        values: Keys that must be there.

    Raises:
        ConfigurationError: Naming what is missing.
    """
    for key in (*nodes, *values):
        if key not in config and key != "logger":
            raise ConfigurationError(f"{key} was taken out, but a run needs it: leave out ~{key}")
    for key in nodes:
        node = config.get(key)
        if key == "logger" and not node:
            continue
        if not isinstance(node, DictConfig) or "_target_" not in node:
            raise ConfigurationError(
                f"{key} must be one of the files in conf/{key}, chosen by {key}=NAME, got {node!r}"
            )


def check_missing(config: DictConfig) -> None:
    """Check that every key without a default was given.

    Raises:
        ConfigurationError: Naming those that were not.
    """
    missing = sorted(_unset(OmegaConf.to_container(config), ""))
    if missing:
        raise ConfigurationError(
            f"{', '.join(missing)} must be given, for example: {missing[0]}=VALUE"
        )


def _unset(node: Any, path: str) -> Iterator[str]:
    """Yield the keys that were to be given. OmegaConf's own search ends at a reference to one."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _unset(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _unset(value, f"{path}[{i}]")
    elif node == MISSING:
        yield path


def check_null(overrides: Sequence[str]) -> None:
    """Check that nobody wrote Python's None, which is a word like any other in a configuration.

    Args:
        overrides: As typed on the command line.

    Raises:
        ConfigurationError: With what is written instead.
    """
    for text in overrides:
        key, _, value = text.partition("=")
        if value == "None":
            raise ConfigurationError(
                f"{text} would be the word 'None'. For no value write {key}=null; for that word "
                f"itself quote it: \"{key}='None'\""
            )


def check_values(config: DictConfig) -> None:
    """Check the values that no constructor checks.

    Raises:
        ConfigurationError: With the rule and what was received.
    """
    for key, least in WHOLE_NUMBERS.items():
        parent, _, leaf = key.rpartition(".")
        # A trainer's file of one's own may leave a key to Lightning.
        value = config[parent].get(leaf, least) if parent else config[leaf]
        if not is_whole(value, least):
            raise ConfigurationError(f"{key} must be a whole number from {least} up, got {value!r}")
    if not isinstance(config.monitor, bool):
        raise ConfigurationError(f"monitor must be true or false, got {config.monitor!r}")
    if config.test not in (None, "best", "last"):
        raise ConfigurationError(f"test must be best, last or null, got {config.test!r}")
    if not isinstance(config.monitor_metric, str):
        raise ConfigurationError(
            f"monitor_metric must be a metric such as val/loss, got {config.monitor_metric!r}"
        )
    if not isinstance(config.resume, str):
        raise ConfigurationError(
            f"resume must be auto, never or a checkpoint's path, got {config.resume!r}"
        )
    if config.schedule not in (None, "cosine", "linear"):
        raise ConfigurationError(
            f"schedule must be null, cosine or linear, got {config.schedule!r}"
        )
    for key in NUMBERS_OF_OPTIMIZERS:
        value = config.optimizer.get(key)
        if isinstance(value, str | bool):
            raise ConfigurationError(f"optimizer.{key} must be a number, got {value!r}")
    check_transfer(config)
    _check_class_weights(config.class_weights)
    if config.name is not None and not re.fullmatch(r"[A-Za-z0-9._-]+", str(config.name)):
        raise ConfigurationError(
            f"name may hold letters, digits, '.', '-' and '_' only, got {config.name!r}"
        )
    clip = config.trainer.get("gradient_clip_val")
    if isinstance(clip, int | float) and clip < 0:
        raise ConfigurationError(
            f"trainer.gradient_clip_val must be a norm, or null for no clipping, got {clip!r}"
        )
    if config.trainer.get("gradient_clip_algorithm") not in (None, "norm"):
        raise ConfigurationError(
            "the gradient is clipped by its global norm: trainer.gradient_clip_algorithm must be "
            f"norm, got {config.trainer.gradient_clip_algorithm!r}"
        )


def _check_class_weights(given: object) -> None:
    numbers = given if isinstance(given, ListConfig) else []
    fit = all(isinstance(n, int | float) and not isinstance(n, bool) and n > 0 for n in numbers)
    if given not in (None, "balanced") and not (numbers and fit and all(map(isfinite, numbers))):
        raise ConfigurationError(
            "class_weights must be null, balanced, or a list of one positive number for each "
            f"class, got {given!r}"
        )


def check_keys(
    config: DictConfig, top: Sequence[str] | None = None, trust: Sequence[str] = ()
) -> None:
    """Check that every key is an argument of its node's target, and every target allowed.

    Args:
        config: A resolved configuration.
        top: The keys that may stand at its top; None does not check them.
        trust: Packages that it may name beside our own list, from the command line.

    Raises:
        ConfigurationError: Naming the key, with the valid ones; or the target, with the packages
            that a configuration may name.
    """
    for key in config:
        if top is not None and key not in top:
            raise ConfigurationError(unknown_key("", str(key), top))
    for path, node in target_nodes(OmegaConf.to_container(config, resolve=True), ""):
        arguments = _arguments(path, node["_target_"], trust)
        if arguments is None:
            continue
        for key in node:
            if not str(key).startswith("_") and key not in arguments:
                valid = [name for name in arguments if name not in ("self", "params")]
                raise ConfigurationError(unknown_key(path, str(key), valid))


def _arguments(path: str, target: str, trust: Sequence[str]) -> Sequence[str] | None:
    """Return the names of a target's arguments; None if it takes any.

    Raises:
        ConfigurationError: If it may not be named.
    """
    if isinstance(target, str) and target in KNOWN_ARGUMENTS:
        return KNOWN_ARGUMENTS[target].split()
    parameters = inspect.signature(locate(path, target, trust)).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return tuple(parameters)


def takes(path: str, target: object, name: str) -> bool:
    """Return whether one of our own classes or functions has an argument of that name."""
    if not isinstance(target, str) or not target.startswith("lnrnn."):
        return False
    return name in (_arguments(path, target, ()) or ())


def check_trust(packages: object) -> tuple[str, ...]:
    """Return the packages that ``trust=[...]`` names.

    Raises:
        ConfigurationError: If it is not a list of packages' names.
    """
    if not isinstance(packages, (list, tuple, ListConfig)) or not all(
        isinstance(name, str) and re.fullmatch(r"__main__|[A-Za-z]\w*(\.[A-Za-z]\w*)*", name)
        for name in packages
    ):
        raise ConfigurationError(
            f"trust must be a list of packages, such as 'trust=[my_models]', got {packages!r}"
        )
    return tuple(packages)


def unknown_key(parent: str, leaf: str, valid: Sequence[str], elsewhere: Sequence[str] = ()) -> str:
    """Say that a key does not exist, and which ones do.

    Args:
        parent: The node that was to have it; empty at the top.
        leaf: Its name there.
        valid: The names that are there.
        elsewhere: Keys of other nodes, in full, of which one may be meant: lr is optimizer.lr.
    """
    names = sorted(name for name in valid if not name.startswith("_") and name != "hydra")
    full = f"{parent}.{leaf}" if parent else leaf
    where = f"Keys of {parent}" if parent else "Keys at the top"
    close = _suggest_key(parent, leaf, names, elsewhere)
    return f"there is no key {full}. {close}{where}: {', '.join(names)}."


def _suggest_key(parent: str, leaf: str, names: Sequence[str], elsewhere: Sequence[str]) -> str:
    ends = {key: key.rpartition(".")[2] for key in elsewhere}
    meant = [key for key, end in ends.items() if end == leaf]
    if not meant:  # near it first: steps at the top is max_steps of another node rather than test
        cutoff = 0.6 if parent else 0.7
        meant = difflib.get_close_matches(leaf, names, n=1, cutoff=cutoff)
        meant = meant or (_longer(leaf, names) if parent else [])
    if not meant:
        there = sorted(set(ends.values()))
        alike = _longer(leaf, there) or difflib.get_close_matches(leaf, there, n=1)
        meant = [key for key, end in ends.items() if end in alike]
    return f"Did you mean {' or '.join(meant)}? " if meant else ""


def _longer(leaf: str, names: Sequence[str]) -> list[str]:
    """Return the names that have a word more, such as max_steps for steps, if they are few."""
    found = [name for name in names if len(leaf) > 2 and leaf in name.split("_")]
    shortest = min((name.count("_") for name in found), default=0)
    found = [name for name in found if name.count("_") == shortest]
    return found if len(found) <= SHOWN else []


def suggest(name: str, options: Sequence[str]) -> str:
    """Return a question about the closest of the options, or nothing if none is close."""
    close = difflib.get_close_matches(name, options, n=1)
    return f"Did you mean {close[0]}? " if close else ""
