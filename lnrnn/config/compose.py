"""From command-line overrides to a checked configuration, and from its nodes to objects.

Hydra composes; this file makes its refusals readable, before anything is built.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from yaml import YAMLError

from lnrnn.config import CONF
from lnrnn.config.allowed_targets import check_references, check_resolved, check_targets, resolve
from lnrnn.config.budget import USUAL, settle_budget
from lnrnn.config.counted import settle_classes
from lnrnn.config.errors import ConfigurationError
from lnrnn.config.hydra_node import check_files, check_hydra, check_primary
from lnrnn.config.lightning_nodes import check_logger, check_trainer
from lnrnn.config.overrides import combinations, explain_override, split_trust
from lnrnn.config.own_files import own_files, with_own_folder
from lnrnn.config.values import (
    check_keys,
    check_missing,
    check_nodes,
    check_null,
    check_trust,
    check_values,
    suggest,
    takes,
    unknown_key,
)

LAUNCHERS = ("hydra/launcher=submitit_local", "hydra/launcher=submitit_slurm")


@dataclass(frozen=True)
class Experiment:
    """One composed and checked training configuration.

    Args:
        config: The resolved configuration, without Hydra's own node.
        data: The chosen file in ``conf/data``.
        model: The chosen file in ``conf/model``.
        overrides: The overrides it was composed with.
        own_files: The files of the folder ``conf`` in the current one that it was composed of.
    """

    config: DictConfig
    data: str
    model: str
    overrides: tuple[str, ...]
    own_files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Composition:
    """An :class:`Experiment` as Hydra composes it: values are neither resolved nor checked."""

    config: DictConfig
    primary: Any
    choices: Any
    own_files: tuple[Path, ...] = ()


def compose_experiment(
    overrides: Sequence[str],
    config_dir: Path = CONF,
    config_name: str = "train",
    *,
    counts_classes: bool = True,
) -> Experiment:
    """Compose and check one configuration.

    Args:
        overrides: Overrides as typed on the command line; no sweeps.
        config_dir: The folder that holds the configuration files.
        config_name: The primary configuration's name.
        counts_classes: Whether the user's files are read where classes are to be counted.

    Raises:
        ConfigurationError: If a group, key or value does not exist or does not fit; the message
            lists what does.
    """
    composition = compose_unresolved(overrides, config_dir, config_name)
    return to_experiment(composition, overrides, counts_classes=counts_classes)


def compose_unresolved(
    overrides: Sequence[str], config_dir: Path = CONF, config_name: str = "train"
) -> Composition:
    """Compose one configuration and check what its files may not do.

    Raises:
        ConfigurationError: As :func:`compose_experiment`, but for values.
    """
    found = with_own_folder(overrides) if config_dir == CONF else list(overrides)
    composed, files = _compose(found, config_dir, config_name)
    own = own_files(files) if found != [*overrides] else ()
    return replace(_composition(composed, config_dir, config_name), own_files=own)


def current_experiment(
    config: DictConfig, config_dir: Path = CONF, config_name: str = "train"
) -> Experiment:
    """Return the experiment of a function that ``hydra.main`` has called with ``config``."""
    composed = OmegaConf.merge({"hydra": HydraConfig.get()}, config)
    overrides = tuple(HydraConfig.get().overrides.task)
    trust, _ = split_trust(overrides)
    if not trust:
        _check_untrusted(composed)
    with open_dict(composed):
        composed.trust = list(trust)
    return to_experiment(_composition(composed, config_dir, config_name), overrides)


def check_overrides(
    overrides: Sequence[str],
    config_dir: Path = CONF,
    config_name: str = "train",
    *,
    multirun: bool,
) -> list[Experiment]:
    """Compose and check what a command line asks for, every combination of a sweep included.

    Returns:
        Its runs; where a sweep is over numbers, one that leaves these out.

    Raises:
        ConfigurationError: As :func:`compose_experiment`, or if several values are given without
            ``multirun``; or if all runs of a sweep over numbers have one name.
    """
    combined = list(combinations(overrides, config_dir))
    if len(combined) > 1 and not multirun:
        raise ConfigurationError(
            f"these overrides describe {len(combined)} runs; add -m to make them all"
        )
    one = len(combined) == 1  # each run of a sweep reads its own files, and fails alone
    return [
        compose_experiment(words, config_dir, config_name, counts_classes=one) for words in combined
    ]


def instantiate(node: DictConfig, *args: Any, **settings: Any) -> Any:
    """Build the object that ``node`` describes: the only place where this happens.

    What was checked is what is built: a copy with plain values. Packages beside our own list are
    trusted if the configuration that ``node`` is part of says so, which only a command line can do.

    Args:
        node: A node with ``_target_``.
        args: Passed on to the constructor.
        settings: Constructor arguments that only exist at run time, such as callbacks.

    Raises:
        ConfigurationError: If it names what it may not; or the constructor refuses its arguments,
            in its words.
    """
    plain = OmegaConf.to_container(node, resolve=True)
    check_resolved(plain)
    whole = cast(DictConfig, node._get_root())
    check_targets(plain, check_trust(whole.get("trust") or []))
    try:
        # Hydra 1.4 warns here, and 1.5 fails, unless the call also passes what it may name:
        # `_execution_whitelist_=("lnrnn.*", "torch.nn.*", ...)`, from ALLOWED and trust;
        # `hydra.main` takes `execution_whitelist=` for its logging. Hydra 1.3 knows neither.
        return hydra_instantiate(plain, *args, **settings)
    except InstantiationException as error:
        cause: BaseException = error
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        raise ConfigurationError(f"{node.get('_target_')}: {cause}") from error


def compose_config(
    overrides: Sequence[str], config_name: str, config_dir: Path = CONF
) -> DictConfig:
    """Compose a configuration that describes no training run, such as ``evaluate``'s.

    Raises:
        ConfigurationError: If a key does not exist, or one without a default is not given; or if
            something is said to Hydra, which would run nothing.
    """
    for text in overrides:
        if re.match(r"[+~]*hydra\b", text):
            raise ConfigurationError(f"{text} has no effect on lnrnn {config_name}: leave it out")
    config = _without_hydra(_compose(overrides, config_dir, config_name)[0])
    known = [str(key) for key in OmegaConf.load(config_dir / f"{config_name}.yaml")]
    for key in config:
        if key not in (*known, "trust"):  # +KEY=VALUE adds what nothing would read
            raise ConfigurationError(unknown_key("", str(key), [*known, "trust"]))
    check_references(config)
    check_missing(config)
    return config


def _check_untrusted(config: Any) -> None:
    if "trust" in config:
        raise ConfigurationError(
            f"trust is {config.trust!r} in a file, but is read from the command line only: "
            "'trust=[package]'"
        )


def _compose(overrides: Sequence[str], config_dir: Path, config_name: str) -> tuple[Any, list[str]]:
    """Compose, and check what files may not do: nothing of the result has acted yet.

    Returns:
        The configuration, and the files that it is of.
    """
    trust, others = split_trust(overrides)
    composed, files = _compose_files(others, config_dir, config_name)
    check_hydra(composed.hydra, others)
    _check_untrusted(composed)
    with open_dict(composed):
        composed.trust = list(trust)
    return composed, files


def _compose_files(
    overrides: Sequence[str], config_dir: Path, config_name: str
) -> tuple[DictConfig, list[str]]:
    with initialize_config_dir(str(config_dir.resolve()), version_base="1.3"):
        try:
            check_primary(OmegaConf.load(config_dir / f"{config_name}.yaml"))
            files = check_files(config_name, overrides)
            return compose(config_name, list(overrides), return_hydra_config=True), files
        except ConfigurationError:
            raise
        except MissingConfigException as error:
            raise ConfigurationError(_explain_group(error)) from error
        except ValueError as error:  # a group set to null
            raise ConfigurationError(f"{error}. A group takes a file's name: model=rnn") from error
        except ConfigCompositionException as error:
            known = _known_keys(overrides, config_dir, config_name)
            raise ConfigurationError(_explain_key(error, known)) from error
        except OverrideParseException as error:
            shown = getattr(error, "override", None) or ""
            parser = OverridesParser.create()
            raise ConfigurationError(explain_override(shown, error, parser)) from error
        except YAMLError as error:
            raise ConfigurationError(f"a configuration file is not plain YAML: {error}") from error


def _known_keys(overrides: Sequence[str], config_dir: Path, config_name: str) -> DictConfig:
    """Compose again with only the overrides that choose files, to list the keys of that choice."""
    chosen = [t for t in overrides if (config_dir / t.split("=", 1)[0].lstrip("+")).is_dir()]
    for smaller in (chosen, []):  # one of them may be what is wrong
        try:
            return compose(config_name, smaller)
        except HydraException:
            continue
    return OmegaConf.create()  # a file is what is wrong


def _explain_group(error: MissingConfigException) -> str:
    wanted = (error.missing_cfg_file or "").rsplit("/", 1)
    if error.options is None or len(wanted) != 2:
        return str(error)
    group, name = wanted[0].lstrip("/"), wanted[1]
    if f"{group}={name}" in LAUNCHERS:
        return f"{group}={name} is in a package of its own: pip install 'lnrnn[cluster]'"
    return (
        f"there is no {group}={name}. {suggest(name, error.options)}"
        f"The choices for {group} are: {', '.join(sorted(error.options))}."
    )


def _explain_key(error: Exception, known: DictConfig) -> str:
    key = getattr(error.__cause__, "full_key", None)
    if not key:
        return str(error)
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(known, parent) if parent else known
    if not isinstance(node, DictConfig):
        return str(error)
    if takes(parent, node.get("_target_"), leaf):
        return f"{key} is not among the keys of its file; add it with a plus: +{key}=..."
    return unknown_key(parent, leaf, [str(name) for name in node], list(_leaves(known)))


def _leaves(known: DictConfig) -> Iterator[str]:
    """Yield the keys that are set somewhere, in full: seed, trainer.max_epochs."""
    whole = cast(dict[str, Any], OmegaConf.to_container(known))
    for parent, node in whole.items():
        if not isinstance(node, dict):
            yield parent
        elif parent != "hydra":
            # What refers to another key is not where that is set; a data set's file has the other.
            own = (
                leaf
                for leaf, value in node.items()
                if not str(value).startswith("${") and leaf != USUAL
            )
            yield from (f"{parent}.{leaf}" for leaf in own if not str(leaf).startswith("_"))


def _composition(composed: Any, config_dir: Path, config_name: str) -> Composition:
    primary = OmegaConf.load(config_dir / f"{config_name}.yaml")
    return Composition(_without_hydra(composed), primary, composed.hydra.runtime.choices)


def to_experiment(
    composition: Composition, overrides: Sequence[str], *, counts_classes: bool = True
) -> Experiment:
    """Resolve every interpolation and check every key, in place."""
    config, primary = composition.config, composition.primary
    check_null(overrides)
    check_references(config)
    check_missing(config)
    if counts_classes:
        settle_classes(config)
    settle_budget(config, overrides)
    resolve(config)
    entries = [entry for entry in primary.defaults if isinstance(entry, DictConfig)]
    groups = [str(key) for entry in entries for key in entry]
    nodes = ["head", *(key for key in groups if "/" not in key and key != "experiment")]
    values = [str(key) for key in primary if key not in ("defaults", "hydra")]
    check_nodes(config, nodes, values)
    trust = check_trust(config.trust)
    check_keys(config, [*nodes, *values, "trust"], trust)
    check_trainer(config.trainer)
    if not any("lightning.pytorch.loggers.".startswith(f"{package}.") for package in trust):
        check_logger(config.get("logger"), overrides)
    check_values(config)
    choices = composition.choices
    return Experiment(config, choices.data, choices.model, tuple(overrides), composition.own_files)


def _without_hydra(composed: Any) -> DictConfig:
    return OmegaConf.create({key: composed._get_node(key) for key in composed if key != "hydra"})
