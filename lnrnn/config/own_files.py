"""The user's own configuration files: a folder ``conf`` in the current one, beside a script.

Its files are looked for after ours, so that none takes the place of one of ours, and only where one
is named. What they may say is what any file may say.
"""

from collections.abc import Iterable
from pathlib import Path

from lnrnn.config import CONF
from lnrnn.config.errors import ConfigurationError

FOLDER = Path("conf")
SEARCHPATH = "hydra.searchpath"


def with_own_folder(overrides: Iterable[str]) -> list[str]:
    """Return overrides by which Hydra finds the user's own files, too.

    Where the command line names folders itself, these alone are looked through.
    """
    words = list(overrides)
    named = any(text.split("=", 1)[0].lstrip("+~") == SEARCHPATH for text in words)
    return words if named or not has_own_folder() else [*words, f"{SEARCHPATH}=[file://{FOLDER}]"]


def has_own_folder() -> bool:
    """Return whether there is a folder of own files, with one of the folders that ours has."""
    if not FOLDER.is_dir() or FOLDER.samefile(CONF):
        return False
    groups = (path.name for path in CONF.iterdir() if path.is_dir())
    return any((FOLDER / group).is_dir() for group in groups)


def own_files(chosen: Iterable[str | None]) -> tuple[Path, ...]:
    """Return which of the chosen files are the user's own.

    Args:
        chosen: Paths of configurations as Hydra has them, ``model/lstm``.

    Raises:
        ConfigurationError: If one has the name of one of ours, which is taken, and says other
            things.
    """
    found = []
    for name in filter(None, chosen):
        own, ours = FOLDER / f"{name}.yaml", CONF / f"{name}.yaml"
        if "/" not in name or not own.is_file():
            continue
        if not ours.is_file():
            found.append(own)
        elif own.read_bytes() != ours.read_bytes():
            raise ConfigurationError(
                f"{own} has the name of a file of lnrnn, which would be taken instead: give it "
                "another name. To leave the folder out: 'hydra.searchpath=[]'"
            )
    return tuple(found)
