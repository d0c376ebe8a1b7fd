"""Looks at a comparison: seeds or splits added after its result was seen are one more chance.

A look is how many seeds there were, and on how many splits of the data each was run.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from lnrnn.comparison.statistics import CLAIM_PAIRS, alpha_of


class Look(NamedTuple):
    """What a result went over.

    Args:
        seeds: How many seeds.
        splits: On how many splits each of them.
    """

    seeds: int
    splits: int = 1

    def within(self, other: "Look") -> bool:
        """Return whether another result went over as much as this one, or more."""
        return self.seeds <= other.seeds and self.splits <= other.splits

    def __str__(self) -> str:
        on = f" on {self.splits} splits" if self.splits > 1 else ""
        return f"{self.seeds} seeds{on}"


def as_look(entry: Any) -> Look:
    """Return the look that an entry of ``primary.looks`` in ``compare.json`` stands for.

    Args:
        entry: A number of seeds; or with several splits, that and their number.

    Raises:
        TypeError: If it is neither.
    """
    numbers = entry if isinstance(entry, (list, tuple)) else [entry]
    if not 1 <= len(numbers) <= 2 or any(type(number) is not int for number in numbers):
        raise TypeError(f"a look is a number of seeds, or [seeds, splits], got {entry!r}")
    return Look(*numbers)


def as_entry(look: Look) -> int | list[int]:
    """Return what ``as_look`` reads."""
    return look.seeds if look.splits == 1 else [*look]


def looks_with(before: Sequence[int | Sequence[int]], now: Look) -> list[Look]:
    """Return the looks at a comparison, this one the last.

    A look over no more seeds and splits than an earlier one is the same look. One with too few
    seeds for any claim spends nothing, and is none.

    Args:
        before: The earlier looks, as ``as_look`` reads them.
        now: This one.

    Example:
        >>> [[*map(str, looks_with(before, Look(10)))] for before in ([7], [10], [3])]
        [['7 seeds', '10 seeds'], ['10 seeds'], ['10 seeds']]
    """
    looks: list[Look] = []
    for look in [*map(as_look, before), now]:
        if look.seeds >= CLAIM_PAIRS and not any(map(look.within, looks)):
            looks.append(look)
    return looks or [now]


def check_looks(looks: Sequence[Look]) -> list[str]:
    """Say what it costs that seeds or splits were added to a comparison with a known result."""
    if len(looks) < 2:
        return []
    seen = " and ".join(map(str, looks[:-1]))
    alpha = alpha_of(len(looks))
    added = "seeds" if all(look.splits == 1 for look in looks) else "seeds or splits"
    return [
        f"{added} were added after the result over {seen} had been seen: this is look "
        f"{len(looks)} at one comparison, so a claim takes a Holm p below {alpha:.2g}, and its "
        f"intervals are those at {100 * (1 - alpha):.4g} %"
    ]
