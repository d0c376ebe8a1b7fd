"""What a comparison does before, between and after its runs; nothing is trained here."""

import json
import os
import re
import shlex
import shutil
import signal
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from experiments import compose
from omegaconf import OmegaConf
from rich.console import Console

from lnrnn.runs.folder import check_configuration
from lnrnn.runs.lease import TAKEN
from lnrnn.study import attempt as attempting
from lnrnn.study import cost as costing
from lnrnn.study import pool as pooling
from lnrnn.study.attempt import Failure, attempt
from lnrnn.study.child_processes import ending_of
from lnrnn.study.folders import are_folders
from lnrnn.study.missing import name_missing, sort_out
from lnrnn.study.overview import Overview, share_done
from lnrnn.study.plan import (
    Task,
    compared_runs,
    name_arms,
    result_folder,
    result_name,
    short,
    tasks_of,
    tuning_runs,
)
from lnrnn.study.settings import read_settings
from lnrnn.study.speedup import unmet
from lnrnn.training import (
    CheckpointError,
    ConfigurationError,
    Interrupted,
    NonFiniteError,
    folder_of,
)
from lnrnn.training.build import contract_of

EXPERIMENT = compose("model=rnn")  # of which most tests need no second one
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@cache  # composing takes a while
def plan(*arguments: str):
    settings = read_settings(arguments)
    runs = compared_runs(settings, {})
    return result_folder(settings, next(iter(runs.values()))[0]), runs


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (['arms=[rnn,"rnn data=mnist1d"]'], "data=mnist1d cannot be given in the arm"),
        (['arms=[rnn,"rnn seed=3"]'], "seed=3 cannot be given in the arm"),
        (['arms=[rnn,"rnn +name=x"]'], "name=x cannot be given in the arm"),
        (['arms=[rnn,"rnn resume=never"]'], "resume=never cannot be given in the arm"),
        (['arms=[rnn,"rnn model=lstm"]'], "model=lstm cannot be given in the arm"),
        (["seed=3"], "seed=3 cannot be given on the command line.*seeds=7"),
        (["name=x"], "name=x cannot be given on the command line"),
        (["resume=never"], "resume=never cannot be given on the command line"),
        (["model=lstm"], "model=lstm cannot be given on the command line"),
        (
            ['arms=[rnn,"rnn trainer.devices=1"]', "seeds=1"],
            "are the same runs, runs/.*write it twice",
        ),
        (["arms=[rnn]"], "at least two arms, got"),
        (["arms=rnn"], r"arms must be a list, got rnn: write 'arms=\[rnn,rnn_ln\]'"),
        (["arms=[rnn,5]"], "an arm is a model.*got 5"),
        (["arms=[rnn,' ']"], "an arm is a model.*got ' '"),
        (["seeds=abc"], "seeds must be at least 1, and a whole number.*got abc"),
        (["seeds=1.5"], "seeds must be at least 1, and a whole number.*got 1.5"),
        (["seeds=true"], "seeds must be at least 1, and a whole number.*got True"),
        (["jobs=0"], "jobs must be at least 1, and a whole number: how many runs"),
        (["worker=yes"], "worker must be true or false, got yes"),
        (
            ["worker=true", "train=false"],
            "worker=true trains runs that no other process is training, and train=",
        ),
        (["train=yes"], "train must be true or false, got yes"),
        (["cost=1"], "cost must be true or false, got 1"),
        (["require_speedup=0"], "require_speedup must be null or a positive number.*got 0"),
        (["require_speedup=true"], "require_speedup must be null or a positive number"),
        (["lr=1e-3"], r"lr must be a list of two or more.*One rate.*optimizer\.lr=3e-3"),
        (["lr=[1e-3]"], "lr must be a list of two or more different positive numbers"),
        (["lr=[1e-3,0.001]"], "lr must be a list of two or more different positive numbers"),
        (["lr=[1e-3,-1]"], "lr must be a list of two or more different positive numbers"),
        (["lr=[1e-3,fast]"], "lr must be a list of two or more different positive numbers"),
        (["lr=[1,2]", "optimizer.lr=1"], r"optimizer.lr=1 cannot be given on the command line"),
        (
            ['arms=[rnn,"rnn_ln ++optimizer.lr=1"]', "lr=[1,2]"],
            "cannot be given in the arm 'rnn_ln",
        ),
        (["lr=[1,2]", "tuning_seeds=0"], "tuning_seeds must be at least 1"),
        (
            ["lr=[1,2]", "tuning_seeds=3", "seeds=1001"],
            "seeds must be at most 1000, where the tuning seeds begin",
        ),
        (["primary=best"], "must be one of final, area, steps_to_90, got 'best'"),
        (["tuning_seeds=5"], "tuning_seeds has no effect without rates"),
        (["job=2"], "there is no key job. Did you mean jobs?.*Keys of a comparison: arms, data"),
        (["seedss=2"], "there is no key seedss. Did you mean seeds?"),
        (["trainr.max_epochs=2"], "there is no key trainr. Did you mean trainer?"),
        (["trainer.max_epoch=2"], "there is no key trainer.max_epoch. Did you mean max_epochs?"),
        (["+seeds=2"], r"\+seeds=2: a comparison's own keys are set as they are: seeds=..."),
        (["jobs.x=2"], "a comparison's own keys are set as they are: jobs=..."),
        (["-m"], "lnrnn compare takes KEY=VALUE and --help, got -m"),
        (["data=nowhere"], "there is no data=nowhere.*mnist1d"),
        (["arms=[rnn,lstn]", "seeds=1"], "there is no model=lstn. Did you mean lstm?"),
    ],
)
def test_what_is_refused_before_anything_is_trained(arguments, words):
    with pytest.raises(ConfigurationError, match=f"(?s){words}"):
        plan(*arguments)


