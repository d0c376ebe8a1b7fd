"""Hydra's parser is built where argparse looks at every help text, as since Python 3.14."""

import argparse
from typing import Any

import pytest
from hydra._internal import utils

from lnrnn.cli import hydra_parser


@pytest.fixture
def python_3_14(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let argparse expand help when an argument is added, as it does since Python 3.14."""
    original = argparse.ArgumentParser.add_argument

    def check(self: Any, action: argparse.Action) -> None:
        if action.help and "%" in action.help:
            raise ValueError("badly formed help string")

    def add_argument(self: Any, *args: Any, **kwargs: Any) -> argparse.Action:
        action = original(self, *args, **kwargs)
        self._check_help(action)
        return action

    monkeypatch.setattr(argparse.ArgumentParser, "_check_help", check, raising=False)
    monkeypatch.setattr(argparse.ArgumentParser, "add_argument", add_argument)
    monkeypatch.setattr(utils, "argparse", argparse)


@pytest.mark.usefixtures("python_3_14")
def test_hydras_command_line_is_read() -> None:
    with pytest.raises(TypeError, match="LazyCompletionHelp"):
        utils.get_args(["model=rnn_ln"])
    hydra_parser.prepare()
    assert utils.get_args(["model=rnn_ln", "-m"]).overrides == ["model=rnn_ln"]


@pytest.mark.usefixtures("python_3_14")
def test_other_help_is_looked_at() -> None:
    with pytest.raises(ValueError, match="badly formed"):
        hydra_parser.Parser().add_argument("--share", help="in %")
