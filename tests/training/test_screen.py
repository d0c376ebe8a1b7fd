"""What a person sees on a terminal of 80 columns."""

import io
import re
import sys

from experiments import compose

from lnrnn.training import train


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_fits_80_columns_and_every_validation_leaves_a_line(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    overrides = ("data=copying", "data.num_train=64", "data.num_test=8", "data.num_validation=8")
    small = ("model=gru", "model.hidden_size=8", "trainer.max_epochs=2", "data.length=25")
    train(compose(*overrides, *small, "trainer.enable_progress_bar=true"), tmp_path)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    assert max(map(len, lines)) <= 80
    told = [line for line in lines if re.match(r"epoch \d  step \d+  val/accuracy 0\.\d{4}", line)]
    assert len(told) == 2
    rest = [line for line in lines if line not in told]
    assert rest
    # Nothing is wrapped: each line is a bar, from its name to its speed.
    assert all(re.match(r"(Epoch \d/\d|Validation|Testing) .*it/s$", line) for line in rest)
