"""The commands by which README.md uses what was trained, run on small runs of the same names."""

import shlex
import sys
from importlib import import_module

import pyarrow.parquet
import pytest
from experiments import compose
from omegaconf import open_dict
from pages import ROOT, read_fences

from lnrnn.training import train

SMALL = ("model.hidden_size=8", "trainer.max_steps=4")
RUNS = {
    "runs/shakespeare/lstm_ln/seed0": ("data=shakespeare", "model=lstm_ln"),
    "runs/table_files/rnn_ln-reviews/seed0": (
        *("data=table_files", "data.files=reviews.csv", "data.num_classes=2"),
    ),
    "runs/mnist1d/lstm_lncell/seed0": ("data=mnist1d", "model=lstm_lncell"),
}


def commands() -> list[list[str]]:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [line for fence in read_fences(page) for line in fence.text.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines if line.startswith("lnrnn ")]
    return [line for line in words if line[1] in ("predict", "generate", "export")]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"{('fine', 'bad')[n % 2]} {n},{n % 2}" for n in range(60)]
    (tmp_path / "reviews.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    (tmp_path / "new.csv").write_text("text\nfine\nbad\n")
    for path, overrides in RUNS.items():
        experiment = compose(*SMALL, *overrides)
        with open_dict(experiment.config):  # the folder that the page names
            experiment.config.name = "reviews" if "reviews" in path else ""
            experiment.config.trainer.limit_val_batches = 2
            experiment.config.trainer.limit_test_batches = 2
        assert str(train(experiment)[0].path) == path
    return tmp_path


def test_what_was_trained_is_used_as_the_page_says(runs, monkeypatch, capsys):
    assert {words[1] for words in commands()} == {"predict", "generate", "export"}
    for words in commands():
        monkeypatch.setattr(sys, "argv", [f"lnrnn {words[1]}", *words[2:]])
        import_module(f"lnrnn.cli.{words[1]}").main()
    assert "To be" in capsys.readouterr().out
    assert pyarrow.parquet.read_table(runs / "predictions.parquet").num_rows == 2
    assert (runs / "lstm.onnx").exists()