@pytest.mark.parametrize(
    "environment",
    [{"RANK": "1", "WORLD_SIZE": "2"}, {"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}],
)
def test_workers_are_no_parts_of_one_run(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=r"every worker is a process by itself.*--array"):
        read_settings(["worker=true"])
    assert not read_settings([]).worker


def test_what_belongs_to_the_data_goes_to_all_runs():
    _, runs = plan("arms=[rnn,rnn_ln]", "data=adding", "data.length=50", "seeds=1")
    assert [members[0].config.data.length for members in runs.values()] == [50, 50]


def test_a_folder_with_another_run_is_refused():
    _, runs = plan("arms=[rnn,rnn_ln]", "seeds=1")
    other = folder_of(runs["rnn_ln"][0])
    other.path.mkdir(parents=True)
    shutil.copy(ROOT / "conf/trainer/default.yaml", other.config)
    plan.cache_clear()
    with pytest.raises(ConfigurationError, match="another configuration"):
        plan("arms=[rnn,rnn_ln]", "seeds=1")


def test_a_command_can_be_typed_again():
    typed = ["arms=[rnn,'rnn model.eps=1e-3']", "seeds=2", "data.files=a b.csv"]
    assert shlex.split(read_settings(typed).command) == ["lnrnn", "compare", *typed]


def test_comparisons_that_train_differently_lie_apart():
    _, runs = plan("arms=[rnn,rnn_ln]", "seeds=1")

    def folder(*arguments: str) -> str:
        settings = read_settings(["arms=[rnn,rnn_ln]", *arguments])
        return str(result_folder(settings, runs["rnn"][0]))

    plain = "runs/japanese_vowels/compare/rnn-vs-rnn_ln"
    # More seeds are the same comparison known better; how it is made changes nothing in it.
    for same in ("seeds=2", "jobs=1", "train=false", "cost=false", "trainer.accelerator=cpu"):
        assert folder(same) == plain
    assert folder("data=mnist1d") == "runs/mnist1d/compare/rnn-vs-rnn_ln"
    longer = folder("trainer.max_epochs=5")
    assert longer == f"{plain}-max_epochs-5"
    rates = ("trainer.max_epochs=5", "lr=[3e-3,1e-3]")
    assert folder(*rates) == f"{longer}-grid-0.001-0.003"
    assert folder(*rates, "tuning_seeds=3") == f"{longer}-tuned-0.001-0.003"
    # A key that only these arms' models have.
    heads, _ = plan("seeds=1", "arms=[transformer,transformer_post]", "model.num_heads=2")
    root = "runs/japanese_vowels/compare/"
    assert str(heads) == f"{root}transformer-vs-transformer_post-num_heads-2"


def test_every_seed_is_run_on_every_split():
    folder, runs = plan("arms=[rnn,rnn_ln]", "data=digits", "seeds=2", "splits=3")
    assert str(folder) == "runs/digits/compare/rnn-vs-rnn_ln-splits"
    for members in runs.values():
        found = [(run.config.seed, run.config.data.split_seed) for run in members]
        assert found == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    # The first split is the data's own, so that runs which are there are reused.
    paths = [str(folder_of(run).path) for run in runs["rnn"][:2]]
    assert paths == ["runs/digits/rnn/seed0", "runs/digits/rnn-split_seed-1/seed0"]
    assert [task.title for task in tasks_of(runs)][:3] == [
        "rnn, seed 0, split 1",
        "rnn_ln, seed 0, split 1",
        "rnn, seed 0, split 2",
    ]
    more, _ = plan("arms=[rnn,rnn_ln]", "data=digits", "seeds=1", "splits=4")
    assert more == folder


@pytest.mark.parametrize(
    ("arguments", "key", "seeds"),
    [
        (("data=mnist1d",), "data_seed", [42, 43, 44]),
        (("data=adding",), "data_seed", [0, 1, 2]),
        (("data=digits", "data.split_seed=7"), "split_seed", [7, 8, 9]),
        (("data=japanese_vowels", "data.test=0.5"), "split_seed", [0, 1, 2]),
        (("data=table_files", "data.files=a.csv", "data.num_classes=2"), "split_seed", [0, 1, 2]),
    ],
)
def test_splits_are_made_by_the_seed_that_the_data_name(arguments, key, seeds):
    _, runs = plan("arms=[gru,gru_ln]", "seeds=1", "splits=3", *arguments)
    assert [run.config.data[key] for run in runs["gru_ln"]] == seeds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("splits=3",), r"data=japanese_vowels is fixed: .*published.*data.test=0.5 pools"),
        (("splits=3", "data=sunspots"), "is fixed: its last years"),
        (("splits=3", "data=shakespeare"), "is fixed: whole plays"),
        (("splits=2", "data=digits"), "at least 3"),
        (("splits=0", "data=digits"), "splits must be at least 1"),
        (("splits=3", "data=digits", "lr=[1e-3,1e-2]"), "no test accounts for both: choose"),
        (("splits=3", "data=digits", "primary=steps_to_90"), "take primary=area"),
        (
            ("splits=3", "data=digits", "arms=[rnn,'rnn_ln data.split_seed=1']"),
            "the data of 'rnn_ln data.split_seed=1' are not those of 'rnn'",
        ),
    ],
)
def test_splits_that_would_say_nothing_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        plan("arms=[rnn,rnn_ln]", "seeds=1", *arguments)


