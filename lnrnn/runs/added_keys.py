"""Keys of the configuration that were added later, with what holds where a folder lacks them.

A run that was made before there was such a key is the run that today's command describes, as long
as nobody sets it.
"""

from typing import Any

ADDED: dict[str, Any] = {
    "monitor_metric": "val/loss",
    "test": None,
    "init_from": None,
    "init_parts": None,
    "freeze": None,
    "unfreeze_at": None,
    "class_weights": None,
}
ADDED_OF_DATA: dict[str, dict[str, Any]] = {
    "lnrnn.data.japanese_vowels": {"test": None},
    "lnrnn.data.mnist1d": {"data_seed": 42},
    "lnrnn.data.table_files": {
        "task": "classification",
        "split_by": None,
        "input_columns": None,
        "group_by": None,
        "order_by": None,
        "per_step": False,
        "window": None,
        "horizon": None,
        "stride": 1,
        "missing": "error",
        "separator": None,
        "encoding": None,
    },
    "lnrnn.data.text_files": {"encoding": None},
}


def added_keys(data: Any) -> dict[str, Any]:
    """Return the dotted keys that were added, with what holds where they are not.

    Args:
        data: What makes the run's data, ``data._target_``; None for none.
    """
    own = ADDED_OF_DATA.get(data, {}) if isinstance(data, str) else {}
    return ADDED | {f"data.{key}": value for key, value in own.items()}
