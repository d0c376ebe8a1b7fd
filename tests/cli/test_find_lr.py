"""The command that suggests a learning rate."""

import re
import sys

import pytest

from lnrnn.cli import find_lr

SMALL = ("model.hidden_size=8", "lowest=1e-4", "highest=1", "steps=40")


def call(monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["lnrnn find-lr", *words])
    find_lr.main()


def test_it_suggests_a_rate_and_writes_nothing_but_the_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    call(monkeypatch, *SMALL, "seed=2", "name=x", "out=rates.png")
    printed = capsys.readouterr().out
    found = re.search(r"^suggested: optimizer\.lr=(\S+)$", printed, re.MULTILINE)
    assert found
    assert 1e-4 <= float(found[1]) < 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["rates.png"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["modl=rnn"], "Did you mean model"),
        (["steps=3"], "steps must be a whole number from 20 up, got 3"),
        (["lowest=a"], "lowest and highest must be learning rates"),
        (["out=rates.pdf"], "out=rates.pdf must be a png file"),
        (["trainer=ddp"], "leave out trainer=ddp"),
        (["model=rnn,lstm"], "."),
        ([*SMALL, "lowest=10", "highest=100"], "the loss does not fall at any of these rates"),
    ],
)
def test_what_cannot_be_done_is_one_line(words, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=reason):
        call(monkeypatch, *words)
    assert not list(tmp_path.iterdir())


def test_help_lists_its_own_keys(monkeypatch, capsys):
    call(monkeypatch, "--help")
    printed = capsys.readouterr().out
    assert all(f"\n{key}: " in printed for key in find_lr.OWN)
