"""The tool that interrupts random runs: what it draws, what it notices, and two minutes of it."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from experiments import compose
from faults.fuzz.cases import FORMS, STARTS, draw_case
from faults.fuzz.differences import differences
from faults.fuzz.play import OUTPUT, problems_of, states
from faults.fuzz.stops import SIGNALS, WATCHED
from same_runs import differing

from lnrnn.config.compose import check_overrides
from lnrnn.runs.checkpoint_files import write_checkpoint
from lnrnn.study.settings import read_settings
from lnrnn.training import RunFolder, train

ROOT = Path(__file__).resolve().parents[2]
CASES = [draw_case(number) for number in range(300)]
SHORT = ("model.hidden_size=8", "trainer.max_epochs=1", "trainer.limit_train_batches=2")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python where the tool can be imported, with one thread, since it forks."""
    paths = [str(ROOT / "tests"), str(ROOT / "tests" / "support")]
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_a_case_follows_from_its_number():
    assert [draw_case(case.number) for case in CASES] == CASES
    assert len({case.words for case in CASES}) == len(CASES)


def test_everything_is_drawn():
    assert {case.form for case in CASES} == set(FORMS)
    stops = [stop for case in CASES for stop in case.stops]
    assert {name for stop in stops for name in stop.signals} == set(SIGNALS)
    assert {stop.file for stop in stops} == {None, *WATCHED}
    assert {len(case.stops) for case in CASES} == {1, 2, 3, 4}
    assert {case.start for case in CASES} == set(STARTS)
    assert not any(case.start == "console" for case in CASES if case.ranks > 1)
    assert {len(stop.signals) for stop in stops} == {1, 2}


@pytest.mark.parametrize("case", CASES[:40], ids=lambda case: case.number)
def test_a_drawn_command_can_be_read(case):
    command, *words = case.words
    if command == "compare":
        assert len(read_settings(words).arms) == 2
        return
    check_overrides([word for word in words if word != "-m"], multirun="-m" in words)


@pytest.mark.parametrize(
    ("other", "found"),
    [
        ({"a": [torch.ones(3), 1]}, []),
        ({"a": [torch.tensor([1, 1, 1 + 1e-7]), 1]}, ["a[0]: differs by up to 1.19e-07"]),
        ({"a": [torch.ones(3).double(), 1]}, ["a[0]: torch.float32 (3,) and torch.float64 (3,)"]),
        ({"a": [torch.ones(3), True]}, ["a[1]: 1 and True"]),
        ({"a": [torch.ones(3)]}, None),
        ({"a": [torch.ones(3), 1], "b": 0}, ["b: in one of the two only"]),
    ],
)
def test_what_differs_is_named(other, found):
    differences = list(differing({"a": [torch.ones(3), 1]}, other))
    assert differences == found if found is not None else differences


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("twin")
    train(compose(*SHORT), place / "runs")
    return place


def change_record(folder: RunFolder, **changes) -> None:
    folder.update_record(**changes)


def change_weight(folder: RunFolder) -> None:
    path = folder.newest_checkpoint()
    assert path is not None
    checkpoint = torch.load(path, weights_only=True)
    next(iter(checkpoint["state_dict"].values())).view(-1)[0] += 1e-6
    write_checkpoint(checkpoint, path, versions={}, keep=2)


