"""What ``lnrnn evaluate`` may say of data: on what else a trained model is tested, and how.

Everything else about the data is the run's: what it learned from decides what numbers are centered
by and which label is which.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from lnrnn.config.errors import ConfigurationError

OTHER = ("files", "test_files", "data_seed", "num_test", "length")  # another test split
HOW = ("batch_size", "num_workers")


def split_changes(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the overrides that are not about data, and what those under ``data.`` say.

    Args:
        words: What was typed; ``data.files=x``, ``+data.files=x`` and ``++data.files=x`` are one.

    Raises:
        ConfigurationError: If one cannot be read.
    """
    others, changes = [], {}
    for text in words:
        key = text.split("=", 1)[0].lstrip("+")
        if not key.startswith("data."):
            others.append(text)
            continue
        try:
            override = OverridesParser.create().parse_override(text.lstrip("+"))
        except HydraException as error:
            raise ConfigurationError(f"cannot read the override {text!r}: {error}") from error
        if override.is_sweep_override():
            raise ConfigurationError(
                f"{text}: a model is tested on one set at a time; several files in one set are a "
                "list: 'data.files=[a.csv,b.csv]'"
            )
        changes[key.removeprefix("data.")] = override.value()
    return others, changes


def check_changes(changes: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes as arguments of a run's data; ``files`` are those of the test.

    Args:
        changes: What is to be changed, by key.
        data: The node ``data`` of the run's configuration.

    Raises:
        ConfigurationError: If a key may not be changed, or the run's data have none of the name.
    """
    valid = [key for key in (*OTHER, *HOW) if key in data]
    for key in changes:
        if key not in valid:
            raise ConfigurationError(
                f"data.{key} cannot be changed for a test of this run, only: "
                f"{', '.join(f'data.{name}' for name in valid)}. What a model has learned from "
                "decides the rest"
            )
    if {"files", "test_files"} <= changes.keys():
        raise ConfigurationError(
            "data.files and data.test_files both say what is tested: give one of them"
        )
    return {"test_files" if key == "files" else key: value for key, value in changes.items()}
