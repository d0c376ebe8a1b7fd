"""A measurement: what was measured of whom, and how it reads as a line of JSON."""

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


class Ratio(NamedTuple):
    """A ratio's median over the rounds, and its quartiles."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Row:
    """One measurement.

    Args:
        mode: What was measured; see `scripts/benchmark.py`.
        cell: "lstm", "gru" or "rnn".
        shape: Steps, batch, input features, hidden units.
        threads: Of torch.
        unit: Of the values.
        values: What each candidate took in each round, None where it sat the round out. The first
            candidate is ours; it is compared with each of the others.
        note: What a reader must know about the values, if anything.
        machine: Versions, CPU, commit, heap: what a number is worth nothing without.
    """

    mode: str
    cell: str
    shape: tuple[int, ...]
    threads: int
    unit: str
    values: dict[str, list[float | None]]
    note: str = ""
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def ours(self) -> str:
        """The candidate that the others are compared with."""
        return next(iter(self.values))

    @property
    def others(self) -> list[str]:
        """The other candidates."""
        return list(self.values)[1:]

    @property
    def heap(self) -> str:
        """How memory was allocated: "stock" or "keep"."""
        return self.machine["heap"]

    def median(self, name: str) -> float:
        """Return a candidate's median."""
        return statistics.median(value for value in self.values[name] if value is not None)

    def ratio(self, name: str, base: str) -> Ratio:
        """Return what ``name`` took over what ``base`` took in the same round."""
        pairs = zip(self.values[name], self.values[base], strict=True)
        ratios = [a / b for a, b in pairs if a is not None and b is not None]
        if len(ratios) == 1:
            return Ratio(*ratios * 3)
        return Ratio(*statistics.quantiles(ratios, n=4, method="inclusive"))

    def to_json(self) -> str:
        """Return the row as a line, its ratios included."""
        ratios = {f"{self.ours} / {name}": self.ratio(self.ours, name) for name in self.others}
        own = asdict(self)
        machine = own.pop("machine")
        return json.dumps({**own, "ratios": {k: r._asdict() for k, r in ratios.items()}, **machine})


def read_rows(paths: Iterable[Path]) -> list[Row]:
    """Return the rows of files that were written a line a row.

    Raises:
        ValueError: If a line is not a row; the message names file and line.
    """
    rows = []
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                found = json.loads(line)
                found.pop("ratios")
                names = ("mode", "cell", "threads", "unit", "values", "note")
                own = {name: found.pop(name) for name in names}
                rows.append(Row(**own, shape=tuple(found.pop("shape")), machine=found))
            except (json.JSONDecodeError, KeyError, AttributeError) as error:
                raise ValueError(
                    f"{path}, line {number}, is not a measurement that --out has written: {error!r}"
                ) from error
    return rows
