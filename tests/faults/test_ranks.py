"""Two processes of one run: one of them is told to stop, or dies, and the run goes on exactly."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest
import torch
from experiments import only
from same_runs import assert_same_run, content

from lnrnn.training import RunFolder

ROOT = Path(__file__).resolve().parents[2]
COMMON = ("model.hidden_size=8", "trainer.accelerator=cpu", "trainer.log_every_n_steps=4")
LANGUAGE_MODEL = (
    *("data=text_files", "data.batch_size=5", "data.window=16", "model=lstm"),
    *("model.dropout=0.2", "trainer.max_epochs=8", "checkpoint_every_n_steps=7"),
)


def launch(place: Path, overrides: tuple[str, ...], processes: int = 2) -> subprocess.Popen[str]:
    place.mkdir(exist_ok=True)
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
    ddp = ["trainer=ddp", f"trainer.devices={processes}"]
    return subprocess.Popen(
        [sys.executable, *launcher, str(ROOT / "scripts" / "train.py"), *ddp, *overrides],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(place: Path, overrides: tuple[str, ...], processes: int = 2) -> tuple[RunFolder, str]:
    process = launch(place, overrides, processes)
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 0, printed
    return RunFolder(only(place.glob("runs/*/*/seed0"))), printed


def ranks_of(launcher: int) -> list[int]:
    """Return the process ids of the ranks, the first one's first."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            environment = (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        ranks = [entry[5:] for entry in environment if entry.startswith(b"RANK=")]
        if parent == launcher and ranks:
            found[int(ranks[0])] = int(path.name)
    return [found[rank] for rank in sorted(found)]


def interrupt(place: Path, overrides: tuple[str, ...], size: int, number: int) -> tuple[int, str]:
    """Send a signal to the second rank once there are so many bytes of records."""
    process = launch(place, overrides)
    while process.poll() is None:
        curves = [path.stat().st_size for path in place.glob("runs/*/*/seed0/metrics.jsonl")]
        if curves and curves[0] >= size:
            break
        time.sleep(0.01)
    os.kill(ranks_of(process.pid)[1], number)
    begun = time.monotonic()
    printed, _ = process.communicate(timeout=120)
    assert time.monotonic() - begun < 60
    return process.returncode, printed


def test_one_of_two_processes_is_stopped_or_killed(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(97 + (i * i) % 26) for i in range(2500)))
    overrides = (*LANGUAGE_MODEL, f"data.files={text}", *COMMON)
    whole, _ = finish(tmp_path / "whole", overrides)
    total = whole.metrics.stat().st_size
    again = tmp_path / "again"
    code, printed = interrupt(again, overrides, total // 4, SIGTERM)
    folder = RunFolder(only(again.glob("runs/*/*/seed0")))
    assert code != 0
    assert folder.read_record().signal == "SIGTERM", printed
    assert printed.count("interrupted: stopped by SIGTERM") == 1
    state = content(folder)[0]["carried_state"]
    assert [tuple(part.shape) for part in state] == [(1, 5, 8), (1, 5, 8)]
    code, _ = interrupt(again, overrides, 2 * total // 4, SIGKILL)
    assert code != 0
    folder, _ = finish(again, overrides)
    assert_same_run(folder, whole)


def test_fewer_processes_go_on_with_the_same_samples(tmp_path):
    """Without dropout, whose masks each process draws for itself, even the numbers agree."""
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(97 + (i * i) % 26) for i in range(2500)))
    overrides = (*LANGUAGE_MODEL, f"data.files={text}", *COMMON, "model.dropout=0.0")
    one, _ = finish(tmp_path / "one", overrides, processes=1)
    again = tmp_path / "again"
    interrupt(again, overrides, one.metrics.stat().st_size // 2, SIGTERM)
    folder, printed = finish(again, overrides, processes=1)
    assert "processes: 2 in the checkpoint, 1 now" in " ".join(printed.split())
    changed = folder.read_record().resumed[0]["changed"]
    assert changed == ["processes: 2 in the checkpoint, 1 now"]
    lines = [
        [json.loads(line) for line in run.metrics.read_text().splitlines()] for run in (one, folder)
    ]
    for line, other in zip(*lines, strict=True):
        assert line.pop("value") == pytest.approx(other.pop("value"), rel=1e-4)
        assert line == other
    for name, value in content(one)[0]["state_dict"].items():
        torch.testing.assert_close(content(folder)[0]["state_dict"][name], value, rtol=0, atol=1e-4)


def test_two_processes_forecast(tmp_path):
    """Not every step of a window has a number to predict, and those that have are counted."""
    table = tmp_path / "series.csv"
    rows = [f"{t},{(t * 7) % 13 + t / 10}" for t in range(300)]
    table.write_text("time,x\n" + "\n".join(rows) + "\n")
    words = ("data=table_forecasting", f"data.files={table}", "data.order_by=time")
    columns = ("data.input_columns=[x]", "data.target_column=x", "data.num_features=1")
    windows = ("data.window=12", "data.horizon=2", "data.batch_size=8", "trainer.max_epochs=1")
    folder, _ = finish(tmp_path / "run", (*words, *columns, *windows, "model=rnn", *COMMON))
    record = folder.read_record()
    assert (record.status, record.processes) == ("finished", 2)
    assert record.metrics["test/loss"] > 0


def test_two_processes_train_a_part_from_a_step_on(tmp_path):
    """Processes are told once which gradients they share; without dropout, one gives the same."""
    words = ("data=japanese_vowels", "model=gru_ln", "trainer.max_epochs=3", *COMMON)
    words = (*words, "freeze=encoder", "unfreeze_at=8", "checkpoint_every_n_steps=4")
    one, _ = finish(tmp_path / "one", words, processes=1)
    two, printed = finish(tmp_path / "two", words)
    assert printed.count("frozen up to step 8: encoder.layer.weight_ih_l0") == 1
    assert printed.count("step 8: encoder is trained from here on") == 1
    for name, value in content(one)[0]["state_dict"].items():
        torch.testing.assert_close(content(two)[0]["state_dict"][name], value, rtol=0, atol=1e-4)
    again = tmp_path / "again"
    interrupt(again, words, two.metrics.stat().st_size // 2, SIGTERM)
    folder, _ = finish(again, words)
    assert_same_run(folder, two)


def test_two_processes_weigh_classes_and_count_confusions_as_one_does(tmp_path):
    """Batches are cut unequally, and the shares of a batch have weights of unequal sums."""
    words = ("data=japanese_vowels", "model=gru_ln", "trainer.max_epochs=2", *COMMON)
    words = (*words, "class_weights=[9,1,1,0.1,1,1,1,0.01,1]", "data.batch_size=9")
    (one, _), (two, printed) = (finish(tmp_path / str(n), words, processes=n) for n in (1, 2))
    assert printed.count("test/macro_f1") == 1
    for name, value in content(one)[0]["state_dict"].items():
        torch.testing.assert_close(content(two)[0]["state_dict"][name], value, rtol=0, atol=1e-4)
    counts = [json.loads(run.confusion.read_text())["counts"] for run in (one, two)]
    assert sum(map(sum, counts[0])) == sum(map(sum, counts[1])) == 370
    metrics = [run.read_record().metrics for run in (one, two)]
    assert metrics[0] == pytest.approx(metrics[1], abs=0.01)
