"""Loggers, with their real packages and without a network: what they hold is read back."""

import json
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from experiments import CLASSIFIER, Interruption, compose, interrupt_call, only, run

from lnrnn.runs.metrics import read_metrics
from lnrnn.runs.record import RecordError, read_record
from lnrnn.training import ConfigurationError, RunFolder, train

pytestmark = pytest.mark.filterwarnings("ignore")  # of other packages, which are not ours to mend
# The checkpoint is of step 5, and what was recorded at steps 6, 7 and 9 is recorded once more.
KILLED = ("training_step", 9)
SHORT = (*CLASSIFIER, "trainer.max_epochs=2", "checkpoint_every_n_steps=5", "name=logged")


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    for name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "WANDB_SILENT"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def expected(folder: RunFolder) -> dict[str, list[tuple[int, float]]]:
    """What metrics.jsonl holds: name to (step, value)."""
    found = defaultdict(list)
    for entry in read_metrics(folder.metrics):
        found[entry.name].append((entry.step, pytest.approx(entry.value, rel=1e-6)))
    return found


def in_tensorboard(folder: RunFolder) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator(str(folder.path / "tensorboard"))
    accumulator.Reload()
    return {
        name: [(event.step, event.value) for event in accumulator.Scalars(name)]
        for name in accumulator.Tags()["scalars"]
    }


