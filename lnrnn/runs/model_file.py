"""``model.json``: what a run's model reads and answers. This file alone writes and reads it."""

import json
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from lnrnn.preparation import Preparation, from_plain, table_from_plain, to_plain
from lnrnn.runs.files import replace_text
from lnrnn.runs.record import RecordError, parse_json, read_text

TABLE = ("separator", "encoding", "group_by", "order_by", "stride")
FILES = ("lnrnn.data.table_files", "lnrnn.data.text_files")  # elsewhere the keys may mean anything


def with_settings(preparation: Preparation, config: DictConfig) -> Preparation:
    """Add what a configuration says of its data: the columns, how files are read, how cut.

    Args:
        preparation: Of the data.
        config: A run's configuration.

    Raises:
        ValueError: If something that it says of tables is not of the kind that is read.
    """
    of_files = config.data.get("_target_") in FILES
    table = {key: config.data[key] for key in TABLE if of_files and key in config.data}
    columns = config.data.get("input_columns") or [config.data.get("input_column")]
    return replace(
        preparation,
        max_length=config.data.get("max_length"),
        window=config.data.get("window"),
        columns=tuple(str(name) for name in columns if name is not None),
        row_a_step=config.data.get("input_columns") is not None,
        table=table_from_plain(table or None),
    )


def write_model(path: Path, preparation: Preparation) -> None:
    """Replace a ``model.json`` in one step."""
    replace_text(path, json.dumps(to_plain(preparation), indent=2, ensure_ascii=False) + "\n")


def read_model(path: Path) -> Preparation:
    """Read a ``model.json``.

    Raises:
        RecordError: If it is not there, or is not what a run writes; the message names the file.
    """
    try:
        return from_plain(parse_json(read_text(path), path))
    except RecordError:
        raise
    except ValueError as error:
        raise RecordError(f"{path}: {error}") from error
