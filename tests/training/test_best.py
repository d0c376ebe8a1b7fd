"""The weights of the best validation: kept, tested if asked, and the same after an interruption."""

import json
import shutil

import pytest
import torch
from experiments import (
    CLASSIFIER,
    LANGUAGE_MODEL,
    QUIET,
    Interruption,
    compose,
    interrupt_call,
    run,
)
from same_runs import assert_same_run, kept_for_use

from lnrnn.data import japanese_vowels
from lnrnn.runs.best_files import best_files, improvements, newest_best, step_of, write_best
from lnrnn.runs.checkpoint_files import CheckpointError, order_of, write_checkpoint
from lnrnn.runs.folder import derive_name
from lnrnn.runs.metrics import Entry, read_metrics
from lnrnn.runs.tensor_files import read_tensors
from lnrnn.training import ConfigurationError, RunFolder, best, checkpoint_io, evaluate, fit, train
from lnrnn.training.best import BestWeights

# A rate at which this model is best in the middle, and not at its end.
WORSE = (*CLASSIFIER, "optimizer.lr=0.3", "trainer.max_epochs=6", "name=worse")


@pytest.fixture(scope="module")
def worse(tmp_path_factory) -> RunFolder:
    return train(compose(*WORSE, "test=best"), tmp_path_factory.mktemp("runs"))[0]


def losses(folder: RunFolder, metric: str = "val/loss") -> dict[int, float]:
    return {e.step: e.value for e in read_metrics(folder.metrics) if e.name == metric}


def test_the_best_weights_are_kept_and_tested(worse):
    values = losses(worse)
    step = min(values, key=lambda s: values[s])
    assert step != max(values), "this run must not be best at its end"
    record = worse.read_record()
    assert record.tested == "best"
    assert record.best == {"step": step, "metric": "val/loss", "value": values[step]}
    (path,) = best_files(worse.checkpoints)
    assert step_of(path) == step
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert manifest["value"] == values[step]
    assert {"sha256", "bytes", "versions"} < manifest.keys()


def test_they_are_the_weights_of_that_step(worse, tmp_path):
    step = worse.read_record().best["step"]
    shorter = train(compose(*WORSE, f"trainer.max_steps={step}", "name=shorter"), tmp_path)[0]
    newest = shorter.newest_checkpoint()
    assert newest is not None
    state = torch.load(newest, weights_only=True)["state_dict"]
    kept = read_tensors(best_files(worse.checkpoints)[0])[0]
    assert state.keys() == {f"model.{name}" for name in kept}
    assert all(torch.equal(state[f"model.{name}"], value) for name, value in kept.items())


def test_evaluate_takes_what_was_tested_or_what_is_asked_for(worse, tmp_path):
    record = worse.read_record()
    evaluation = evaluate(worse.path)
    assert (evaluation.weights, evaluation.metrics) == ("best", record.metrics)
    assert evaluate(worse.path, weights="best").metrics == record.metrics
    last = evaluate(worse.path, weights="last")
    assert last.weights == "last"
    assert last.metrics != record.metrics
    today = train(compose(*WORSE), tmp_path)[1]
    assert (today.tested, today.metrics) == ("last", last.metrics)
    with pytest.raises(ConfigurationError, match="weights must be best, last or null"):
        evaluate(worse.path, weights="first")


def test_with_early_stopping_the_best_are_tested(tmp_path):
    folder, record = train(compose(*WORSE, "early_stopping=1"), tmp_path)
    values = losses(folder)
    assert record.tested == "best"
    assert record.best["value"] == min(values.values()) != values[max(values)]
    _, last = train(compose(*WORSE, "early_stopping=1", "test=last", "name=last"), tmp_path)
    assert last.tested == "last"
    assert last.metrics != record.metrics


def test_by_another_metric(tmp_path):
    folder, record = train(compose(*WORSE, "monitor_metric=val/accuracy"), tmp_path)
    values = losses(folder, "val/accuracy")
    assert record.best["value"] == max(values.values())
    assert record.best["step"] == min(s for s in values if values[s] == max(values.values()))


def test_a_metric_that_the_task_lacks_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"val/f1: this task has val/accuracy, val/loss"):
        train(compose(*CLASSIFIER, "monitor_metric=val/f1"), tmp_path)


@pytest.mark.parametrize("override", ["test=first", "test=true", "monitor_metric=3"])
def test_other_values_are_refused(override):
    with pytest.raises(ConfigurationError, match=override.partition("=")[0]):
        compose(*CLASSIFIER, override)


@pytest.mark.parametrize("call", [0, 8, 16, 17, 20, 23, 24, 30, 41])
def test_after_an_interruption_all_of_it_is_the_same(call, worse, tmp_path, monkeypatch):
    interrupted = run(
        (*WORSE, "test=best"), tmp_path, ("training_step", call), monkeypatch=monkeypatch
    )
    assert_same_run(interrupted, worse)


