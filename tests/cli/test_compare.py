"""Comparisons that train: a few steps each, in this process."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from experiments import compose

from lnrnn.cli import compare as script
from lnrnn.cli import comparing
from lnrnn.study import attempt as attempting
from lnrnn.study import cost as costing
from lnrnn.study.attempt import Failure
from lnrnn.study.plan import Task, compared_runs, short
from lnrnn.study.settings import read_settings
from lnrnn.training import CheckpointError, ConfigurationError, folder_of
from lnrnn.training import train as really_train

SMALL = ("model.hidden_size=8", "trainer.max_epochs=1", "jobs=1", "cost=false")
ROOT = "runs/japanese_vowels/compare"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signals are the script's while it runs, and pytest's again afterwards."""
    numbers = (signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def call(monkeypatch, capfd):
    """Call the script as a command does, and return its exit code, output and errors."""

    def call(*arguments: str, small=SMALL):
        monkeypatch.setattr(sys, "argv", ["compare.py", *small, *arguments])
        monkeypatch.setattr(comparing.console, "width", 200)
        with pytest.raises(SystemExit) as caught:
            script.main()
        return caught.value.code, *capfd.readouterr()

    return call


def result(name: str):
    with open(f"{ROOT}/{name}-hidden_size-8-max_epochs-1/compare.json") as file:
        return json.load(file)


def test_an_arm_with_itself_at_its_best_rate_makes_no_difference(call, monkeypatch):
    trained = []

    def train(experiment, *, leased):
        trained.append((experiment.config.seed, experiment.config.optimizer.lr))
        return really_train(experiment, leased=leased)

    monkeypatch.setattr(attempting, "train", train)
    tuned = ("arms=[rnn,rnn]", "lr=[1e-2,1e-6]", "tuning_seeds=1", "seeds=2")
    code, printed, _ = call(*tuned)
    assert code == 0
    assert trained == [(1000, 1e-6), (1000, 1e-2), (0, 1e-2), (1, 1e-2)]
    assert "rnn: lr=0.01, the best of 1e-06, 0.01" in printed
    folder = "rnn-vs-rnn-hidden_size-8-max_epochs-1-tuned-1e-06-0.01"
    path = f"{ROOT}/{folder}/compare.json"
    with open(path) as file:
        found = json.load(file)
    assert [arm["name"] for arm in found["arms"]] == ["rnn", "rnn (2)"]
    assert [arm["best"] for arm in found["tuning"]["arms"]] == [1e-2, 1e-2]
    assert found["tuning"]["seeds"] == [1000]
    (pair,) = found["pairs"]
    assert pair["difference"] == 0
    assert pair["p_sign_flip"] is None
    assert "no difference" in pair["verdict"]
    # The same command, and one that may not train, read the same; nothing builds the data again.
    before = os.stat(path).st_mtime_ns
    for place in ("lnrnn.study.plan", "lnrnn.training.run"):
        monkeypatch.setattr(f"{place}.build_data", lambda config: pytest.fail("data are built"))
    assert call(*tuned, "train=false")[0] == 0
    assert len(trained) == 4
    assert os.stat(path).st_mtime_ns > before
    with open(path) as file:
        again = json.load(file)
    assert again.pop("command") == f"{found.pop('command')} train=false"
    assert again == found


def test_every_seed_runs_the_whole_grid_and_added_seeds_are_another_look(call):
    asked = ("arms=[rnn,rnn_ln]", "lr=[1e-2,1e-6]", "primary=area")
    assert call(*asked, "seeds=2")[0] == 0
    folder = f"{ROOT}/rnn-vs-rnn_ln-hidden_size-8-max_epochs-1-grid-1e-06-0.01"
    with open(f"{folder}/compare.json") as file:
        found = json.load(file)
    assert (found["tuning"]["procedure"], found["tuning"]["seeds"]) == ("every seed", [0, 1])
    assert found["pairs"][0]["p_choice"] is not None
    assert found["primary"]["named_before_the_runs"] == "area"
    with open(f"{folder}/plan.json") as file:
        assert json.load(file)["primary"] == "area"
    # As if six seeds had been seen before: nothing is trained, and another endpoint is told.
    found["primary"]["looks"] = [6]
    with open(f"{folder}/compare.json", "w") as file:
        json.dump(found, file)
    assert call("arms=[rnn,rnn_ln]", "lr=[1e-2,1e-6]", "seeds=2", "train=false")[0] == 0
    with open(f"{folder}/compare.json") as file:
        again = json.load(file)
    assert again["primary"]["looks"] == [6]
    assert any("primary=final afterwards" in text for text in again["warnings"])


def test_every_seed_is_trained_on_every_split(call, monkeypatch):
    trained = []

    def train(experiment, *, leased):
        trained.append((experiment.config.seed, experiment.config.data.split_seed))
        return really_train(experiment, leased=leased)

    monkeypatch.setattr(attempting, "train", train)
    asked = ("arms=[rnn,rnn_ln]", "data=digits", "seeds=2", "data.batch_size=400")
    assert call(*asked)[0] == 0
    assert trained == [(0, 0), (0, 0), (1, 0), (1, 0)]
    # The first split's runs are there.
    code, printed, _ = call(*asked, "splits=3")
    assert code == 0
    assert trained[4:] == [(seed, split) for seed in (0, 1) for split in (1, 2) for _ in range(2)]
    assert "hold for other seeds and other splits" in " ".join(printed.split())
    home = "batch_size-400-hidden_size-8-max_epochs-1"
    with open(f"runs/digits/rnn-{home}-split_seed-2/seed1/run.json") as file:
        assert json.load(file)["split"] == {"key": "split_seed", "seed": 2, "fresh": False}
    with open(f"runs/digits/compare/rnn-vs-rnn_ln-{home}-splits/compare.json") as file:
        found = json.load(file)
    assert (found["seeds"], found["splits"]) == ([0, 1], [0, 1, 2])
    assert found["primary"]["looks"] == [[2, 3]]
    (pair,) = found["pairs"]
    values = {
        arm["name"]: [run["value"] for run in arm["runs"]] for arm in found["arms"]
    }  # seed by seed, split by split
    gains = [b - a for a, b in zip(values["rnn"], values["rnn_ln"], strict=True)]
    assert pair["difference"] == pytest.approx(sum(gains) / 6)
    differences = [(gains[split] + gains[split + 3]) / 2 for split in range(3)]
    assert pair["splits"]["differences"] == pytest.approx(differences)
    assert pair["splits"]["correction"] == pytest.approx(359 / (1150 + 288))
    assert found["validity"]["configuration_differences"]
    assert "data.split_seed" not in found["validity"]["shared_configuration"]
    assert not [text for text in found["warnings"] if "settings" in text or "fingerprint" in text]
    # The other splits are no runs of a comparison on one.
    assert call(*asked, "train=false")[0] == 0
    with open(f"runs/digits/compare/rnn-vs-rnn_ln-{home}/compare.json") as file:
        assert json.load(file)["splits"] == [0]
    assert len(trained) == 12


def test_an_endpoint_is_not_named_before_runs_that_are_there(call):
    asked = ("arms=[rnn,rnn_ln]", "seeds=2")
    assert call(*asked)[0] == 0
    folder = f"{ROOT}/rnn-vs-rnn_ln-hidden_size-8-max_epochs-1"
    os.remove(f"{folder}/plan.json")
    os.remove(f"{folder}/compare.json")
    assert call(*asked, "primary=area", "train=false")[0] == 0
    with open(f"{folder}/compare.json") as file:
        assert json.load(file)["primary"]["named_before_the_runs"] is None
    assert not os.path.exists(f"{folder}/plan.json")


def test_rates_at_which_everything_diverges_leave_nothing_to_choose(call):
    code, printed, errors = call("arms=[rnn,rnn]", "lr=[1e30,1e35]", "tuning_seeds=1", "seeds=1")
    assert code == 2
    assert "rnn lr=1e+30, seed 1000: " in printed
    assert "error: no arm has a finished run at any learning rate of 1e+30, 1e+35" in errors
    assert "'lr=[1e-5,1e-4,1e-3]'" in errors
    # They are kept as they are, and not tried again.
    again = call("arms=[rnn,rnn]", "lr=[1e30,1e35]", "tuning_seeds=1", "seeds=1")
    assert again[0] == 2
    assert again[1].count("It diverged when it was trained before") == 2


def test_a_run_that_diverged_is_counted_and_no_error(call):
    code, printed, errors = call('arms=[rnn,"rnn optimizer.lr=1e30"]', "seeds=1")
    assert (code, errors) == (0, "")
    assert "rnn optimizer.lr=1e30, seed 0: " in printed
    found = result("rnn-vs-" + short("rnn optimizer.lr=1e30"))
    assert [arm["runs"][0]["status"] for arm in found["arms"]] == ["finished", "failed"]


@pytest.mark.parametrize("error", [CheckpointError("disk full"), ConfigurationError("in use")])
def test_one_run_that_fails_does_not_lose_the_others(error, call, monkeypatch):
    def train(experiment, *, leased):
        if experiment.model == "rnn_ln" and experiment.config.seed == 0:
            raise error
        return really_train(experiment, leased=leased)

    monkeypatch.setattr(attempting, "train", train)
    code, printed, errors = call("arms=[rnn,rnn_ln]", "seeds=2")
    assert code == 2
    assert f"rnn_ln, seed 0: {error}" in printed
    assert f"error: rnn_ln, seed 0: {error}" in errors
    assert "error: 1 run failed; the same command tries again" in errors
    found = result("rnn-vs-rnn_ln")
    assert {run["status"] for run in found["arms"][1]["runs"]} == {"finished", "unreadable"}
    # What is missing is named, and no error where nothing was to be trained.
    code, printed, errors = call("arms=[rnn,rnn_ln]", "seeds=2", "train=false")
    assert (code, errors) == (0, "")
    assert "train=false: 1 of 4 runs are missing:" in printed
    assert "rnn_ln, seed 0: runs/japanese_vowels/rnn_ln-hidden_size-8-max_epochs-1/seed0" in printed


def test_what_all_runs_fail_of_is_said_once(call):
    code, _, errors = call("arms=[rnn,rnn_ln]", "seeds=3", "trainer.devices=2")
    assert code == 2
    told = [line for line in errors.splitlines() if "trainer.devices=2 on " in line]
    assert len(told) == 1
    assert told[0].startswith("error: rnn, seed 0, and 5 more: trainer.devices=2 on ")
    assert "error: 6 runs failed; the same command tries again" in errors
    assert errors.rstrip().endswith("; and 3 more")  # of the folders without a run
    code, _, errors = call("arms=[rnn,rnn_ln]", "seeds=1", "lr=[1e-3,1e-2]", "trainer.devices=2")
    assert code == 2
    told = [line for line in errors.splitlines() if "trainer.devices=2 on " in line]
    assert len(told) == 1
    assert told[0].startswith("  rnn lr=0.001, seed 0, and 3 more: trainer.devices=2 on ")


def test_nothing_there_is_said(call):
    code, _, errors = call("arms=[rnn,rnn_ln]", "seeds=1", "train=false")
    assert code == 2
    assert "error: a comparison needs at least one run that can be read" in errors


def test_a_comparison_over_fewer_seeds_says_what_it_replaces(call):
    assert call("arms=[rnn,rnn_ln]", "seeds=2")[0] == 0
    code, printed, _ = call("arms=[rnn,rnn_ln]", "seeds=1")
    assert code == 0
    assert "the comparison over 2 seeds that was here is replaced" in printed
    assert result("rnn-vs-rnn_ln")["seeds"] == [0]


def test_folders_of_runs_are_compared_wherever_they_lie(call, tmp_path):
    call("arms=[rnn,rnn_ln]", "seeds=2")
    expected = result("rnn-vs-rnn_ln")
    for arm in ("rnn", "rnn_ln"):
        (tmp_path / "runs/japanese_vowels" / f"{arm}-hidden_size-8-max_epochs-1").rename(arm)
    code, printed, errors = call("arms=[./rnn,./rnn_ln]", "train=false", small=SMALL[2:])
    assert (code, errors) == (0, "")
    (path,) = [line for line in printed.splitlines() if line.startswith("written: ")]
    with open(f"{path.removeprefix('written: ')}/compare.json") as file:
        found = json.load(file)
    assert [arm["mean"] for arm in found["arms"]] == [arm["mean"] for arm in expected["arms"]]
    assert found["pairs"][0]["difference"] == expected["pairs"][0]["difference"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["arms=[a/rnn,b/rnn]"], "a/rnn is a folder, of which runs are only read: add train=false"),
        (
            ["arms=[a/rnn,rnn]", "train=false"],
            "either all arms are folders or none of them, got a/rnn",
        ),
        (["arms=[a/x,b/x]", "train=false", "trainer.max_epochs=1"], "max_epochs=1 would choose"),
        (["arms=[a/x,b/x]", "train=false"], "the arm a/x must be a folder with runs"),
    ],
)
def test_folders_that_cannot_be_compared(arguments, words, call):
    code, _, errors = call(*arguments, small=())
    assert code == 2
    assert words in errors