def test_a_folder_and_a_checkpoint_are_of_one_split():
    one, other = (
        compose("model=rnn", "data=digits", f"data.split_seed={seed}", "name=x") for seed in (1, 2)
    )
    folder = folder_of(one)
    assert folder == folder_of(other)
    folder.path.mkdir(parents=True)
    OmegaConf.save(one.config, folder.config)
    with pytest.raises(ConfigurationError, match=r"-data.split_seed: 1\n\+data.split_seed: 2"):
        check_configuration(folder, other.config)
    first, second = (
        contract_of(run.config, SimpleNamespace(fingerprint="same")) for run in (one, other)
    )
    assert {key for key in first if first[key] != second[key]} == {"data.split_seed"}


def test_folders_have_the_splits_that_they_have():
    Path("old/rnn/seed0").mkdir(parents=True)
    settings = read_settings(["arms=[old/rnn,old/rnn]", "train=false", "splits=3"])
    with pytest.raises(ConfigurationError, match="splits would choose runs, but the arms are"):
        are_folders(settings)


def test_names_of_folders_are_short_and_tell_arms_apart():
    texts = ["rnn a=1", "rnn a_1", "rnn_a=1", "rnn_a_1", "x" * 100, "x" * 101, "x" * 102, "rnn é"]
    names = [short(text) for text in texts]
    assert len(set(names)) == len(texts)
    assert names[3:5] == texts[3:5]
    assert max(map(len, names)) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in names)
    assert len(result_name([text * 9 for text in texts], "y" * 60)) == 100