@pytest.mark.parametrize("call", [9, 17, 22, 24, 31])
def test_a_kill_loses_nothing_that_is_not_made_again(call, worse, tmp_path, monkeypatch):
    """A kill leaves no time to write the weights that are in memory."""
    overrides = (*WORSE, "test=best", "checkpoint_every_n_steps=10")
    with monkeypatch.context() as patch:
        patch.setattr(BestWeights, "on_exception", lambda *given: None)
        interrupt_call(patch, "training_step", call)
        with pytest.raises(Interruption):
            train(compose(*overrides), tmp_path)
    assert kept_for_use(train(compose(*overrides), tmp_path)[0]) == kept_for_use(worse)


def test_they_are_on_the_disk_before_a_checkpoint_that_knows_of_them(tmp_path, monkeypatch):
    """And are not written for every new best in between."""
    seen, written = {}, []

    def count(found, *given):
        written.append(found.step)
        write_best(found, *given)

    def note(checkpoint, path, **settings):
        seen[order_of(path)[0]] = [step_of(best) for best in best_files(path.parent)]
        assert newest_best(path.parent)[1] == {}, "each must be whole"
        write_checkpoint(checkpoint, path, **settings)

    monkeypatch.setattr(best, "write_best", count)
    monkeypatch.setattr(checkpoint_io, "write_checkpoint", note)
    settings = ("trainer.max_epochs=5", "checkpoint_every_n_steps=20")
    folder, _ = train(compose(*CLASSIFIER, *settings), tmp_path)
    values = losses(folder)
    assert sorted(values, key=lambda s: -values[s]) == [7, 14, 21, 28, 35], "each the best yet"
    assert written == [14, 35]
    assert seen == {20: [14], 35: [35, 14]}


def test_a_full_disk_ends_the_run_as_it_does_for_a_checkpoint(tmp_path, monkeypatch):
    def fail(*given):
        raise CheckpointError("could not save: no space left on device")

    monkeypatch.setattr(best, "write_best", fail)
    with pytest.raises(CheckpointError, match="no space left"):
        train(compose(*CLASSIFIER, "checkpoint_every_n_steps=10"), tmp_path)
    folder = RunFolder(next(tmp_path.glob("*/*/seed0")))
    assert folder.newest_checkpoint() is None, "it would know of weights that are nowhere"


def test_what_a_void_validation_left_is_removed(worse, tmp_path, monkeypatch):
    """A kill after a validation and before the next save: the run goes back, and the file too."""
    overrides = (*WORSE, "test=best", "checkpoint_every_n_steps=1000")
    with monkeypatch.context() as patch:
        interrupt_call(patch, "training_step", 22)
        with pytest.raises(Interruption):
            train(compose(*overrides), tmp_path)
    folder = RunFolder(next(tmp_path.glob("*/*/seed0")))
    assert best_files(folder.checkpoints)
    assert folder.newest_checkpoint() is None
    with monkeypatch.context() as patch:
        interrupt_call(patch, "training_step", 0)
        with pytest.raises(Interruption):
            train(compose(*overrides), tmp_path)
    assert not [*folder.checkpoints.glob("best-*")]
    assert kept_for_use(train(compose(*overrides), tmp_path)[0]) == kept_for_use(worse)


def test_weights_that_a_checkpoint_calls_best_outlive_better_ones(tmp_path, monkeypatch):
    """Else a run that resumes elsewhere, where the next validation is no better, had none."""
    overrides = (*CLASSIFIER, "trainer.max_epochs=5", "checkpoint_every_n_steps=10")
    with monkeypatch.context() as patch:
        interrupt_call(patch, "training_step", 22)
        with pytest.raises(Interruption):
            train(compose(*overrides), tmp_path)
    folder = RunFolder(next(tmp_path.glob("*/*/seed0")))
    values = losses(folder)
    assert [*values] == [7, 14, 21]
    assert sorted(values, key=lambda s: -values[s]) == [7, 14, 21], "each must be the best yet"
    assert folder.newest_checkpoint().name == "step-00000020.ckpt"  # pyright: ignore[reportOptionalMemberAccess]
    assert [step_of(path) for path in best_files(folder.checkpoints)] == [21, 14, 7]


def test_a_run_of_a_version_that_kept_none_tests_its_last(worse, tmp_path, monkeypatch):
    overrides = (*WORSE, "test=best")
    step = worse.read_record().best["step"]
    with monkeypatch.context() as patch:
        interrupt_call(patch, "training_step", step + 9)
        with pytest.raises(Interruption):
            train(compose(*overrides), tmp_path)
    folder = RunFolder(next(tmp_path.glob("*/*/seed0")))
    for path in folder.checkpoints.glob("best-*"):
        path.unlink()
    folder.model.unlink()
    with pytest.warns(UserWarning, match="the last weights are tested and not the best"):
        _, record = train(compose(*overrides), tmp_path)
    assert record.tested == "last"
    assert record.metrics == evaluate(worse.path, weights="last").metrics
    assert folder.model.exists()


