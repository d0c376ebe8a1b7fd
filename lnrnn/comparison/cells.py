"""One value of a table, the kind of value that it is, and how most kinds are written.

Tables hold values. What shows a table writes them, in its own way where screen and page differ.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from lnrnn.comparison.wording import p_text

NOTHING = "-"

Kind = Literal[
    "arrived",  # how many runs, of how many
    "bytes",
    "count",
    "interval",  # of differences: low, high
    "loss",  # of tuning runs: mean, how many were lost, whether the rate was chosen
    "p",
    "ratio",
    "ratio interval",  # low, high; a bound of None has no end
    "ratio span",  # two quartiles
    "runs",  # how many have a value, of how many
    "seconds",
    "seconds span",  # two quartiles
    "setting",
    "share",
    "signed",
    "speed-up",  # a ratio, and in how many pairs a run never arrived
    "spread",  # mean, standard deviation or None
    "steps",
    "supported",
    "target",  # value, share of the baseline's improvement
    "text",
    "throughput",  # number, unit
    "value",
]


class Cell(NamedTuple):
    """A value that is to be written.

    Args:
        kind: What kind of value it is.
        value: The value, or the few that belong together; None if there is none.
        digits: Decimals, for the kinds that need to be told.
    """

    kind: Kind
    value: Any
    digits: int = 0


Formats = Mapping[Kind, Callable[[Any, int], str]]


def text(cell: Cell | None, formats: Formats) -> str:
    """Return a cell as text: empty if there is no cell, a dash if it has no value."""
    if cell is None:
        return ""
    return NOTHING if cell.value is None else formats[cell.kind](cell.value, cell.digits)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"


def _spread(value: tuple[float, float | None], digits: int) -> str:
    mean, sd = value
    return f"{mean:.{digits}f}" + ("" if sd is None else f" ± {sd:.{digits}f}")


FORMATS: Formats = {
    "count": lambda value, _: f"{value:,}",
    "interval": lambda value, digits: f"[{value[0]:+.{digits}f}, {value[1]:+.{digits}f}]",
    "p": lambda value, _: p_text(value),
    "share": _number,
    "signed": lambda value, digits: f"{value:+.{digits}f}",
    "spread": _spread,
    "steps": lambda value, _: f"{value:.0f}",
    "supported": lambda value, _: "yes" if value else "no",
    "text": lambda value, _: value,
    "value": _number,
}
"""How a kind is written where screen and page agree."""