def test_an_arm_with_itself_has_two_names_and_is_trained_once():
    _, runs = plan('arms=["rnn  model.eps=1e-3","rnn model.eps=1e-3",rnn]', "seeds=2")
    assert list(runs) == ["rnn model.eps=1e-3", "rnn model.eps=1e-3 (2)", "rnn"]
    first, second, other = ([folder_of(run) for run in members] for members in runs.values())
    assert first == second != other
    titles = [task.title for task in tasks_of(runs)]
    assert titles == [
        "rnn model.eps=1e-3, seed 0",
        "rnn, seed 0",
        "rnn model.eps=1e-3, seed 1",
        "rnn, seed 1",
    ]
    assert list(name_arms(["a", "a", "a"])) == ["a", "a (2)", "a (3)"]


def test_every_arm_is_tuned_over_the_same_rates_on_seeds_of_their_own():
    settings = read_settings(["arms=[rnn,rnn_ln]", "lr=[1e-2,1e-3]", "tuning_seeds=2", "seeds=2"])
    tuning = tuning_runs(settings)
    for arm in ("rnn", "rnn_ln"):
        assert list(tuning[arm]) == [1e-3, 1e-2]
        for rate, members in tuning[arm].items():
            assert [run.config.optimizer.lr for run in members] == [rate, rate]
            assert [run.config.seed for run in members] == [1000, 1001]
    every_seed = tuning_runs(replace(settings, tuning_seeds=None))
    assert [run.config.seed for run in every_seed["rnn"][1e-3]] == [0, 1]
    runs = compared_runs(settings, {"rnn": 1e-3, "rnn_ln": 1e-2})
    assert [[run.config.optimizer.lr for run in members] for members in runs.values()] == [
        [1e-3, 1e-3],
        [1e-2, 1e-2],
    ]
    assert [run.config.seed for run in runs["rnn"]] == [0, 1]
    # The folder is the one that a person who types the rate gets.
    assert folder_of(runs["rnn"][0]).path.parent.name == "rnn-lr-1e-3"


@pytest.mark.parametrize(
    ("error", "message", "diverged"),
    [
        (NonFiniteError("the loss is nan."), "the loss is nan.", True),
        (ConfigurationError("in use"), "in use", False),
        (CheckpointError("disk full"), "disk full", False),
        (RuntimeError("surprise"), "RuntimeError: surprise", False),
        (MemoryError(), "MemoryError: ", False),
    ],
)
def test_whatever_ends_a_run_is_told(error, message, diverged, monkeypatch, capsys):
    def fail(experiment, *, leased):
        raise error

    monkeypatch.setattr(attempting, "train", fail)
    assert attempt(EXPERIMENT) == Failure(message, diverged)
    expected = isinstance(error, (NonFiniteError, ConfigurationError, CheckpointError))
    assert ("Traceback" in capsys.readouterr().err) is not expected


def test_what_diverged_is_kept_and_what_failed_is_tried_again():
    _, runs = plan("seeds=1", "arms=[rnn,rnn_ln,rnn_lncell,gru]")
    tasks = list(tasks_of(runs))
    records = [
        {"status": "failed", "error": "NonFiniteError: the loss is nan at step 3."},
        {"status": "failed", "error": "CheckpointError: no space left"},
        {"status": "running"},
    ]
    for task, record in zip(tasks, records, strict=False):
        task.folder.mkdir(parents=True)
        (task.folder / "run.json").write_text(json.dumps(record))
    (tasks[2].folder / "run.json").write_text("{")  # damaged
    waiting, diverged = sort_out(tasks)
    assert waiting == tasks[1:]
    ((task, failure),) = diverged
    assert task == tasks[0]
    assert failure.diverged
    assert failure.message.startswith("the loss is nan at step 3. It diverged")
    assert failure.message.endswith(f"to train it again, remove {task.folder}")


