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
        (["out=plots/rates.png"], "out=plots/rates.png: there is no folder plots, make it first"),
        (["out=.png"], "out=.png must be a png file"),
        (["-m"], "find-lr has no flag -m"),
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


def test_a_picture_is_drawn_where_nothing_is_suggested_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="the loss does not fall"):
        call(monkeypatch, *SMALL, "lowest=10", "highest=100", "out=rates.png")
    assert "picture: rates.png" in capsys.readouterr().out
    assert (tmp_path / "rates.png").exists()


def test_what_was_found_is_printed_before_a_picture_fails(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lnrnn.training.rate_finder.plot_rates", fail)
    with pytest.raises(SystemExit, match="error: no space left"):
        call(monkeypatch, *SMALL, "out=rates.png")
    assert "suggested: optimizer.lr=" in capsys.readouterr().out


def test_it_says_which_files_of_ones_own_it_takes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/small.yaml").write_text("defaults: [rnn]\nhidden_size: 8\n")
    call(monkeypatch, "model=small", "lowest=1e-4", "steps=20")
    assert "files of your own: conf/model/small.yaml" in capsys.readouterr().out


def test_help_lists_its_own_keys(monkeypatch, capsys):
    call(monkeypatch, "--help")
    printed = capsys.readouterr().out
    assert all(f"\n{key}: " in printed for key in find_lr.OWN)