def append_to(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


SPOILED = {
    "metrics.jsonl differs": lambda folder: append_to(folder.metrics),
    "config.yaml differs": lambda folder: append_to(folder.config),
    "curves.png differs": lambda folder: append_to(folder.curves),
    "confusion.json differs": lambda folder: append_to(folder.confusion),
    "confusion.png is missing": lambda folder: folder.confusion.with_suffix(".png").unlink(),
    "curves.png is missing": lambda folder: folder.curves.unlink(),
    "run.json: steps: 2 and 3": lambda folder: change_record(folder, steps=3),
    "run.json: metrics.test/loss": lambda folder: change_record(folder, metrics={"test/loss": 0.0}),
    "state_dict.model": change_weight,
    "the newest checkpoint is None": lambda folder: folder.newest_checkpoint().unlink(),
    "left: runs": lambda folder: (folder.path / "run.lock").touch(),
    "left: runs/": lambda folder: (folder.checkpoints / ".step.1.tmp").touch(),
    "runs in one place only": lambda folder: shutil.rmtree(folder.path),
}


@pytest.mark.parametrize("text", SPOILED)
def test_a_spoiled_run_is_told_from_its_twin(text, twin, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(twin, again)
    (path,) = again.glob("runs/*/*/seed0")
    folder = RunFolder(path)
    change_record(folder, seconds_per_step=9.0, seconds_per_save=9.0, resumed=[{"checkpoint": ""}])
    assert list(differences(twin, again)) == []
    SPOILED[text](folder)
    assert text in "\n".join(differences(twin, again))


@pytest.mark.parametrize(
    ("code", "sent", "printed", "found"),
    [
        (0, ["SIGTERM"], "", None),
        (-15, ["SIGTERM"], "", None),
        (-9, ["SIGTERM", "SIGKILL"], "", None),
        (130, ["SIGINT"], "", None),
        (1, ["SIGINT"], "", "exit code 1 after SIGINT"),
        (143, ["SIGINT"], "", "exit code 143 after SIGINT"),
        (-15, [], "", "exit code -15 after no signal"),
        (-2, ["SIGINT"], "Traceback (most recent call last):", "a traceback"),
        (143, ["SIGTERM"], "", None),
    ],
)
def test_a_session_must_end_as_documented(code, sent, printed, found, twin, tmp_path):
    shutil.copytree(twin, tmp_path / "again")
    (tmp_path / "again" / OUTPUT).write_text(printed)
    case = next(case for case in CASES if case.form == "train")
    problems = "\n".join(problems_of(case, tmp_path / "again", code, sent))
    if found is None:
        assert problems == ""
    else:
        assert found in problems


@pytest.mark.parametrize(("mark", "wrong"), [("SIGTERM", False), ("SIGINT", True), (None, True)])
def test_a_stopped_run_must_say_by_which_signal(mark, wrong, twin, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(twin, again)
    (again / OUTPUT).touch()
    (path,) = again.glob("runs/*/*/seed0")
    change_record(RunFolder(path), status="interrupted", exit_code=143, signal=mark)
    case = next(case for case in CASES if case.form == "train")
    problems = list(problems_of(case, again, 143, ["SIGTERM"]))
    assert [text[:13] for text in problems] == ["run.json says"] * wrong


@pytest.mark.parametrize(
    ("start", "printed", "found"),
    [
        ("console", 'File "site.py"\nKeyboardInterrupt\n', 0),
        ("forked", 'File "site.py"\nKeyboardInterrupt\n', 2),
        ("console", 'File "lnrnn/cli/main.py"\nKeyboardInterrupt\n', 2),
        ("console", "Exception ignored in: x\nKeyboardInterrupt\n", 2),
    ],
)
def test_where_python_itself_begins_nothing_can_listen(start, printed, found, twin, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(twin, again)
    (again / OUTPUT).write_text(f"Traceback (most recent call last):\n{printed}")
    case = replace(next(case for case in CASES if case.form == "train"), start=start)
    assert len(list(problems_of(case, again, 1, ["SIGINT"]))) == found


def test_what_a_session_leaves_and_half_a_record_are_noticed(twin, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(twin, again)
    (path,) = again.glob("runs/*/*/seed0")
    (again / OUTPUT).touch()
    (path / "run.lock").touch()
    record = (path / "run.json").read_text()
    (path / "run.json").write_text(record[:40])
    problems = list(problems_of(CASES[0], again, 130, ["SIGINT"]))
    assert [re.sub(": .*", "", text) for text in problems] == [
        f"it has ended by itself and left {(path / 'run.lock').relative_to(again)}",
        f"{path / 'run.json'}",
    ]
    assert json.loads(record)["status"] == "finished"


def test_a_watched_file_changes_when_it_comes_grows_or_is_replaced(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    seen = [states([tmp_path], "checkpoints/*.ckpt")]
    path = tmp_path / "checkpoints" / "a.ckpt"
    for change in (path.touch, lambda: path.write_text("text"), path.unlink):
        change()
        seen.append(states([tmp_path], "checkpoints/*.ckpt"))
    assert seen[0] == seen[3] == []
    assert seen[1] != seen[2]
    (tmp_path / "checkpoints" / "last").touch()
    assert states([tmp_path], "checkpoints/*.ckpt") == []
    assert states([tmp_path / "nowhere", tmp_path], None) == []


FORKED = """
import sys, time
from pathlib import Path
from faults.fuzz.processes import OUTPUT, Launch, console_command
place = Path(sys.argv[1])
for how in ("forked", "console"):
    for words in (["--version"], ["nonsense"], ["train", "model=nonsense"]):
        launch = Launch(words, place, 1, how)
        while launch.poll() is None:
            time.sleep(0.01)
        print(launch.poll(), (place / OUTPUT).read_text())
        (place / OUTPUT).unlink()
"""


def test_a_forked_command_prints_and_ends_as_the_real_one(tmp_path):
    ran = python("-c", FORKED, str(tmp_path))
    assert ran.returncode == 0, ran.stdout
    half = len(ran.stdout) // 2
    assert ran.stdout[:half] == ran.stdout[half:]
    assert re.findall(r"^(\d) ", ran.stdout, re.MULTILINE) == ["0", "2", "1"] * 2


PLANTED = """
import sys
from pathlib import Path
from faults.fuzz.cases import Case
from faults.fuzz.play import play
from faults.fuzz.processes import import_everything
from faults.fuzz.stops import Stop
import torch
from lnrnn.training.callbacks import StepSeed
place = Path(sys.argv[1])
import_everything(place / "first")
words = ("train", "model=rnn", "model.hidden_size=8", "model.dropout=0.2", "trainer.max_epochs=2",
         "checkpoint_every_n_steps=2")
stop = Stop(("SIGTERM",), 0.0, "all", "checkpoints/last", 2, 0.0)
case = Case(0, "train", words, "forked", (stop, stop))
for fault in (False, True):
    if fault:  # dropout that depends on the session
        StepSeed.on_train_batch_start = lambda *_: torch.manual_seed(__import__("os").getpid())
    played = play(case, place / str(fault))
    print(played.codes, any("state_dict" in text for text in played.problems), played.problems)
"""


def test_a_planted_fault_is_found(tmp_path):
    ran = python("-c", PLANTED, str(tmp_path))
    assert ran.returncode == 0, ran.stdout
    right, wrong = ran.stdout.splitlines()
    assert right == "[143, 143] False []"
    assert wrong.startswith("[143, 143] True")


@pytest.mark.timeout(900)  # two minutes, and the last case's end
def test_two_minutes_of_it(tmp_path):
    """Always the same cases, as many as there is time for."""
    ran = python("-m", "faults.fuzz", "--minutes=2", "--seed=1", f"--folder={tmp_path}")
    assert ran.returncode == 0, ran.stdout
    summary = re.search(r"^(\d+) interruptions of \d+ cases", ran.stdout, re.MULTILINE)
    assert summary is not None
    assert int(summary[1]) >= 1