def test_a_cost_that_cannot_be_measured_loses_no_comparison(call, monkeypatch):
    def fail(arms):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(costing, "measure_cost", fail)
    code, _, errors = call("arms=[rnn,rnn_ln]", "seeds=1", "cost=true")
    assert code == 2
    assert "error: the cost cannot be measured: RuntimeError: out of memory" in errors
    assert result("rnn-vs-rnn_ln")["cost"] is None


def test_a_required_speed_up_decides_the_exit_code(capsys):
    settings = read_settings(["require_speedup=1.2"])
    steps = {"ratio": 1.3, "supported": True, "n": 10}
    entry = {"share": 0.9, "steps": steps}
    found = {"pairs": [{"arm": "a", "baseline": "b", "speed": [entry]}]}
    assert comparing.conclude(settings, found, [], None) == 0
    task = Task("a, seed 0", compose())
    assert comparing.conclude(settings, found, [(task, Failure("nan", diverged=True))], None) == 0
    steps["supported"] = False
    assert comparing.conclude(settings, found, [], None) == 1
    assert "require_speedup=1.2 is not met: a against b: 1.3 times" in capsys.readouterr().err
    assert comparing.conclude(read_settings([]), found, [], None) == 0
    # An error is no answer to the question, so it comes first.
    assert comparing.conclude(settings, found, [(task, Failure("disk full"))], None) == 2


