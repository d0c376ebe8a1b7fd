"""Finding the user's own files."""

from __future__ import annotations

from collections.abc import Sequence
from glob import escape, glob
from pathlib import Path


def find_files(patterns: str | Sequence[str], key: str) -> list[Path]:
    """Return the files that paths or globs name, each once, sorted.

    Args:
        patterns: A path or glob, or several; relative to where the command was started.
        key: The configuration's name for them, for messages.

    Raises:
        TypeError: If they are not paths.
        FileNotFoundError: If one of them names no file.
        ValueError: If a file is empty, or nothing was given.
    """
    found: set[Path] = set()
    for pattern in _listed(patterns, key):
        expanded = str(Path(pattern).expanduser())
        # A file's own name may hold brackets, so a path that exists is taken as it stands.
        exists = Path(expanded).exists()
        matches = [expanded] if exists else glob(_expanded_pattern(pattern), recursive=True)
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


def _expanded_pattern(pattern: str) -> str:
    """Put a home folder in the place of ``~``; in its own name nothing is a pattern."""
    first, *rest = Path(pattern).parts or (pattern,)
    if not first.startswith("~"):
        return pattern
    return str(Path(escape(str(Path(first).expanduser())), *rest))


def _listed(patterns: object, key: str) -> list[str]:
    """Return one pattern or several as a list, whatever a configuration holds."""
    if isinstance(patterns, Sequence) and not isinstance(patterns, str):
        listed = [*patterns]
    else:
        listed = [patterns]
    if not all(isinstance(pattern, (str, Path)) for pattern in listed):
        raise TypeError(f"data.{key} must be a path, a glob or a list of them, got {patterns!r}")
    return [str(pattern) for pattern in listed]


def find_splits(
    files: str | Sequence[str],
    validation_files: str | Sequence[str] | None,
    test_files: str | Sequence[str] | None,
) -> dict[str, list[Path]]:
    """Return the files of each split that was given; no file may serve two splits.

    Raises:
        TypeError: If ``files`` is None, or something given names no paths.
        ValueError: If a file is in two splits: what is tested on must not be trained on.
    """
    found = {"files": find_files(files, "files")}
    for key, patterns in (("validation_files", validation_files), ("test_files", test_files)):
        if patterns is not None:
            found[key] = find_files(patterns, key)
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
