"""A column that puts steps in order, as numbers."""

from __future__ import annotations  # pyarrow is imported when data are read

from typing import TYPE_CHECKING, Any

import numpy as np

from lnrnn.data.columns import Rows, is_text, numeric_column

if TYPE_CHECKING:
    import pyarrow as pa


def times_in(rows: Rows, name: str, column: pa.Array) -> np.ndarray:
    """Return what steps are put in order by: numbers, or dates and times."""
    import pandas as pd
    import pyarrow as pa

    if not is_text(column.type):
        if pa.types.is_temporal(column.type):
            return column.cast(pa.timestamp("ns")).cast(pa.int64()).to_numpy()
        return numeric_column(rows, name, column).astype(np.float64)
    cells: Any = column.to_pandas()
    numbers: Any = pd.to_numeric(cells, errors="coerce")
    if not numbers.isna().iloc[0]:
        times = numbers
    else:
        times: Any = pd.to_datetime(cells, errors="coerce", format="ISO8601", utc=True)
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        raise ValueError(
            f"data.order_by={name} puts the steps in order by a number, or a date such as "
            f"2026-01-31 or 2026-01-31 12:30, but {rows.name(row, name)} has "
            f"{column[row].as_py()[:40]!r}"
        )
    return times.to_numpy() if times is numbers else times.astype("int64").to_numpy()
