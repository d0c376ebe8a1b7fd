"""Trials: what is asked for, that they are ordinary runs, and that none is lost."""

import csv
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from experiments import QUIET
from optuna.trial import TrialState
from sqlalchemy.exc import IntegrityError, OperationalError

from lnrnn.cli import tune as command
from lnrnn.config.compose import compose_experiment
from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.checkpoint_files import CheckpointError
from lnrnn.runs.folder import RunFolder, folder_of
from lnrnn.runs.lock import InUseError, this_process
from lnrnn.runs.record import read_record
from lnrnn.study import database, trials
from lnrnn.study.search import Space, read_search
from lnrnn.training import SequenceTask

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
SHORT = ("model=rnn", "model.hidden_size=8", "trainer.max_epochs=2", *QUIET)
COMPLETE = SimpleNamespace(state=TrialState.COMPLETE)
RATE = "optimizer.lr=log(1e-4,1e-1)"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_what_is_searched_and_what_is_shared_are_told_apart():
    search = read_search([*SHORT, RATE, "model.eps=choice(1e-5, 1e-3)", "trials=7", "jobs=2"])
    assert search.spaces == {
        "optimizer.lr": Space("log", (1e-4, 1e-1)),
        "model.eps": Space("choice", ("1e-5", "1e-3")),
    }
    assert search.shared == SHORT
    assert (search.trials, search.jobs) == (7, 2)
    assert search.folder.parent == Path("runs/japanese_vowels/tune")
    assert search.folder.name.startswith("rnn-eps-lr-")
    other = read_search([*SHORT, RATE, "model.eps=choice(1e-5,1e-4)"])
    assert search.folder != other.folder
    assert read_search([RATE, "study=mine"]).folder.name == "mine"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "nothing is searched"),
        (["optimizer.lr=log(0,1)"], "both above zero"),
        (["optimizer.lr=log(1)"], "the lowest and the highest"),
        (["optimizer.lr=uniform(2,1)"], "must be below"),
        (["model.hidden_size=int(1.5,3)"], "the lowest and the highest"),
        (["model.eps=choice(1e-5)"], "two choices or more"),
        (["model.ebs=choice(1e-5,1e-3)"], "there is no key model.ebs"),
        ([RATE, "trails=3"], "there is no key trails"),
        ([RATE, "trials=0"], "trials must be a whole number"),
        ([RATE, "study=../x"], "study must be a name"),
        ([RATE, "name=x"], "one folder"),
    ],
)
def test_what_cannot_be_searched_is_refused(words, reason):
    with pytest.raises(ConfigurationError, match=reason):
        read_search(words)


def test_processes_share_a_study_of_ordinary_runs_and_its_results_are_written(monkeypatch, capfd):
    words = [*SHORT, RATE, "trials=3"]
    monkeypatch.setattr(sys, "argv", ["lnrnn tune", *words, "jobs=2"])
    command.main()
    search = read_search(words)
    study = trials.open_study(search)
    made = trials.counted(study)
    assert len(made) in (3, 4)  # both may have begun the last one
    for trial in made:
        record = read_record(Path(trial.user_attrs["folder"]) / "run.json")
        assert trial.value is None or record.status == "finished"
    shown = capfd.readouterr().out
    assert f"best run: {study.best_trial.user_attrs['folder']}" in shown
    rows = list(csv.DictReader((search.folder / "trials.csv").read_text().splitlines()))
    assert [float(row["val/loss"]) for row in rows if row["val/loss"]] == [
        trial.value for trial in made if trial.value is not None
    ]
    for name in ("optimization_history", "slice", "parallel_coordinate", "intermediate_values"):
        assert (search.folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    before = len(study.trials)
    trials.work(search, study)  # there are enough
    assert len(trials.open_study(search).trials) == before


def test_a_trial_of_a_process_that_has_ended_is_taken_up_again():
    search = read_search([*SHORT, RATE, "trials=1"])
    study = trials.open_study(search)
    lost = study.ask({"optimizer.lr": trials.distribution_of(search.spaces["optimizer.lr"])})
    lost.set_user_attr("owner", {**this_process(), "pid": 2**22 + 1})
    trials.work(search, study)
    first, second = study.trials
    assert first.state == TrialState.FAIL
    assert second.state == TrialState.COMPLETE
    assert second.params == first.params
    assert trials.counted(study) == [second]


@pytest.mark.parametrize(
    "words",
    [["model.eps=choice(1e-4,1e-2)"], ["model.eps=choice(1e-5,1e-3)", "model.bidirectional=true"]],
)
def test_a_study_of_that_name_that_searches_something_else_is_named(words):
    same = [*SHORT, "model.eps=choice(1e-5,1e-3)", "study=mine"]
    trials.open_study(read_search(same))
    trials.open_study(read_search([*same, "data.num_workers=1"]))  # which changes no number
    with pytest.raises(ConfigurationError, match="study mine searches something else"):
        trials.open_study(read_search([*SHORT, *words, "study=mine"]))


@pytest.mark.parametrize("storage", [[], ["storage=sqlite:///studies.db"]])
def test_of_two_searches_that_begin_one_study_at_once_one_is_refused(storage, monkeypatch):
    """The second comes in between the making of the study and the note of what it is for."""
    one, other = (
        read_search([*SHORT, f"model.eps=choice({eps},1e-3)", "study=mine", *storage])
        for eps in ("1e-4", "1e-5")
    )
    original, seconds = optuna.Study.set_user_attr, []

    def note(study, key, value):
        if key == trials.SEARCHED and not seconds:
            seconds.append(pool.submit(trials.open_study, other))
            time.sleep(0.5)
        original(study, key, value)

    monkeypatch.setattr(optuna.Study, "set_user_attr", note)
    with ThreadPoolExecutor(1) as pool:
        trials.open_study(one)
        with pytest.raises(ConfigurationError, match="study mine searches something else"):
            seconds[0].result()
    assert trials.open_study(one).user_attrs[trials.SEARCHED] == trials.searched(one)


def test_a_study_whose_maker_died_before_its_note_is_taken(monkeypatch):
    search = read_search([*SHORT, "model.eps=choice(1e-4,1e-3)", "study=mine"])
    with monkeypatch.context() as patched:
        patched.setattr(optuna.Study, "set_user_attr", lambda *given: None)
        patched.setattr(trials, "PATIENCE", 0.0)
        assert trials.SEARCHED not in trials.open_study(search).user_attrs
    monkeypatch.setattr(trials, "PATIENCE", 0.2)
    assert trials.open_study(search).user_attrs[trials.SEARCHED] == trials.searched(search)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+nothing://me:secret@127.0.0.1/x", "needs the driver|cannot be used|nothing"),
        ("sqlite:////nowhere/x.db", "unable to open"),
        ("nonsense", "storage=nonsense"),
        ("postgresql+nothing://me:a:secret/b@c@127.0.0.1/x", r"storage=postgresql\+nothing://\*"),
        ("'postgresql+nothing://127.0.0.1/x?password=secret'", r"127\.0\.0\.1/x\?\*\*\*"),
    ],
)
def test_a_database_that_cannot_be_used_is_an_error_in_words(url, said):
    with pytest.raises(ConfigurationError, match=said) as error:
        trials.open_study(read_search([RATE, "study=mine", f"storage={url}"]))
    assert "secret" not in str(error.value)


