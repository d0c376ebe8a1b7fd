"""``run.json``: what ran, on what, and how it ended. This file alone writes and reads it.

A key that this version does not know, written by a newer one, is kept as it is. A key that an older
version did not write is None, or empty.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from lnrnn.checks import is_whole, stays_below
from lnrnn.runs.files import open_own, replace_text

STATUSES = ("finished", "running", "failed", "interrupted")
# Written once there is something to say; the others are null until then.
_WHEN_KNOWN = (
    *("steps", "seconds_per_save", "metrics", "test_correct", "tested", "best", "diagnosis"),
    *("identity", "source", "split", "init_from"),
    *("error", "diverged", "signal", "exit_code"),
)
HEX = re.compile("[0-9a-f]*")
DIVERGED = "NonFiniteError: "  # what the error of a diverged run begins with in older records


class RecordError(ValueError):
    """A run's files are missing, cut short or not what a run writes."""


@dataclass(frozen=True)
class RunRecord:
    """The content of ``run.json``; what is not known is None, or empty.

    Args:
        status: One of ``STATUSES``.
        data: The data set's name.
        model: The model's name.
        name: What the configuration calls the run.
        seed: What the run's random numbers are derived from.
        overrides: What was changed on the command line.
        metric: The metric that counts; its test value is ``metrics["test/" + metric]``.
        higher_is_better: The metric's direction.
        parameters: How many the model has.
        seconds_per_step: Median seconds of an optimizer step.
        processes: How many trained.
        versions: Library name to version.
        commit: The commit of the code; ``+`` at its end where files differed from it.
        machine: What the run was computed on.
        data_fingerprint: A hash of the data.
        data_order: A hash of the first epoch's batches.
        dropout_seed: Where the dropout stream starts.
        initial_parameters: Parameter name to a hash of its initial value.
        split_sizes: Name of a split to how many sequences, or windows of a text, it has.
        split: What chose the test: ``key``, the argument of the data that names the ``seed``, and
            whether another seed makes ``fresh`` data; empty where the test is fixed.
        began_from: The checkpoint of another folder that the run began from.
        init_from: Which weights it started with: what was ``given``, the ``file`` and its
            ``sha256``, the names that were ``taken`` and those in the file that were ``left``.
        resumed: An entry for every place where it was resumed.
        steps: Optimizer steps made.
        seconds_per_save: Median seconds of a checkpoint.
        metrics: Final test values by name; NaN where one was not finite.
        test_correct: Which test examples a classifier got right, as ``pack_correct`` writes it.
        tested: Which weights were tested: ``best`` or ``last``; older versions knew the last only.
        best: The best validation: ``step``, ``metric`` and ``value``.
        diagnosis: What the health monitor saw, in words.
        error: What ended a run that failed or was interrupted.
        diverged: Whether it failed because a number became NaN or infinity.
        signal: The signal that interrupted it.
        exit_code: What its process returned then.
        source: A hash of the code that :func:`lnrnn.training.fit` was given as a class.
        identity: What loggers know the run by, from the first start with one on.
        unknown: Entries that this version does not know.
    """

    status: str | None = None
    data: str | None = None
    model: str | None = None
    name: str | None = None
    seed: int | None = None
    overrides: list[str] = field(default_factory=list)
    metric: str | None = None
    higher_is_better: bool | None = None
    parameters: int | None = None
    seconds_per_step: float | None = None
    processes: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    data_fingerprint: str | None = None
    data_order: str | None = None
    dropout_seed: int | None = None
    initial_parameters: dict[str, str] = field(default_factory=dict)
    split_sizes: dict[str, int] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    began_from: str | None = None
    resumed: list[dict[str, Any]] = field(default_factory=list)
    steps: int | None = None
    seconds_per_save: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    test_correct: dict[str, Any] = field(default_factory=dict)
    tested: str | None = None
    best: dict[str, Any] = field(default_factory=dict)
    diagnosis: str | None = None
    error: str | None = None
    diverged: bool | None = None
    signal: str | None = None
    exit_code: int | None = None
    identity: str | None = None
    source: str | None = None
    init_from: dict[str, Any] = field(default_factory=dict)
    unknown: dict[str, Any] = field(default_factory=dict)

    @property
    def has_diverged(self) -> bool:
        """Whether a number became NaN or infinity; it would again at the same step."""
        if self.diverged is None:  # written before there was such a key
            return self.status == "failed" and (self.error or "").startswith(DIVERGED)
        return self.diverged


