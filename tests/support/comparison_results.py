"""What a comparison has found, without what takes another time on every machine."""

import json
from pathlib import Path
from typing import Any

TIMES = {"seconds_per_step", "seconds_per_save", "seconds", "command"}


def result_in(place: Path) -> Any:
    (path,) = list(place.glob("runs/japanese_vowels/compare/*/compare.json"))
    assert not (path.parent / "run.lock").exists()
    return without_times(json.loads(path.read_text()))


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value
