"""That nothing a model is tested on was in the files that it has learned from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lnrnn.data.steps import Series


def check_times(read: Mapping[str, Series]) -> None:
    """Check that no step of a series, by its time, is in the files of two splits."""
    owners: dict[tuple[str, float], str] = {}
    for split, part in read.items() if len(read) > 1 else ():
        if part.times is None or part.names is None:
            continue  # every file is a series
        ids = np.repeat(np.arange(len(part.lengths)), part.lengths)
        for step, (number, time) in enumerate(zip(ids, part.times, strict=True)):
            name = part.names[int(number)]
            owner = owners.setdefault((str(name), float(time)), split)
            if owner != split:
                raise ValueError(
                    f"{part.rows.name(step)} is a step of series {name!r} at a time "
                    f"that the files of {owner} have too: what is tested on must not be trained on"
                )


def check_apart(read: Mapping[str, Series]) -> None:
    """Check that no series is in two splits, where whole series are held out."""
    owners: dict[str, str] = {}
    for split, part in read.items():
        for name in part.names or ():
            owner = owners.setdefault(str(name), split)  # 0 of json is "0" of csv
            if owner != split:
                raise ValueError(
                    f"the series {name!r} is in the files of {owner} and of {split}: what is "
                    "tested on must not be trained on. If the files hold different times of the "
                    "same series, say so: data.split_by=time"
                )