def test_a_folder_that_lacks_the_keys_is_the_same_run(worse, tmp_path):
    shutil.copytree(worse.path.parents[2], tmp_path / "runs")
    folder = RunFolder(next((tmp_path / "runs").glob("*/*/seed0")))
    lines = folder.config.read_text().splitlines()
    older = [line for line in lines if not line.startswith(("test:", "monitor_metric:"))]
    assert len(older) == len(lines) - 2
    folder.config.write_text("\n".join(older) + "\n")
    assert train(compose(*WORSE), tmp_path / "runs")[1].status == "finished"
    with pytest.raises(ConfigurationError, match=r"\+test: best"):
        train(compose(*WORSE, "test=best"), tmp_path / "runs")


def test_names_of_folders_are_what_they_were():
    own = ("data=table_files", "data.files=t.csv", "data.num_classes=2")
    name = "data.num_classes-2-files-t.csv-test-0.3"
    assert derive_name(compose(*own, "data.test=0.3")) == name
    assert derive_name(compose("test=best")) == "test-best"


def test_nothing_that_is_not_finite_is_best():
    values = [float("nan"), 3.0, float("-inf"), 2.0, 2.0, 2.5]
    entries = [Entry(step, "val/loss", value) for step, value in enumerate(values)]
    entries.insert(2, Entry(1, "val/accuracy", -1.0))
    found = improvements(entries, "val/loss", higher_is_better=False)
    assert [best.step for best in found] == [1, 3]
    rising = improvements(entries, "val/loss", higher_is_better=True)
    assert [best.step for best in rising] == [1]


def test_a_damaged_file_is_skipped(worse, tmp_path):
    shutil.copytree(worse.checkpoints, tmp_path / "checkpoints")
    (path,) = best_files(tmp_path / "checkpoints")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found, skipped = newest_best(tmp_path / "checkpoints")
    assert found is None
    assert "sha256" in skipped[path]


def test_without_a_validation_the_last_are_tested(tmp_path):
    overrides = (*CLASSIFIER, "trainer.limit_val_batches=0", "test=best")
    with pytest.warns(UserWarning, match="no validation was finite"):
        folder, record = train(compose(*overrides), tmp_path)
    assert (record.tested, record.best) == ("last", {})
    assert not best_files(folder.checkpoints)


def test_a_language_model_and_float64(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog; " * 20)
    overrides = (*LANGUAGE_MODEL, f"data.files={text}", "trainer.precision=64-true", "test=best")
    folder, record = train(compose(*overrides, "head.tied=true"), tmp_path)
    kept = read_tensors(best_files(folder.checkpoints)[0])[0]
    assert {value.dtype for value in kept.values()} == {torch.float64}
    assert evaluate(folder.path).metrics == record.metrics
    assert json.loads(folder.model.read_text())["symbols"] == "bytes"


def test_the_model_file_says_how_inputs_were_made(worse):
    content = json.loads(worse.model.read_text())
    assert (content["kind"], content["num_features"], content["num_classes"]) == (
        "classification",
        12,
        9,
    )
    assert len(content["scaling"]["mean"]) == len(content["scaling"]["std"]) == 12
    raw = japanese_vowels(standardize=False).splits["train"].values.double()  # pyright: ignore[reportAttributeAccessIssue]
    assert content["scaling"]["mean"] == pytest.approx(raw.mean(0).tolist(), abs=1e-12)
    assert content["scaling"]["std"] == pytest.approx(raw.std(0, correction=0).tolist(), abs=1e-12)


def test_names_of_labels_and_columns_are_kept(tmp_path):
    table = tmp_path / "t.csv"
    rows = [f"{'ab'[n % 2] * 3} {n},{('no', 'yes')[n % 2]}" for n in range(60)]
    table.write_text("words,answer\n" + "\n".join(rows) + "\n")
    overrides = (
        *("data=table_files", f"data.files={table}", "data.num_classes=2"),
        *("data.input_column=words", "data.target_column=answer", "trainer.max_steps=2"),
    )
    folder, _ = train(compose(*overrides), tmp_path)
    content = json.loads(folder.model.read_text())
    assert content["labels"] == ["no", "yes"]
    assert content["columns"] == ["words"]
    assert content["symbols"] == "bytes"


class Tone(torch.nn.Module):
    """An encoder with a buffer that safetensors cannot hold."""

    def __init__(self, num_features: int, output_size: int = 4) -> None:
        super().__init__()
        self.output_size = output_size
        self.linear = torch.nn.Linear(num_features, output_size)
        self.register_buffer("tone", torch.ones(2, dtype=torch.complex128))

    def forward(self, inputs, lengths=None, state=None):
        return self.linear(inputs), None


def test_weights_that_no_file_can_hold_do_not_end_a_run_unless_they_are_tested(tmp_path):
    settings = {"model": Tone, "trainer.max_epochs": 1, "root": tmp_path}
    with pytest.warns(UserWarning, match=r"cannot hold encoder\.tone \(torch\.complex128\)"):
        fitted = fit(*QUIET, **settings)
    assert fitted.record.tested == "last"
    assert best_files(fitted.folder.checkpoints) == []
    with pytest.raises(ConfigurationError, match="take the last weights, test=last"):
        fit(*QUIET, "test=best", **settings)
