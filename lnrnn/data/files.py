"""Finding the user's own files."""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob
from pathlib import Path


def find_files(patterns: str | Sequence[str], key: str) -> list[Path]:
    """Return the files that paths or globs name, each once, sorted.

    Args:
        patterns: A path or glob, or several; relative to where the command was started.
        key: The configuration's name for them, for messages.

    Raises:
        FileNotFoundError: If one of them names no file.
        ValueError: If a file is empty, or nothing was given.
    """
    found: set[Path] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        expanded = str(Path(pattern).expanduser())
        # A file's own name may hold brackets, so a path that exists is taken as it stands.
        matches = [expanded] if Path(expanded).exists() else glob(expanded, recursive=True)
        files = [Path(match) for match in matches if Path(match).is_file()]
        if not files:
            raise FileNotFoundError(
                f"data.{key} must name files, but nothing matches {pattern} from {Path.cwd()}"
                + (f": that is a folder, try '{pattern}/*'" if Path(expanded).is_dir() else "")
            )
        found.update(files)
    if not found:
        raise ValueError(f"data.{key} names no file: give a path, a glob or a list of them")
    for file in found:
        if file.stat().st_size == 0:
            raise ValueError(f"data.{key} has an empty file: {file}")
    return sorted(found)


def find_splits(
    files: str | Sequence[str],
    validation_files: str | Sequence[str] | None,
    test_files: str | Sequence[str] | None,
) -> dict[str, list[Path]]:
    """Return the files of each split that was given; no file may serve two splits.

    Raises:
        ValueError: If a file is in two splits: what is tested on must not be trained on.
    """
    given = {"files": files, "validation_files": validation_files, "test_files": test_files}
    found = {key: find_files(value, key) for key, value in given.items() if value is not None}
    owner: dict[Path, str] = {}
    for key, paths in found.items():
        for path in paths:
            if path.resolve() in owner:
                raise ValueError(
                    f"a file belongs to one split, but {path} is in data.{owner[path.resolve()]} "
                    f"and data.{key}"
                )
            owner[path.resolve()] = key
    names = {"files": "train", "validation_files": "validation", "test_files": "test"}
    return {names[key]: paths for key, paths in found.items()}
