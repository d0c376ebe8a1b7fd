"""What the comparisons beside a run say of it: numbers and names, for a model's card."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lnrnn.runs.files import open_own
from lnrnn.runs.record import RecordError, is_number, parse_json, to_float

MOST = 3  # comparisons that are told of, those over the most seeds first
LARGEST = 32 << 20  # bytes of a compare.json that are read; a thousand runs have 1 MiB


def comparisons_of(run: Path, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is told of a run where it was compared with others.

    Args:
        run: Its folder, ``.../<data>/<arm>/seed0``; comparisons are in ``.../<data>/compare``.
        metrics: What its weights have in the test. A comparison that knows another number is of
            other weights, and left out.
    """
    run, found = run.absolute(), []
    for path in sorted(run.parent.parent.glob("compare/*/compare.json")):
        try:
            with open_own(path) as file:
                content = file.read(LARGEST + 1)
            if len(content) > LARGEST:
                raise ValueError(f"it has more than {LARGEST >> 20} MiB")
            told = _told(parse_json(content, path), run, metrics)
            if told is not None:
                lines_of(told)  # what could not be told is not handed out
        except (OSError, RecordError, LookupError, TypeError, ValueError) as error:
            warnings.warn(f"{path} is skipped: {type(error).__name__}: {error}", stacklevel=2)
            continue
        if told is not None:
            found.append({"comparison": path.parent.name, **told})
    found.sort(key=lambda told: -max(arm["runs"] for arm in told["arms"]))
    return found[:MOST]


def _told(content: Any, run: Path, metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a comparison says; None where it has no such run."""
    metric = _name(content["metric"])
    own = metrics.get(f"test/{metric}")
    arms = [
        arm["name"]
        for arm in content["arms"]
        for entry in arm["runs"]
        if Path(entry["folder"]).parts[-3:] == run.parts[-3:] and entry["value"] == own
    ]
    if own is None or not arms:
        return None
    return {
        "metric": metric,
        "arm": arms[0],
        "arms": [
            {
                "name": arm["name"],
                "runs": sum(entry["value"] is not None for entry in arm["runs"]),
                "mean": arm["mean"],
                "sd": arm["sd"],
            }
            for arm in content["arms"]
        ],
        "differences": [
            {
                "arm": pair["arm"],
                "baseline": pair["baseline"],
                "pairs": pair["n"],
                "difference": pair["difference"],
                "level": pair["level"],
                "interval": list(pair["interval"] or []),
                "holm_p": pair["p_holm"],
            }
            for pair in content["pairs"]
            if pair["difference"] is not None
        ],
    }


def lines_of(told: Any) -> list[str]:
    """Return a comparison as lines of prose, of texts and numbers alone.

    Args:
        told: From :func:`comparisons_of`, or read from a model that was handed out.

    Raises:
        ValueError: If it is something else.
    """
    try:
        lines = [
            f"{_name(told['metric'])} in the test, over seeds; this model is a run of "
            f"{_name(told['arm'])}:"
        ]
        for arm in told["arms"]:
            spread = f" ± {_number(arm['sd'])} (sd)" if arm["sd"] is not None else ""
            name = _name(arm["name"])
            if arm["mean"] is not None:
                lines.append(f"{name}: {_number(arm['mean'])}{spread}, {_number(arm['runs'])} runs")
        for pair in told["differences"]:
            low, high = map(_number, pair["interval"] or (None, None))
            lines.append(
                f"{_name(pair['arm'])} minus {_name(pair['baseline'])}: "
                f"{_number(pair['difference'])}, "
                f"{100 * float(_number(pair['level'])):g} % interval {low} to {high}, "
                f"Holm p {_number(pair['holm_p'])}, {_number(pair['pairs'])} pairs"
            )
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"no comparison: {error}") from error
    return lines


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"no name: {str(value)[:60]}")
    return value


def _number(value: Any) -> str:
    if not is_number(value):
        raise ValueError(f"no number: {value!r}")
    return f"{to_float(value):.4g}"
