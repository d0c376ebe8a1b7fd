"""How a data set's values became a model's inputs: what new data need to be treated alike.

Data say it, a run keeps it in ``model.json``, and a trained model is used by it.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from lnrnn.checks import is_whole

SIZES = ("num_features", "num_tokens", "num_classes", "length", "max_length", "window", "horizon")
SWITCHES = ("row_a_step", "per_step", "masked")
KINDS = ("classification", "tagging", "language_modeling", "regression")


@dataclass(frozen=True)
class Scaling:
    """What features were centered and scaled by: training statistics, one number a feature.

    Args:
        mean: Subtracted.
        std: Divided by afterwards; nowhere 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Table:
    """How the tables were read that a model has learned from; others of the kind are read alike.

    Args:
        separator: What separates the columns of csv; None: what the header has.
        encoding: Of csv and json; None: UTF-8, or what a byte order mark tells.
        group_by: A row a step: the column that tells the series apart; None: every file is one.
        order_by: A row a step: the column that puts the steps of a series in order; None: the order
            of the rows.
        stride: A row a step: steps from one window to the next.
    """

    separator: str | None = None
    encoding: str | None = None
    group_by: str | None = None
    order_by: str | None = None
    stride: int = 1


@dataclass(frozen=True)
class Preparation:
    """What a model reads and answers.

    Args:
        kind: ``classification``, ``tagging``, ``language_modeling`` or ``regression``.
        num_features: Values a step; None for symbols.
        num_tokens: Different symbols, the padding symbol (the last one) included; None for
            features.
        num_classes: Different classes; None for numbers.
        length: Steps of every sequence; None if they vary.
        symbols: ``bytes`` (a text's, in UTF-8) or ``numbers``; None for features.
        labels: The classes' names, in their order; None where they are numbers.
        scaling: What features were centered and scaled by; None if they were not.
        max_length: Steps kept of each sequence; None keeps all.
        window: Steps that were trained on at once; None where sequences were taken whole.
        columns: Columns of a table that hold the inputs; empty where data are no table.
        row_a_step: Whether a row of that table is a step, and not a sequence.
        horizon: Numbers to predict of each sequence; None for one.
        per_step: Whether every step has an answer of its own.
        target_scale: Mean and standard deviation by which numbers to predict were centered and
            scaled.
        masked: Whether values may be missing: the second half of the features says which are.
        table: How the tables were read; None where data are none, or nobody has kept it.
    """

    kind: str
    num_features: int | None
    num_tokens: int | None
    num_classes: int | None
    length: int | None
    symbols: str | None = None
    labels: tuple[str, ...] | None = None
    scaling: Scaling | None = None
    max_length: int | None = None
    window: int | None = None
    columns: tuple[str, ...] = ()
    row_a_step: bool = False
    horizon: int | None = None
    per_step: bool = False
    target_scale: tuple[float, float] = (0.0, 1.0)
    masked: bool = False
    table: Table | None = None

    @property
    def given_features(self) -> int | None:
        """Values a step that are given: half of the features, where the others say what misses."""
        if self.num_features is None or not self.masked:
            return self.num_features
        return self.num_features // 2

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes' names, or their numbers as text."""
        return self.labels or tuple(str(number) for number in range(self.num_classes or 0))


def to_plain(preparation: Preparation) -> dict[str, Any]:
    """Return a preparation as JSON can hold it."""
    return asdict(preparation)


def from_plain(content: Any) -> Preparation:
    """Return what :func:`to_plain` has made, checked entry by entry: it may be anybody's.

    Raises:
        ValueError: Naming the entry that is not what a run writes.
    """
    if not isinstance(content, dict):
        raise ValueError(f"must hold a table, got {type(content).__name__}")
    sizes = {key: _size(key, content.get(key)) for key in SIZES}
    if content.get("kind") not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {content.get('kind')!r}")
    if content.get("symbols") not in (None, "bytes", "numbers"):
        raise ValueError(f"symbols must be bytes or numbers, got {content['symbols']!r}")
    if (sizes["num_features"] is None) == (sizes["num_tokens"] is None):
        raise ValueError("exactly one of num_features and num_tokens must be a number")
    switches = {key: _switch(key, content.get(key, False)) for key in SWITCHES}
    given = sizes["num_features"]
    if given is not None and switches["masked"]:
        given //= 2
    return Preparation(
        kind=content["kind"],
        symbols=content.get("symbols"),
        labels=_names("labels", content.get("labels"), sizes["num_classes"]),
        scaling=_scaling(content.get("scaling"), given),
        columns=_names("columns", content.get("columns") or (), None) or (),
        target_scale=_target_scale(content.get("target_scale", (0.0, 1.0))),
        table=table_from_plain(content.get("table")),
        **sizes,
        **switches,
    )


def table_from_plain(content: Any) -> Table | None:
    """Return how tables were read, of plain values, checked entry by entry.

    Raises:
        ValueError: Naming the entry that is not what a run writes.
    """
    if content is None:
        return None
    if not isinstance(content, dict):
        raise ValueError(f"table must be null or hold a table, got {type(content).__name__}")
    texts = ("separator", "encoding", "group_by", "order_by")
    for key in texts:
        if not isinstance(content.get(key), str | None):
            raise ValueError(f"table.{key} must be null or a text, got {content[key]!r}")
    stride = content.get("stride", 1)
    if not is_whole(stride, least=1):
        raise ValueError(f"table.stride must be a whole number from 1 up, got {stride!r}")
    return Table(**{key: content.get(key) for key in texts}, stride=stride)


def _size(key: str, value: Any) -> int | None:
    if value is None or is_whole(value, least=1):
        return value
    raise ValueError(f"{key} must be null or a whole number from 1 up, got {value!r}")


def _switch(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(f"{key} must be true or false, got {value!r}")


def _target_scale(value: Any) -> tuple[float, float]:
    parts = list(value) if isinstance(value, list | tuple) else []
    if len(parts) != 2 or not all(map(_is_finite, parts)) or parts[1] == 0:
        raise ValueError(
            "target_scale must be a mean and a std that is not 0, both finite, got "
            f"{str(value)[:80]}"
        )
    return float(parts[0]), float(parts[1])


def _is_finite(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # a whole number beyond float64
        return False


def _names(key: str, value: Any, count: int | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{key} must be null or a list of texts, got {value!r}")
    if count is not None and len(value) != count:
        raise ValueError(f"{key} must be {count} names, got {len(value)}")
    return tuple(value)


def _scaling(value: Any, features: int | None) -> Scaling | None:
    if value is None:
        return None
    parts: list[list[Any]] = []
    for key in ("mean", "std"):
        part = value.get(key) if isinstance(value, dict) else None
        numbers = isinstance(part, list) and all(map(_is_finite, part))
        if not isinstance(part, list) or not numbers or len(part) != features:
            raise ValueError(
                f"scaling must have a mean and std of {features} numbers each, all finite"
            )
        parts.append(part)
    if 0 in parts[1]:
        raise ValueError("scaling must have a std that is nowhere 0")
    mean, std = (tuple(float(number) for number in part) for part in parts)
    return Scaling(mean, std)
