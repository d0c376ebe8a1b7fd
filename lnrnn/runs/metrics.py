"""``metrics.jsonl``: one value a line, read strictly. This file alone reads it."""

from pathlib import Path
from typing import NamedTuple

from lnrnn.runs.record import RecordError, is_number, parse_json, read_text, to_float


class Entry(NamedTuple):
    """One line.

    Args:
        step: Optimizer steps made when it was measured.
        name: What was measured, such as ``val/loss``.
        value: What it was; NaN where it was not finite.
    """

    step: int
    name: str
    value: float


def read_metrics(path: Path, *, whole: bool = True) -> list[Entry]:
    """Return the lines of a ``metrics.jsonl``.

    Args:
        path: The file.
        whole: Whether its last line must be whole too; that of a run that goes on, or was killed,
            may be cut short, and is then left out.

    Raises:
        RecordError: If it is not there, or a line is not what a run writes. The message names the
            file and the line.
    """
    return read_entries(read_text(path), path, whole=whole)


def read_entries(text: str | bytes, path: Path, *, whole: bool = True) -> list[Entry]:
    """Return the lines of a text that ``path`` holds or begins with, as :func:`read_metrics`."""
    try:
        lines = (text.decode() if isinstance(text, bytes) else text).split("\n")
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: cannot be read: {error}") from None
    # Every whole line ends in a newline, so what follows the last one is empty or was cut short.
    torn = lines.pop()
    if torn and whole:
        place = f"{path}, line {len(lines) + 1}"
        raise RecordError(f"{place}: the last line is cut short: {torn[:60]!r}")
    return [
        parse_entry(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)
    ]


def parse_entry(line: str | bytes, place: str) -> Entry:
    """Return what one line holds.

    Raises:
        RecordError: If it is not a line that a run writes; the message begins with ``place``.
    """
    entry = parse_json(line, place)
    if not isinstance(entry, dict):
        raise RecordError(f"{place}: must hold a JSON object, got {line[:60]!r}")
    step, name = entry.get("step"), entry.get("name")
    known = isinstance(name, str) and isinstance(step, int) and not isinstance(step, bool)
    if not known or "value" not in entry or not is_number(entry["value"]):
        rule = 'must hold an integer "step", a text "name" and a number "value"'
        raise RecordError(f"{place}: {rule}, got {line[:80]!r}")
    assert isinstance(step, int)
    assert isinstance(name, str)
    return Entry(step, name, to_float(entry["value"]))
