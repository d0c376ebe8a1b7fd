"""The arguments of the commands that use a trained model."""

from collections.abc import Sequence
from typing import Any, cast

from omegaconf import OmegaConf

from lnrnn.config.compose import compose_config
from lnrnn.config.errors import ConfigurationError

# What a person types for these is taken as it stands, commas, spaces and quotes too: a prompt is
# any text, and a file may have any name.
TEXTS = ("run", "files", "out", "prompt", "column", "separator", "encoding", "repo")


def read_arguments(words: Sequence[str], name: str) -> dict[str, Any]:
    """Return what a command line says, with what holds where it says nothing.

    Args:
        words: ``KEY=VALUE`` each.
        name: The file in ``conf`` that lists the keys.

    Raises:
        ConfigurationError: If there is no such key, or one that is needed is missing or empty.
    """
    texts, others = {}, []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and _is_text(key, value):
            texts[key] = value
            word = f"{key}=given"
        others.append(word)
    config = compose_config(others, name)
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    found = {**plain, **texts}
    if "run" in found:
        check_run(found["run"])
    return found


def check_run(run: Any) -> None:
    """Raise ConfigurationError where no run is named: a shell's variable may have been empty."""
    if not str(run).strip():
        raise ConfigurationError(
            "run= is empty: give a run's folder, such as runs/japanese_vowels/rnn_ln/seed0"
        )


def _is_text(key: str, value: str) -> bool:
    """Return whether a value is taken as it stands; the others are Hydra's to read."""
    if key == "prompt":
        return True
    if key == "files" and value.startswith("[") and value.endswith("]"):
        return False  # a list is written as everywhere: 'files=[a.csv,b.csv]'
    return key in TEXTS and value not in ("", "null")
