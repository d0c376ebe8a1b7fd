"""What may be under ``hydra.``, which Hydra acts on before any function of ours is called.

The measure is what Hydra itself, its installed plugins and the command line make of it without our
files: where a configuration file could make Hydra build, call, import or export something, nothing
may differ from that.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import PurePath
from typing import Any, cast

from hydra import compose, initialize
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from lnrnn.config.errors import ConfigurationError

LOGGING = ("hydra_logging", "job_logging")
FOLDERS = ("run.dir", "sweep.dir", "sweep.subdir", "output_subdir")
FREE = (  # shown or noted, checked above (searchpath), or of no use to an attacker
    *("help", "hydra_help", "mode", "overrides", "runtime", "searchpath", "verbose"),
    *("job.chdir", "job.config", "job.config_name", "job.id", "job.num", "job.override_dirname"),
)


def check_files(config_name: str, overrides: Sequence[str]) -> list[str]:
    """Check that only files in the folders of configurations are read; Hydra must be initialized.

    Returns:
        Those that are read, such as ``model/lstm``.

    Raises:
        ConfigurationError: If a name such as ``model=../../x`` leads out of them.
    """
    loader: ConfigLoader = GlobalHydra.instance().config_loader()
    found = loader.compute_defaults_list(config_name, list(overrides), RunMode.RUN)
    for entry in found.defaults:
        if ".." in PurePath(entry.config_path or "").parts:
            raise ConfigurationError(
                f"{entry.config_path} leads out of the folder of configurations: put the file into "
                "it, or add its folder on the command line: 'hydra.searchpath=[file://FOLDER]'"
            )
    return [entry.config_path.lstrip("/") for entry in found.defaults if entry.config_path]


def check_primary(primary: Any) -> None:
    """Check the primary file before it is composed: a search path may import packages.

    Raises:
        ConfigurationError: If it sets one.
    """
    if OmegaConf.is_dict(primary) and OmegaConf.select(primary, "hydra.searchpath"):
        raise ConfigurationError(
            "hydra.searchpath is set in a file, but is read from the command line only: "
            "'hydra.searchpath=[file://FOLDER]'"
        )


def check_hydra(node: DictConfig, overrides: Sequence[str]) -> None:
    """Check Hydra's own node.

    Args:
        node: What stands under ``hydra.`` in a composed configuration.
        overrides: The overrides it was composed with.

    Raises:
        ConfigurationError: Naming the key that a file may not set.
    """
    if node.callbacks:
        raise ConfigurationError("hydra.callbacks is refused: lnrnn has no use for them")
    if OmegaConf.select(node, "sweeper.params"):
        raise ConfigurationError(
            "hydra.sweeper.params is refused: give a sweep as overrides, such as model=rnn,lstm"
        )
    choices = [f"hydra/{key}={node.runtime.choices[f'hydra/{key}']}" for key in LOGGING]
    ours = _flat(node)
    measure = _flat(_without_files((*choices, *_typed(overrides))))
    for key in sorted(ours.keys() | measure.keys()):
        value, wanted = ours.get(key), measure.get(key)
        if value == wanted or key in FREE:
            continue
        if key not in FOLDERS:
            raise ConfigurationError(
                f"hydra.{key} must be as Hydra, its plugins and the command line make it: files "
                "may not change it. Choose a launcher or sweeper on the command line: "
                "hydra/launcher=NAME, and its settings too. Logging is one of Hydra's own."
            )
        if value is not None and not _is_below(str(value)):
            raise ConfigurationError(
                f"hydra.{key} is {value!r}; a file may only name a folder below the current one"
            )


def _flat(node: DictConfig) -> dict[str, Any]:
    """Return the node by key; for groups that a file may change in part, by ``group.key``."""
    plain = cast(dict[str, Any], OmegaConf.to_container(node))
    for group in ("run", "sweep", "job"):
        plain |= {f"{group}.{key}": value for key, value in plain.pop(group).items()}
    return plain


def _typed(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of Hydra's node that were typed and may act."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    refused = ("hydra.searchpath", *(f"hydra.{key}" for key in LOGGING))
    typed = [override for override in parsed if override.is_hydra_override()]
    for override in typed:
        if "_target_" in (override.input_line or ""):
            raise ConfigurationError(
                f"{override.input_line}: Hydra's own classes are chosen by their files' names, "
                "such as hydra/launcher=joblib"
            )
    return [
        override.input_line
        for override in typed
        if override.input_line
        and not override.key_or_group.startswith(refused)
        and override.key_or_group not in [f"hydra/{key}" for key in LOGGING]
    ]


@lru_cache(maxsize=64)  # a comparison composes dozens of configurations with the same few
def _without_files(overrides: tuple[str, ...]) -> DictConfig:
    try:
        with initialize(config_path=None, job_name="app", version_base="1.3"):
            return compose(overrides=list(overrides), return_hydra_config=True).hydra
    except HydraException as error:
        raise ConfigurationError(
            f"under hydra/ only files of Hydra and its installed plugins can be chosen: {error}"
        ) from error


def _is_below(folder: str) -> bool:
    path = PurePath(folder)
    return "${" not in folder and not path.is_absolute() and ".." not in path.parts