def read_record(path: Path) -> RunRecord:
    """Read a ``run.json``.

    Raises:
        RecordError: If it is not there, is not a JSON object, or an entry has the wrong type. The
            message names the file and the entry.
    """
    content = _parse(path)
    known = {entry.name: entry for entry in fields(RunRecord) if entry.name != "unknown"}
    values = {
        key: _checked(path, key, value)
        for key, value in content.items()
        if key in known and value is not None
    }
    unknown = {key: value for key, value in content.items() if key not in known}
    return RunRecord(**values, unknown=unknown)


def write_record(path: Path, record: RunRecord) -> None:
    """Replace a ``run.json`` in one step, so that a reader never sees half of it."""
    content = asdict(record)
    unknown = content.pop("unknown")
    kept = {
        key: value
        for key, value in content.items()
        if key not in _WHEN_KNOWN or value not in (None, {})
    }
    replace_text(path, json.dumps({**kept, **unknown}, indent=2, allow_nan=True) + "\n")


def read_text(path: Path) -> str:
    """Return the text of one of a run's files.

    Raises:
        RecordError: If it is not there or cannot be read.
    """
    try:
        with open_own(path) as file:
            return file.read().decode()
    except FileNotFoundError:
        raise RecordError(f"{path}: a run's folder needs this file, which is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: cannot be read: {error}") from error


