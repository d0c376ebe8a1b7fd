"""Hydra's argument parser on Python 3.14 and later, for which Hydra 1.3 was not written.

There, argparse looks at every help text when an argument is added. One of Hydra's is no text: it
writes itself when it is shown. argparse then says "badly formed help string", and no command of
Hydra's starts (facebookresearch/hydra, issue 3121).
"""

import argparse
from types import SimpleNamespace

from hydra._internal import utils


class Parser(argparse.ArgumentParser):
    """A parser that takes help that is written when it is shown."""

    def _check_help(self, action: argparse.Action) -> None:
        if isinstance(action.help, str):
            super()._check_help(action)  # pyright: ignore[reportAttributeAccessIssue]


def prepare() -> None:
    """Let Hydra build its parser where it could not."""
    if hasattr(argparse.ArgumentParser, "_check_help"):  # since Python 3.14
        names = {**vars(argparse), "ArgumentParser": Parser}
        utils.argparse = SimpleNamespace(**names)  # pyright: ignore