def test_a_worker_leaves_only_a_result_of_the_same_runs_to_another():
    """Whatever the clocks say: that of the other machine may be hours off."""
    runs = compared_runs(read_settings(["arms=[rnn,rnn_ln]", "seeds=2"]), {})
    paths = [folder_of(run).path for members in runs.values() for run in members]

    def put(path: Path, content: dict[str, Any], when: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        os.utime(path, (when, when))

    def put_result(run_folders: list[Path], when: int, **changed: str) -> None:
        found = [
            {"folder": path.as_posix(), "status": changed.get(path.name, "finished")}
            for path in run_folders
        ]
        put(home / "compare.json", {"arms": [{"runs": found}]}, when)

    home = Path(ROOT) / "rnn-vs-rnn_ln"
    for path in paths:
        put(path / "run.json", {"status": "finished"}, 5000)
    put_result(paths, 1)
    before = comparing._stamp(home / "compare.json")
    assert not comparing._is_of(home, runs, before)  # it was there when this process began
    for when in (2, 9000):
        put_result(paths, when)
        assert comparing._is_of(home, runs, before)
        put_result(paths[:2], when)  # of fewer seeds, or arms
        assert not comparing._is_of(home, runs, before)
        put_result(paths, when, seed1="failed")  # which has been trained after all
        assert not comparing._is_of(home, runs, before)
    (home / "compare.json").write_text("[")
    assert not comparing._is_of(home, runs, before)


def test_no_rate_is_chosen_where_launched_workers_left_tuning_runs(call, monkeypatch):
    """What one process refuses: a rate that lost runs would lose against another for that."""
    lost = ["worker 0 on a: killed by SIGKILL"]
    monkeypatch.setattr(comparing, "launch", lambda *given: lost)
    words = ("arms=[rnn,rnn_ln]", "seeds=1", "lr=[1e-3,1e-2]", "launcher=submitit")
    code, _, errors = call(*words)
    assert code == 2
    assert "no learning rate is chosen, because tuning runs have no result" in errors
    assert errors.count(", seed 0: runs/japanese_vowels/rnn") == 4
    assert not Path(ROOT).exists() or not list(Path(ROOT).rglob("compare.json"))
