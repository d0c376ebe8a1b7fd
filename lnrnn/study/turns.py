"""Measuring several things in turns, so that what disturbs the machine disturbs them all alike."""

from collections.abc import Callable, Mapping
from typing import TypeVar

Value = TypeVar("Value")


def interleave(
    measures: Mapping[str, Callable[[], Value]],
    rounds: int,
    *,
    warm_up: int = 1,
    sits_out: Callable[[str, int], bool] = lambda name, number: False,
    over: Callable[[int], bool] = lambda done: False,
) -> dict[str, list[Value | None]]:
    """Measure everything once a round, in an order that changes from round to round.

    Args:
        measures: What is measured, by name; each call returns one value.
        rounds: Rounds that count, at most.
        warm_up: Rounds before them, whose values are dropped.
        sits_out: Whether a name leaves out a round; rounds that count begin at 0, those before
            them have negative numbers.
        over: Whether to end after so many rounds that count; first asked after the warm-up.

    Returns:
        Each name's values, one a round, None where it sat the round out.
    """
    names = list(measures)
    found: dict[str, list[Value | None]] = {name: [] for name in names}
    for number in range(warm_up + rounds):
        counted = number - warm_up
        if counted >= 0 and over(counted):
            break
        for index in order(number, len(names)):
            name = names[index]
            value = None if sits_out(name, counted) else measures[name]()
            if counted >= 0:
                found[name].append(value)
    return found


def order(number: int, count: int) -> list[int]:
    """Return which comes when in a round.

    Every round begins with another one than the round before, and every other turn goes through
    them backwards, so that none always follows the same one.

    Example:
        >>> [order(number, 3) for number in range(4)]
        [[0, 1, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    """
    turn, first = divmod(number, count)
    turned = [(first + k) % count for k in range(count)]
    return [count - 1 - index for index in turned] if turn % 2 else turned