def parse_json(text: str | bytes, place: str | Path) -> Any:
    """Return what a JSON text holds.

    Args:
        text: The content of a file, or of a line.
        place: Where it is from, for messages; a path's lines are counted.

    Raises:
        RecordError: If it is not JSON, or nothing that could be written again; the message begins
            with ``place``.
    """
    try:
        content = json.loads(text)
        json.dumps(content, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except json.JSONDecodeError as error:
        if isinstance(place, Path):
            reason = f"is not valid JSON ({error.msg}); was it cut short?"
            raise RecordError(f"{place}, line {error.lineno}: {reason}") from None
        raise RecordError(f"{place}: is not valid JSON ({error.msg}): {text[:60]!r}") from None
    except RecursionError:
        raise RecordError(f"{place}: is nested too deeply") from None
    except ValueError as error:  # not UTF-8, or a number of thousands of digits
        raise RecordError(f"{place}: cannot be read: {error}") from None
    return content


def is_number(value: object) -> bool:
    """Return whether a value read from JSON is a number; null, written for NaN, is one."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def to_float(value: object) -> float:
    """Return a value read from JSON as a float, null as NaN."""
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # JSON's integers have no bounds
        return math.inf if isinstance(value, int) and value > 0 else -math.inf


def _parse(path: Path) -> dict[str, Any]:
    content = parse_json(read_text(path), path)
    if not isinstance(content, dict):
        raise RecordError(f"{path}, line 1: must hold a JSON object, got {type(content).__name__}")
    return content


_TEXTS = ("status", "data", "model", "name", "metric", "commit", "data_fingerprint", "data_order")
_KINDS: dict[str, type] = {
    **dict.fromkeys(
        (*_TEXTS, "began_from", "tested", "diagnosis", "error", "identity", "signal", "source"), str
    ),
    **dict.fromkeys(("seed", "parameters", "processes", "dropout_seed", "steps"), int),
    **dict.fromkeys(("versions", "machine", "initial_parameters", "metrics", "split_sizes"), dict),
    **dict.fromkeys(("test_correct", "best", "split", "init_from"), dict),
    **dict.fromkeys(("overrides", "resumed"), list),
    **dict.fromkeys(("higher_is_better", "diverged"), bool),
    "exit_code": int,
}
_SPLITS: tuple[dict[str, type], ...] = ({}, {"key": str, "seed": int, "fresh": bool})
# What lists hold, and dictionaries by their names.
_INNER: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("overrides", "versions", "initial_parameters"), (str,)),
    "resumed": (dict,),
    "split_sizes": (int,),
    "init_from": (str, list),
    **dict.fromkeys(("machine", "best"), (str, int, float, type(None))),
}


def _checked(path: Path, key: str, value: Any) -> Any:
    """Return an entry that is there, if it has the type that a run writes."""
    if key in ("seconds_per_step", "seconds_per_save"):
        if not is_number(value):
            raise RecordError(f"{path}: {key} must be a number, got {value!r}")
        return value
    kind = _KINDS[key]
    # bool is an int to Python, and true is not a seed.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise RecordError(f"{path}: the key {key!r} must be {kind.__name__}, got {value!r}")
    if key in _INNER:
        entries = value.values() if isinstance(value, dict) else cast(list, value)
        if not all(isinstance(entry, _INNER[key]) for entry in entries):
            rule = " or ".join(kind.__name__ for kind in _INNER[key])
            raise RecordError(f"{path}: what {key!r} holds must be {rule}, got {value!r}")
    if key in ("data", "model") and not stays_below(str(value)):
        rule = "must be a name, of which paths are made"
        raise RecordError(f"{path}: {key} {rule}, and not one that leads elsewhere, got {value!r}")
    if key == "test_correct":
        _check_packed(path, cast(dict, value))
    if key == "split" and {n: type(part) for n, part in cast(dict, value).items()} not in _SPLITS:
        raise RecordError(f"{path}: split must hold key, seed and fresh, got {str(value)[:60]}")
    if key == "identity" and not re.fullmatch(r"[0-9a-f]{32}", str(value)):
        raise RecordError(f"{path}: identity must be 32 hexadecimal digits, got {value!r}")
    if key == "metrics":
        return {name: _metric(path, name, number) for name, number in cast(dict, value).items()}
    if key == "status" and value not in STATUSES:
        raise RecordError(f"{path}: status must be one of {', '.join(STATUSES)}, got {value!r}")
    return value


def pack_correct(correct: Sequence[bool]) -> dict[str, Any]:
    """Return answers, right or wrong, as ``run.json`` holds them: how many, and bits as digits.

    Example:
        >>> pack_correct([True, False, True, True, False])
        {'examples': 5, 'hex': '0d'}
    """
    octets = (correct[start : start + 8] for start in range(0, len(correct), 8))
    packed = bytes(sum(bit << place for place, bit in enumerate(octet)) for octet in octets)
    return {"examples": len(correct), "hex": packed.hex()}


def unpack_correct(packed: Mapping[str, Any]) -> list[bool]:
    """Return the answers that ``pack_correct`` was given; none if nothing was recorded."""
    octets = bytes.fromhex(packed.get("hex", ""))
    bits = [bool(octet >> place & 1) for octet in octets for place in range(8)]
    return bits[: packed.get("examples", 0)]


def _check_packed(path: Path, packed: Mapping[str, Any]) -> None:
    count, digits = packed.get("examples"), packed.get("hex")
    if not packed:
        return
    if not (
        is_whole(count, least=0)
        and isinstance(digits, str)
        and HEX.fullmatch(digits)
        and len(digits) == 2 * -(-count // 8)
    ):
        rule = "must hold a number of examples and two hexadecimal digits for every eight of them"
        raise RecordError(f"{path}: test_correct {rule}, got {str(packed)[:60]}")


def _metric(path: Path, name: str, value: Any) -> float:
    if not is_number(value):
        raise RecordError(f"{path}: metric {name!r} must be a number, got {value!r}")
    return to_float(value)