def records_of(file: Path) -> Iterator[Any]:
    """The records of a ``.wandb`` file: LevelDB's log format behind a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2 as proto

    content, place, parts = file.read_bytes(), 7, b""
    assert content.startswith(b":W&B")
    while place + 7 <= len(content):
        if (left := -place % 32768) < 7:  # a block's end, too short for another header
            place += left
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield cast(Any, proto).Record.FromString(parts)
            parts = b""


def in_wandb(folder: RunFolder) -> dict[str, list[dict[str, Any]]]:
    """Identity of a run to what its sessions logged, in order."""
    runs = defaultdict(list)
    for file in sorted(folder.path.glob("wandb/offline-run-*/*.wandb")):
        records = list(records_of(file))
        (identity,) = {record.run.run_id for record in records if record.HasField("run")}
        for record in records:
            if record.HasField("history"):
                items = record.history.item
                line = {i.key or i.nested_key[0]: json.loads(i.value_json) for i in items}
                runs[identity].append(line)
            if record.HasField("exit"):
                runs[identity].append({"exit": record.exit.exit_code})
    return runs


def in_mlflow(root: Path) -> list[SimpleNamespace]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("lnrnn")
    assert experiment is not None
    found = []
    for entry in client.search_runs([experiment.experiment_id], order_by=["start_time"]):
        names = entry.data.metrics
        histories = {name: client.get_metric_history(entry.info.run_id, name) for name in names}
        values = {n: [(m.step, m.value) for m in history] for n, history in histories.items()}
        found.append(SimpleNamespace(info=entry.info, params=entry.data.params, values=values))
    return found


def test_tensorboard_holds_every_value_once_after_an_interruption(tmp_path, monkeypatch):
    folder = run(("logger=tensorboard", *SHORT), tmp_path, KILLED, monkeypatch=monkeypatch)
    held, wanted = in_tensorboard(folder), expected(folder)
    assert len(list((folder.path / "tensorboard").glob("events.*"))) > 1
    assert held == wanted  # so there is no hp_metric


def test_wandb_continues_its_run_and_every_run_of_a_process_has_one(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    offline = ("logger=wandb", "logger.offline=true", *SHORT)
    first = run(offline, tmp_path, KILLED, monkeypatch=monkeypatch)
    second = run((*offline, "seed=1"), tmp_path, monkeypatch=monkeypatch)
    identities = []
    for folder, sessions in ((first, 2), (second, 1)):
        ((identity, logged),) = in_wandb(folder).items()
        assert identity == folder.read_record().identity
        assert [line["exit"] for line in logged if "exit" in line] == [1, 0][-sessions:]
        for name, points in expected(folder).items():
            held = [(line["trainer/global_step"], line[name]) for line in logged if name in line]
            assert dict(held) == dict(points)
        identities.append(identity)
    assert len({*identities}) == 2


def test_a_run_of_wandb_that_is_not_ours_is_not_used(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    with wandb.init(mode="offline", dir=str(tmp_path)) as own:
        with pytest.raises(ConfigurationError, match=r"call wandb\.finish\(\) first"):
            train(compose("logger=wandb", "logger.offline=true", *SHORT), tmp_path)
        assert wandb.run is own


def test_mlflow_has_a_store_that_works_and_continues_its_run(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    with_mlflow = ("logger=mlflow", *SHORT)
    first = run(with_mlflow, tmp_path, KILLED, monkeypatch=monkeypatch)
    with monkeypatch.context() as patch:
        interrupt_call(patch, *KILLED)
        with pytest.raises(Interruption):
            train(compose(*with_mlflow, "seed=1"), tmp_path)
    # What may be changed where a run is resumed must not meet MLflow's unchangeable parameters.
    second, _ = train(compose(*with_mlflow, "seed=1", "checkpoint_every_n_steps=4"), tmp_path)
    held = in_mlflow(tmp_path)
    assert [entry.info.status for entry in held] == ["FINISHED"] * 2
    assert [entry.info.run_name for entry in held] == [
        "japanese_vowels/lstm_ln-logged/seed0",
        "japanese_vowels/lstm_ln-logged/seed1",
    ]
    for folder, entry in zip((first, second), held, strict=True):
        assert {n: dict(points) for n, points in entry.values.items()} == {
            n: dict(points) for n, points in expected(folder).items()
        }
        assert entry.params["model/hidden_size"] == "8"


OPENING = """
import sys
from pathlib import Path
from lnrnn.training import loggers
home = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
uri = f"sqlite:///{home / loggers.STORE}"
loggers._known_to_mlflow(uri, "lnrnn", home.as_uri(), loggers.Identity("0" * 32, home))
"""


def test_processes_that_begin_at_once_make_one_store_of_mlflow(tmp_path):
    pytest.importorskip("mlflow")
    command = [sys.executable, "-W", "ignore", "-c", OPENING, str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    children: list[Any] = [
        subprocess.Popen(command, **pipes, stderr=subprocess.PIPE) for _ in range(3)
    ]
    for child in children:
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        child.stdin.write(b"\n")
        child.stdin.flush()
    told = [child.communicate(timeout=120)[1].decode() for child in children]
    assert [child.returncode for child in children] == [0] * 3, told
    assert in_mlflow(tmp_path) == []


def test_a_store_that_cannot_be_used_is_named_without_advice_to_install(tmp_path):
    pytest.importorskip("mlflow")
    (tmp_path / "mlflow.db").write_text("this is not a database, whatever its name says" * 99)
    with pytest.raises(ConfigurationError, match=r"store sqlite.*cannot be used") as caught:
        train(compose("logger=mlflow", *SHORT), tmp_path)
    assert "pip install" not in str(caught.value)


def test_a_run_that_mlflow_does_not_know_yet_gets_its_configuration(tmp_path, monkeypatch):
    """It has an identity already, but a store that was removed since does not know it."""
    pytest.importorskip("mlflow")
    with monkeypatch.context() as patch:
        interrupt_call(patch, *KILLED)
        with pytest.raises(Interruption):
            train(compose("logger=mlflow", *SHORT), tmp_path)
    RunFolder(only(tmp_path.glob("*/*/seed0"))).update_record(identity="0" * 32)
    train(compose("logger=mlflow", *SHORT), tmp_path)
    assert [entry.params["model/hidden_size"] for entry in in_mlflow(tmp_path)] == ["8", "8"]


def test_a_run_that_fails_is_said_to_have_failed(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from lnrnn.training import NonFiniteError

    with pytest.raises(NonFiniteError):
        train(compose("logger=mlflow", "optimizer=sgd", "optimizer.lr=1e38", *SHORT), tmp_path)
    assert [entry.info.status for entry in in_mlflow(tmp_path)] == ["FAILED"]


def test_an_identity_is_kept_only_where_there_is_a_logger_and_is_what_we_wrote(tmp_path):
    folder, record = train(compose(*SHORT, "trainer.max_epochs=1"), tmp_path)
    assert record.identity is None
    assert "identity" not in folder.record.read_text()
    folder.update_record(identity="../elsewhere")
    with pytest.raises(RecordError, match="identity must be 32 hexadecimal digits"):
        read_record(folder.record)


@pytest.mark.parametrize(("name", "package"), [("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_missing_package_is_named_with_its_extra(name, package, tmp_path, monkeypatch):
    module = f"lightning.pytorch.loggers.{name}"
    monkeypatch.setattr(f"{module}._{package.upper()}_AVAILABLE", False)
    monkeypatch.setattr(f"{module}._MLFLOW_SKINNY_AVAILABLE", False, raising=False)
    with pytest.raises(ConfigurationError, match=rf"pip install 'lnrnn\[{name}\]'"):
        train(compose(f"logger={name}", *SHORT), tmp_path)
    assert not list(tmp_path.rglob("metrics.jsonl"))