def test_tables_that_another_process_makes_meanwhile_are_passed_over(tmp_path, monkeypatch):
    """As PostgreSQL and SQLite say it."""
    errors: list[Exception] = [
        IntegrityError("CREATE TYPE", None, Exception("duplicate key value")),
        OperationalError("CREATE TABLE", None, Exception("table studies already exists")),
    ]
    original = database.RDBStorage

    def connect(*given, **settings):
        if errors:
            raise errors.pop()
        return original(*given, **settings)

    monkeypatch.setattr(database, "RDBStorage", connect)
    monkeypatch.setattr(database, "PAUSE", 0.0)
    trials.open_study(read_search([RATE, "study=mine", f"storage=sqlite:///{tmp_path}/x.db"]))
    assert not errors


def test_a_database_that_is_lost_during_a_trial_is_an_error_in_words(monkeypatch, capfd, tmp_path):
    """The trial stays as it is, since nobody can be told; its run goes on with the study."""
    words = [*SHORT, RATE, "trials=1", f"storage=sqlite:///{tmp_path}/studies.db"]
    monkeypatch.setattr(sys, "argv", ["lnrnn tune", *words])

    def lose(*given):
        original = OperationalError("INSERT", None, Exception("the server closed the connection"))
        raise optuna.exceptions.StorageInternalError("a commit") from original

    with monkeypatch.context() as patched:
        patched.setattr(optuna.Trial, "report", lose)
        with pytest.raises(SystemExit) as end:
            command.main()
    assert "database cannot be used any more" in str(end.value)
    assert "the server closed the connection" in str(end.value)
    assert "Traceback" not in capfd.readouterr().err
    (trial,) = trials.open_study(read_search(words)).trials
    assert trial.state == TrialState.RUNNING
    monkeypatch.setattr(trials, "may_live", lambda owner: False)  # as for another process
    command.main()
    assert trials.open_study(read_search(words)).best_trial.params == trial.params


def test_studies_of_two_data_sets_do_not_meet_in_a_database(tmp_path):
    storage = f"storage=sqlite:///{tmp_path}/studies.db"
    names = [
        trials.open_study(read_search([RATE, "study=mine", f"data={data}", storage])).study_name
        for data in ("japanese_vowels", "mnist1d")
    ]
    assert names == ["japanese_vowels/mine", "mnist1d/mine"]


def test_a_key_that_is_added_may_be_searched():
    search = read_search([*SHORT, "+model.zoneout=uniform(0,0.5)"])
    assert list(search.spaces) == ["+model.zoneout"]