def test_missing_runs_are_counted_and_named(capsys):
    _, runs = plan("arms=[rnn,rnn_ln]", "seeds=1")
    tasks = list(tasks_of(runs))
    tasks[0].folder.mkdir(parents=True)
    (tasks[0].folder / "run.json").write_text("{}")
    name_missing(tasks, Console())
    printed = capsys.readouterr().out
    assert "1 of 2 runs are missing" in printed
    assert f"rnn_ln, seed 0: {tasks[1].folder}" in printed


def test_the_share_of_a_run_that_is_done_comes_from_its_records():
    experiment = compose("model=rnn", "trainer.max_epochs=4")
    assert share_done(experiment) == 0
    records = folder_of(experiment).metrics
    records.parent.mkdir(parents=True)
    line = json.dumps({"step": 7, "epoch": 0, "name": "val/loss", "value": 1.0})
    records.write_text(f"{line}\n" * 50)
    assert share_done(experiment) == 0.25
    records.write_text(f"{line}\n" + line[:20])
    assert share_done(experiment) == 0
    experiment.config.trainer.max_steps = 14
    records.write_text(f"{line}\n")
    assert share_done(experiment) == 0.5


class Cost:
    """Stands in for the measurement, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, arms):
        self.calls += 1
        names = list(arms)
        shared = {"parameters": 5, "seconds_per_step": 0.1, "quartiles": [0.1, 0.1]}
        shared |= {"items_per_second": 5.0, "unit": "sequences", "peak_memory": None}
        first = {"ratio": None, "ratio_quartiles": None}
        other = {"ratio": 2.0, "ratio_quartiles": [1.9, 2.1]}
        entries = [
            {"name": name, **shared, **(other if i else first)} for i, name in enumerate(names)
        ]
        return {"machine": {}, "threads": 1, "rounds": self.calls, "arms": entries}


@pytest.fixture
def measure(monkeypatch):
    measure = Cost()
    monkeypatch.setattr(costing, "measure_cost", measure)
    monkeypatch.setattr(costing, "current_commit", lambda: "0123")
    return measure


def first_runs(*arguments: str):
    return {name: members[0] for name, members in plan(*arguments, "seeds=1")[1].items()}


def test_a_cost_is_measured_once_for_the_same_arms_and_surroundings(measure, monkeypatch):
    folder, arms = Path("result"), first_runs("arms=[rnn,rnn_ln]")
    first = costing.cost_of(arms, folder, measure=True)
    assert costing.cost_of(arms, folder, measure=True) == first
    assert measure.calls == 1
    other = first_runs('arms=[rnn,"rnn_ln model.eps=1e-3"]')
    assert costing.cost_of(other, folder, measure=False) is None
    costing.cost_of(other, folder, measure=True)
    assert measure.calls == 2
    changes = {
        "current_commit": "4567",
        "installed_versions": {"torch": "0"},
        "describe_machine": {"threads": 99},
    }
    for number, (name, value) in enumerate(changes.items(), start=3):
        monkeypatch.setattr(costing, name, lambda *_, value=value: value)
        costing.cost_of(other, folder, measure=True)
        assert measure.calls == number
        assert costing.cost_of(other, folder, measure=True) is not None
        assert measure.calls == number
    (folder / "cost.json").write_text("{")  # damaged
    costing.cost_of(other, folder, measure=True)
    assert measure.calls == 6


def test_a_cost_is_measured_again_where_nobody_can_tell_what_changed(measure, monkeypatch):
    monkeypatch.setattr(costing, "current_commit", lambda: "0123+")
    arms = first_runs("arms=[rnn,rnn_ln]")
    for calls in (1, 2):
        costing.cost_of(arms, Path("result"), measure=True)
        assert measure.calls == calls
    # Without training, what there is is taken, wherever it was measured.
    kept = costing.cost_of(arms, Path("result"), measure=False)
    assert kept is not None
    assert kept["rounds"] == 2


def test_arms_that_are_the_same_run_share_their_cost(measure):
    cost = costing.cost_of(first_runs("arms=[rnn,rnn_ln,rnn]"), Path("result"), measure=True)
    assert cost is not None
    found = [(arm["name"], arm["ratio"], arm["ratio_quartiles"]) for arm in cost["arms"]]
    assert found == [
        ("rnn", None, None),
        ("rnn_ln", 2.0, [1.9, 2.1]),
        ("rnn (2)", 1.0, [1.0, 1.0]),
    ]


def pair(arm: str, ratio: float | None, *, supported: bool, share: float = 0.9):
    steps = {"ratio": ratio, "supported": supported, "n": 6}
    return {"baseline": "rnn", "arm": arm, "speed": [{"share": share, "steps": steps}]}


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([pair("a", 1.2, supported=True), pair("b", 3.0, supported=True)], []),
        ([pair("a", 1.19, supported=True)], ["a against rnn: 1.19 times fewer .* supported"]),
        ([pair("a", 1.5, supported=False)], [r"a against rnn: 1.5 .*, not supported \(pairs: 6\)"]),
        ([pair("a", 9.0, supported=True), pair("b", None, supported=False)], ["b .* no ratio"]),
        ([pair("a", 9.0, supported=True, share=0.5)], ["a .* there is no 90 % target"]),
    ],
)
def test_a_required_speed_up_must_be_there_for_every_arm_and_supported(pairs, words):
    reasons = unmet({"pairs": pairs}, 1.2)
    assert len(reasons) == len(words)
    assert all(re.search(word, reason) for word, reason in zip(words, reasons, strict=True))


def test_processes_that_cannot_even_start_are_an_error(monkeypatch):
    monkeypatch.setattr(pooling, "MODULE", "lnrnn.study.nothing")
    tasks = [Task(f"seed {seed}", EXPERIMENT) for seed in range(9)]
    pool = pooling.Pool(tasks, 2, 1, Overview("training", tasks, Console()))
    with pytest.raises(pooling.WorkerError, match=r"No module named lnrnn\.study\.nothing"):
        pool.run()


@pytest.mark.parametrize(
    ("code", "before", "after", "lost"),
    [
        (TAKEN, "running", "running", 0),  # the record is of the process that took the run over
        (-9, "finished", "finished", 1),
        (-9, "running", "failed", 1),
    ],
)
def test_a_lost_process_spoils_no_record_of_another(code, before, after, lost):
    task = Task("seed 0", EXPERIMENT)
    task.folder.mkdir(parents=True)
    (task.folder / "run.json").write_text(json.dumps({"status": before}))
    overview = Overview("training", [task], Console(), shared=True)
    pool = pooling.Pool([], 2, 1, overview, shared=True)
    process = SimpleNamespace(wait=lambda: code)
    worker: Any = SimpleNamespace(
        task=task, ready=True, process=process, new_output=str, discard=str
    )
    pool.workers = [worker]
    overview.begin(task)
    pool._bury(worker)
    assert json.loads((task.folder / "run.json").read_text())["status"] == after
    assert len(overview.failures) == lost


class Process:
    """A worker's process that notes what it is sent."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def poll(self) -> None:
        return None

    def send_signal(self, number: int) -> None:
        self.sent.append(number)


@pytest.mark.parametrize(
    ("number", "passed", "asked"),
    [(signal.SIGUSR1, signal.SIGTERM, 1), (signal.SIGINT, signal.SIGINT, 0)],
)
def test_a_signal_is_passed_on_and_a_requeue_asked_for_once(number, passed, asked, monkeypatch):
    pool, requeues = pooling.Pool([], 2, 1, Overview("training", [], Console())), []
    workers = [SimpleNamespace(process=Process(), finish=int, discard=int) for _ in range(2)]
    monkeypatch.setattr(pool, "workers", workers)
    monkeypatch.setattr(pool, "_work", lambda: os.kill(os.getpid(), number))
    monkeypatch.setattr(pooling, "ask_for_requeue", lambda: requeues.append(1) or "requeued")
    handler = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught:
        pool.run()
    assert caught.value.code == 128 + number
    assert [worker.process.sent for worker in workers] == [[passed], [passed]]
    assert len(requeues) == asked
    assert signal.getsignal(number) is handler


def test_how_a_process_ended_is_said_in_words():
    assert "memory" in ending_of(-9)
    assert ending_of(-11) == "killed by SIGSEGV"
    assert ending_of(3) == "exit code 3"
