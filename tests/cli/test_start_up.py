"""Ctrl-C while a command starts: exit code 130, whatever a library makes of the exception."""

import os
import signal
import sys
from collections.abc import Iterator

import pytest
from experiments import compose
from omegaconf.listconfig import ListConfig

from lnrnn.cli import main as commands
from lnrnn.cli import train as train_command
from lnrnn.runs import interruption
from lnrnn.training import Interrupted, train


@pytest.fixture(autouse=True)
def forgotten(monkeypatch) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in interruption.STOPPING}
    monkeypatch.setattr(interruption, "_pressed", False)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def pressed_and_lost() -> None:
    try:
        press()
    except KeyboardInterrupt:
        return


def pressed_and_changed() -> None:
    try:
        press()
    except KeyboardInterrupt:
        sys.exit("error: there is no key defaults")


def end_of(command: str, *arguments: str, monkeypatch) -> object:
    monkeypatch.setattr(sys, "argv", [f"lnrnn {command}", *arguments])
    with pytest.raises(SystemExit) as caught:
        commands.run(command)
    return caught.value.code


@pytest.mark.parametrize("how", [press, pressed_and_lost, pressed_and_changed])
def test_whatever_became_of_it(how, monkeypatch, capsys):
    monkeypatch.setattr(train_command, "check_command_line", how)
    monkeypatch.setattr(train_command, "train_each", lambda: None)
    assert end_of("train", monkeypatch=monkeypatch) == 130
    assert capsys.readouterr().out == "interrupted; no run was under way that had to be saved\n"


@pytest.mark.parametrize("command", ["train", "compare", "evaluate"])
@pytest.mark.parametrize("call", [0, 7, 30])
def test_in_the_middle_of_a_configuration(command, call, monkeypatch, capsys):
    """OmegaConf makes errors of its own of it."""
    original, calls = ListConfig._validate_set, iter(range(10**9))

    def met(self, key, value):
        if next(calls) == call:
            press()
        return original(self, key, value)

    monkeypatch.setattr(ListConfig, "_validate_set", met)
    assert end_of(command, monkeypatch=monkeypatch) == 130
    printed = capsys.readouterr()
    assert "interrupted" in printed.out
    assert "error" not in printed.out + printed.err


@pytest.mark.parametrize("command", ["train", "compare", "evaluate"])
def test_a_signal_as_python_ends_meets_no_handler(command, monkeypatch):
    """It would raise from whatever tidies up, where nobody catches it."""
    monkeypatch.setattr(sys, "argv", [f"lnrnn {command}", "no-such-key=1"])
    with pytest.raises(SystemExit):
        commands.run(command)
    assert {signal.getsignal(number) for number in interruption.STOPPING} == {signal.SIG_DFL}


def test_a_run_that_begins_all_the_same_stops_after_its_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(interruption, "_pressed", True)
    with pytest.raises(Interrupted) as caught:
        train(compose("model.hidden_size=8", "trainer.max_steps=3"), tmp_path)
    assert (caught.value.code, caught.value.step) == (130, 1)
