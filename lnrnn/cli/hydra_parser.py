"""Hydra's argument parser, in our words, and on Python 3.14 and later.

Hydra answers a mistyped flag with a list of its own flags, most of which do not apply here.

Hydra 1.3 was not written for Python 3.14. There, argparse looks at every help text when an argument
is added. One of Hydra's is no text: it writes itself when it is shown. argparse then says "badly
formed help string", and no command of Hydra's starts (facebookresearch/hydra, issue 3121).
"""

import argparse
import sys
from difflib import get_close_matches
from types import SimpleNamespace
from typing import NoReturn

from hydra._internal import utils

FLAGS = ("--help", "--multirun", "--cfg", "--resolve", "--info", "--version")
SURELY = 0.8  # how alike difflib finds flags of which one is the other, mistyped
MISUSED = 2  # exit code


class Parser(argparse.ArgumentParser):
    """A parser that takes help that is written when it is shown, and refuses in one line."""

    def error(self, message: str) -> NoReturn:
        """Leave, saying what is wrong with the flags."""
        words = message.removeprefix("unrecognized arguments: ")
        advice = _advice(words.split()[0]) if words != message else ""
        print(f"error: {message}{advice}", file=sys.stderr)
        sys.exit(MISUSED)

    def _check_help(self, action: argparse.Action) -> None:
        if isinstance(action.help, str):
            super()._check_help(action)  # pyright: ignore[reportAttributeAccessIssue]


def _advice(word: str) -> str:
    """Return what to do with an argument that is not known."""
    if not word.startswith("-"):
        return ". Settings stand together: write flags before or after all of them"
    close = get_close_matches(word.partition("=")[0], FLAGS, n=1, cutoff=SURELY)
    meant = f". Did you mean {close[0]}?" if close else "."
    return f"{meant} Settings have no dashes: model=lstm"


def prepare() -> None:
    """Let Hydra build this parser instead of its own."""
    names = {**vars(argparse), "ArgumentParser": Parser}
    utils.argparse = SimpleNamespace(**names)  # pyright: ignore