def test_the_value_is_that_of_the_weights_that_are_tested():
    search = read_search([*SHORT, "optimizer.lr=choice(0.9,1.0)", "test=best", "trials=1"])
    study = trials.open_study(search)
    study.enqueue_trial({"optimizer.lr": "1.0"})
    trials.work(search, study)
    (trial,) = study.trials
    folder = RunFolder(Path(trial.user_attrs["folder"]))
    losses = [loss for _, loss in trials.losses_of(folder)]
    assert trial.value == min(losses) != losses[-1]


def test_values_that_another_process_is_at_are_not_counted_and_others_are_drawn(monkeypatch):
    search = read_search([*SHORT, "model.eps=choice(1e-5,1e-3)", "trials=1"])
    study = trials.open_study(search)
    study.enqueue_trial({"model.eps": "1e-5"})
    folder = folder_of(compose_experiment([*SHORT, "model.eps=1e-5"]))
    original, refused = trials.train, []

    def train(experiment, **settings):
        if not refused:
            refused.append(experiment)
            raise InUseError(f"{folder.path} is in use")
        return original(experiment, **settings)

    monkeypatch.setattr(trials, "train", train)
    monkeypatch.setattr(trials, "PAUSE", 0)
    trials.work(search, study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert len(trials.counted(study)) == 1


@pytest.mark.parametrize("error", [CheckpointError("full"), OSError("full")])
def test_a_full_disk_ends_the_search_and_its_trial_is_taken_up_again(error, monkeypatch):
    search = read_search([*SHORT, RATE, "trials=2"])
    study = trials.open_study(search)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(trials, "train", fail)
    with pytest.raises(type(error)):
        trials.work(search, study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert trials.counted(study) == []


def test_settings_that_do_not_fit_end_the_search_in_words(monkeypatch, capsys):
    words = [*SHORT, "model.num_layers=choice(0,-1)", "trials=2"]
    monkeypatch.setattr(sys, "argv", ["lnrnn tune", *words])
    with pytest.raises(SystemExit, match=r"error: .*num_layers"):
        command.main()
    assert "Traceback" not in capsys.readouterr().err


def test_a_search_without_a_result_says_so(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(trials, "train", fail)
    monkeypatch.setattr(sys, "argv", ["lnrnn tune", *SHORT, RATE, "trials=1"])
    with pytest.raises(SystemExit, match="no trial was completed"):
        command.main()
    with pytest.raises(ConfigurationError, match="1 of 2 other processes"):
        command.check_end(SimpleNamespace(trials=[COMPLETE]), [0, -9])


def test_a_signal_between_runs_stops_the_processes_beside(monkeypatch):
    started = []

    def work(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    def start_others(*_):
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return started

    monkeypatch.setattr(trials, "work", work)
    monkeypatch.setattr(command, "start_others", start_others)
    monkeypatch.setattr(sys, "argv", ["lnrnn tune", *SHORT, RATE, "jobs=2"])
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        with pytest.raises(SystemExit) as stopped:
            command.main()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert started[0].returncode == -signal.SIGTERM


def test_processes_share_the_threads(monkeypatch):
    given = []
    monkeypatch.setattr(command.subprocess, "Popen", lambda *_, env: given.append(env))
    command.start_others(read_search([*SHORT, RATE, "jobs=3"]), [], 2)
    assert [env["OMP_NUM_THREADS"] for env in given] == ["2", "2"]


def test_a_trial_of_a_process_that_lives_is_left_to_it():
    search = read_search([*SHORT, RATE, "trials=1"])
    study = trials.open_study(search)
    theirs = study.ask({"optimizer.lr": trials.distribution_of(search.spaces["optimizer.lr"])})
    theirs.set_user_attr("owner", this_process())
    trials.work(search, study)
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING]


def test_an_interrupted_trial_resumes_its_run(monkeypatch):
    search = read_search([*SHORT, RATE, "trials=1"])
    study = trials.open_study(search)
    original = SequenceTask.training_step

    def interrupted(self, batch, batch_idx):
        if self.global_step == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceTask, "training_step", interrupted)
        with pytest.raises(SystemExit):
            trials.work(search, study)
    trials.work(search, study)
    first, second = study.trials
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert second.user_attrs["folder"] == first.user_attrs["folder"]
    assert read_record(Path(second.user_attrs["folder"]) / "run.json").resumed
    assert sorted(second.intermediate_values) == [7, 14]  # what it had before counts too


def test_a_trial_that_is_worse_than_others_is_pruned_and_one_that_diverges_is_as_bad_as_can_be():
    search = read_search([*SHORT, "optimizer.lr=choice(1e-2,1e38)", "optimizer=sgd", "trials=2"])
    study = trials.open_study(search)
    for rate in ("1e-2", "1e38"):
        study.enqueue_trial({"optimizer.lr": rate})
    study.pruner = optuna.pruners.ThresholdPruner(upper=1e-3)
    trials.work(search, study)
    pruned, diverged = study.trials
    assert pruned.state == TrialState.PRUNED
    record = read_record(Path(pruned.user_attrs["folder"]) / "run.json")
    assert (record.status, record.steps) == ("failed", 7)
    assert diverged.value == float("inf")
    assert "not finite" in diverged.user_attrs["error"]
