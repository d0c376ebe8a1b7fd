"""Hydra's argument parser, with our words, and on Python 3.14 and later.

Hydra answers a mistyped flag with a usage that lists its own, of which most are not for us.

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
MISUSED = 2  # exit code


class Parser(argparse.ArgumentParser):
    """A parser that takes help that is written when it is shown, and refuses in one line."""

    def error(self, message: str) -> NoReturn:
        """Leave, saying what is wrong with the flags."""
        flag = message.rpartition(": ")[2].partition("=")[0]
        close = get_close_matches(flag, FLAGS, n=1)
        meant = f" Did you mean {close[0]}?" if close else ""
        said = f"error: {message}.{meant} Settings are written key=value, such as model=lstm"
        print(said, file=sys.stderr)
        sys.exit(MISUSED)

    def _check_help(self, action: argparse.Action) -> None:
        if isinstance(action.help, str):
            super()._check_help(action)  # pyright: ignore[reportAttributeAccessIssue]


def prepare() -> None:
    """Let Hydra build this parser instead of its own."""
    names = {**vars(argparse), "ArgumentParser": Parser}
    utils.argparse = SimpleNamespace(**names)  # pyright: ignore
