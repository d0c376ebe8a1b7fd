"""Interrupt a run anywhere, start it again, and compare with the run that was never stopped."""

from pathlib import Path

import pytest
import torch
from experiments import (
    CLASSIFIER,
    LANGUAGE_MODEL,
    Interruption,
    compose,
    interrupt_call,
    only,
    run,
)
from same_runs import assert_equal, assert_same_run, content

from lnrnn.data import long_text
from lnrnn.runs.checkpoint_files import write_checkpoint
from lnrnn.runs.machine import current_commit, installed_versions
from lnrnn.training import ConfigurationError, RunFolder, SequenceTask, evaluate, train


@pytest.fixture(scope="module")
def whole_classifier(tmp_path_factory) -> RunFolder:
    return train(compose(*CLASSIFIER), tmp_path_factory.mktemp("whole"))[0]


# An epoch has 7 steps; checkpoints fall on its steps 3 and 6 and on its end.
@pytest.mark.parametrize(
    "interruptions",
    [
        pytest.param([("training_step", 1)], id="before the first checkpoint"),
        pytest.param([("training_step", 5)], id="in the middle of an epoch"),
        pytest.param([("training_step", 6)], id="on the last batch of an epoch"),
        pytest.param([("training_step", 7)], id="on the first batch of an epoch"),
        pytest.param([("validation_step", 0)], id="before the validation of an epoch"),
        pytest.param([("on_validation_epoch_end", 1)], id="at the end of a validation"),
        pytest.param([("training_step", 17), ("training_step", 2)], id="twice"),
        pytest.param([("test_step", 0)], id="in the test"),
    ],
)
def test_an_interrupted_run_ends_as_if_nothing_had_happened(
    interruptions, whole_classifier, tmp_path, monkeypatch
):
    folder = run(CLASSIFIER, tmp_path, *interruptions, monkeypatch=monkeypatch)
    assert_same_run(folder, whole_classifier)


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(["data.num_workers=2"], id="loader processes"),
        pytest.param(["trainer.accumulate_grad_batches=3"], id="gradient accumulation"),
        pytest.param(["schedule=cosine", "warmup_steps=4"], id="warm-up and schedule"),
        pytest.param(["schedule=linear"], id="schedule from the first step"),
        pytest.param(["schedule=linear", "trainer.limit_train_batches=5"], id="short epochs"),
        pytest.param(["trainer.val_check_interval=3"], id="validation inside the epoch"),
        pytest.param(["trainer.max_epochs=-1", "trainer.max_steps=18"], id="budget in steps"),
        pytest.param(
            ["+model.zoneout=0.2", "+model.variational_dropout=0.2", "+model.weight_drop=0.2"],
            id="masks inside the recurrence",
        ),
    ],
)
def test_settings_that_resume_must_respect(extra, tmp_path, monkeypatch):
    overrides = (*CLASSIFIER, *extra)
    whole = run(overrides, tmp_path / "whole", monkeypatch=monkeypatch)
    again = run(overrides, tmp_path / "again", ("training_step", 12), monkeypatch=monkeypatch)
    assert_same_run(again, whole)


def test_windows_come_in_the_same_order(tmp_path, monkeypatch):
    data = ("data=sunspots", "data.window=16", "data.horizon=3", "trainer.limit_train_batches=7")
    overrides = (*CLASSIFIER, *data, "trainer.limit_val_batches=2", "trainer.limit_test_batches=2")
    whole = run(overrides, tmp_path / "whole", monkeypatch=monkeypatch)
    again = run(overrides, tmp_path / "again", ("training_step", 12), monkeypatch=monkeypatch)
    assert_same_run(again, whole)


def test_a_mapped_text_is_resumed_as_one_in_memory_is(tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text("It was the best of times, it was the worst of times. " * 40)
    overrides = (*LANGUAGE_MODEL, f"data.files={text}")
    whole = run(overrides, tmp_path / "whole", monkeypatch=monkeypatch)
    monkeypatch.setenv("LNRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(long_text, "LARGE", 1)
    again = run(overrides, tmp_path / "again", ("training_step", 9), monkeypatch=monkeypatch)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert_same_run(again, whole)


@pytest.mark.parametrize("call", [3, 9, 14, 21])
def test_a_language_model_carries_its_state_across(call, tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(97 + (i * i) % 26) for i in range(1200)))
    overrides = (*LANGUAGE_MODEL, f"data.files={text}")
    whole = run(overrides, tmp_path / "whole", monkeypatch=monkeypatch)
    again = run(overrides, tmp_path / "again", ("training_step", call), monkeypatch=monkeypatch)
    assert_same_run(again, whole)
    state = content(whole)[0]["carried_state"]
    assert [tuple(part.shape) for part in state] == [(1, 3, 8)]


def test_the_carried_state_matters(tmp_path, monkeypatch):
    """The test above would see it if the state were lost: without it the run ends elsewhere."""
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(97 + (i * i) % 26) for i in range(1200)))
    overrides = (*LANGUAGE_MODEL, f"data.files={text}")
    whole = run(overrides, tmp_path / "whole", monkeypatch=monkeypatch)
    forget = lambda self, checkpoint: None  # noqa: E731  the shortest way to say it
    monkeypatch.setattr(SequenceTask, "on_load_checkpoint", forget)
    again = run(overrides, tmp_path / "again", ("training_step", 9), monkeypatch=monkeypatch)
    with pytest.raises(AssertionError):
        assert_same_run(again, whole)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true", "bf16-mixed"])
def test_every_precision_keeps_its_bits(precision, tmp_path, monkeypatch):
    overrides = (*CLASSIFIER, f"trainer.precision={precision}", "trainer.max_epochs=2")
    whole = run(overrides, tmp_path / "whole", monkeypatch=monkeypatch)
    again = run(overrides, tmp_path / "again", ("training_step", 9), monkeypatch=monkeypatch)
    assert_same_run(again, whole)
    evaluation = evaluate(again.path)
    assert evaluation.metrics == evaluation.recorded
    dtypes = {value.dtype for value in content(whole)[0]["state_dict"].values()}
    kept = {"64-true": torch.float64, "bf16-true": torch.bfloat16}.get(precision, torch.float32)
    assert dtypes == {kept}


@pytest.mark.parametrize("calls", [(), (12,), (17,)])
def test_early_stopping_with_a_budget_that_ends_between_validations(calls, tmp_path, monkeypatch):
    """Ten batches an epoch, validated at its end: 18 steps end in the middle of the second."""
    budget = ("trainer.max_epochs=-1", "trainer.max_steps=18", "trainer.limit_train_batches=10")
    overrides = (*CLASSIFIER, "data.batch_size=20", *budget, "early_stopping=5")
    whole = run(overrides, tmp_path / "whole", monkeypatch=monkeypatch)
    cuts = [("training_step", call) for call in calls]
    again = run(overrides, tmp_path / "again", *cuts, monkeypatch=monkeypatch)
    assert_same_run(again, whole)


def test_early_stopping_in_a_run_that_ends_before_any_validation(tmp_path):
    budget = ("trainer.max_epochs=-1", "trainer.max_steps=3", "early_stopping=1")
    assert train(compose(*CLASSIFIER, *budget), tmp_path)[1].status == "finished"


def test_a_budget_in_steps_interrupted_in_the_test(tmp_path, monkeypatch):
    overrides = (*CLASSIFIER, "trainer.max_epochs=-1", "trainer.max_steps=10")
    whole = run(overrides, tmp_path / "whole", monkeypatch=monkeypatch)
    again = run(overrides, tmp_path / "again", ("test_step", 0), monkeypatch=monkeypatch)
    assert_same_run(again, whole)


def test_validation_by_steps_across_epochs(tmp_path, monkeypatch):
    extra = ("+trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=5")
    overrides = (*CLASSIFIER, *extra, "checkpoint_every_n_steps=5")
    whole = run(overrides, tmp_path / "whole", monkeypatch=monkeypatch)
    again = run(overrides, tmp_path / "again", ("validation_step", 4), monkeypatch=monkeypatch)
    assert_same_run(again, whole)


def test_an_older_checkpoint_makes_the_later_ones_void(whole_classifier, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_call(patch, "training_step", 20)
        with pytest.raises(Interruption):
            train(compose(*CLASSIFIER), tmp_path)
    folder = RunFolder(only(tmp_path.glob("*/*/seed0")))
    older = min(folder.checkpoints.glob("*.ckpt"))
    with monkeypatch.context() as patch:
        interrupt_call(patch, "training_step", 1)
        with pytest.raises(Interruption):
            train(compose(*CLASSIFIER, f"resume={older}"), tmp_path)
    assert folder.newest_checkpoint() == older
    assert_same_run(train(compose(*CLASSIFIER), tmp_path)[0], whole_classifier)


def test_a_run_goes_on_only_with_what_it_was_trained_with(whole_classifier, tmp_path):
    older = min(whole_classifier.checkpoints.glob("*.ckpt"))
    changed = (*CLASSIFIER, "optimizer.lr=1e-9", f"resume={older}")
    with pytest.raises(ConfigurationError, match=r"optimizer\.lr: 0\.005 in the .*, 1e-09 now"):
        train(compose(*changed), tmp_path)
    assert not list(tmp_path.iterdir())


def test_data_that_changed_under_a_run_are_noticed(tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text("abc " * 400)
    overrides = (*LANGUAGE_MODEL, f"data.files={text}")
    with monkeypatch.context() as patch:
        interrupt_call(patch, "training_step", 9)
        with pytest.raises(Interruption):
            train(compose(*overrides), tmp_path)
    before = RunFolder(only(tmp_path.glob("*/*/seed0"))).read_record().data_fingerprint
    text.write_text("xyz " * 400)
    with pytest.raises(ConfigurationError, match="fingerprint of the data"):
        train(compose(*overrides), tmp_path)
    assert RunFolder(only(tmp_path.glob("*/*/seed0"))).read_record().data_fingerprint == before


def test_resume_from_a_checkpoint_of_another_folder(whole_classifier, tmp_path):
    older = min(whole_classifier.checkpoints.glob("*.ckpt"))
    folder, _ = train(compose(*CLASSIFIER, f"resume={older}"), tmp_path)
    state, metrics, _ = content(folder)
    assert_equal(state, content(whole_classifier)[0])
    assert metrics == whole_classifier.metrics.read_bytes()[-len(metrics) :]


@pytest.fixture
def stopped(tmp_path, monkeypatch) -> RunFolder:
    """A run with two checkpoints and records after the newer one."""
    with monkeypatch.context() as patch:
        interrupt_call(patch, "training_step", 15)
        with pytest.raises(Interruption):
            train(compose(*CLASSIFIER), tmp_path)
    return RunFolder(only(tmp_path.glob("*/*/seed0")))


@pytest.mark.parametrize("torn", ["", '{"step": 15, "epo', "{}\n" * 40])
def test_records_after_the_checkpoint_are_written_again_whatever_is_left(
    torn, stopped, whole_classifier, tmp_path
):
    with stopped.metrics.open("a") as file:
        file.write(torn)
    assert_same_run(train(compose(*CLASSIFIER), tmp_path)[0], whole_classifier)


@pytest.mark.parametrize("damage", ["short", "joined"])
def test_records_that_lack_what_the_checkpoint_knows_are_refused(damage, stopped, tmp_path):
    lines = stopped.metrics.read_bytes()
    lines = lines[:100] if damage == "short" else lines.replace(b"\n", b" ")
    stopped.metrics.write_bytes(lines)
    words = r"metrics\.jsonl has \d+ bytes, but does not begin with the \d+ bytes"
    with pytest.raises(ConfigurationError, match=words):
        train(compose(*CLASSIFIER), tmp_path)
    assert stopped.metrics.read_bytes() == lines


def garble(path: Path, count: int = 20) -> bytes:
    """Overwrite bytes in the middle of a file's first line, where its length says nothing."""
    content = path.read_bytes()
    path.write_bytes(content[:10] + b"#" * count + content[10 + count :])
    return path.read_bytes()


def test_records_that_were_changed_in_place_are_refused_with_what_to_do(stopped, tmp_path):
    garbled = garble(stopped.metrics)
    words = r"metrics\.jsonl has \d+ bytes.*Put it back.*name=\.\.\. and resume=PATH"
    with pytest.raises(ConfigurationError, match=words):
        train(compose(*CLASSIFIER), tmp_path)
    assert stopped.metrics.read_bytes() == garbled
    # The way out that the message names.
    newest = stopped.newest_checkpoint()
    _, record = train(compose(*CLASSIFIER, "name=other", f"resume={newest}"), tmp_path)
    assert record.status == "finished"


def test_a_value_that_was_changed_in_place_is_noticed(stopped, tmp_path):
    """The file is still what a run could write."""
    content = stopped.metrics.read_bytes()
    stopped.metrics.write_bytes(content.replace(b'"value": 2', b'"value": 3', 1))
    assert stopped.metrics.read_bytes() != content
    with pytest.raises(ConfigurationError, match="does not begin with the"):
        train(compose(*CLASSIFIER), tmp_path)


def forget_the_digest(folder: RunFolder) -> None:
    """Make the checkpoints those of a version that noted the length alone."""
    for path in folder.checkpoints.glob("*.ckpt"):
        saved = torch.load(path, weights_only=True)
        del saved["records"]["sha256"]
        write_checkpoint(saved, path, versions={}, keep=2)


def test_a_checkpoint_without_the_digest_of_its_records_is_resumed(
    stopped, whole_classifier, tmp_path
):
    forget_the_digest(stopped)
    assert_same_run(train(compose(*CLASSIFIER), tmp_path)[0], whole_classifier)


def test_without_the_digest_records_that_cannot_be_read_are_refused(stopped, tmp_path):
    forget_the_digest(stopped)
    garble(stopped.metrics)
    with pytest.raises(ConfigurationError, match=r"metrics\.jsonl, line 1: is not valid JSON"):
        train(compose(*CLASSIFIER), tmp_path)


def test_another_version_or_commit_goes_on_with_a_warning(
    stopped, whole_classifier, tmp_path, monkeypatch
):
    monkeypatch.setattr("lnrnn.training.build.current_commit", lambda: "another")
    versions = {**installed_versions(), "torch": "9.9"}
    monkeypatch.setattr("lnrnn.training.build.installed_versions", lambda: versions)
    with pytest.warns(UserWarning, match="resumes with something else") as caught:
        folder, record = train(compose(*CLASSIFIER), tmp_path)
    here = installed_versions()["torch"]
    torch_changed = f"torch: {here} in the checkpoint, 9.9 now"
    commit_changed = f"commit: {current_commit()} in the checkpoint, another now"
    said = [str(warning.message) for warning in caught]
    assert any(torch_changed in text for text in said)
    assert any(commit_changed in text for text in said)
    assert record.resumed[-1]["changed"] == [commit_changed, torch_changed]
    assert_same_run(folder, whole_classifier)


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("data.batch_size=16", r"data\.batch_size: 32 in the checkpoint, 16 now"),
        ("seed=1", r"seed: 0 in the checkpoint, 1 now"),
        ("model.eps=1e-3", r"model\.eps: 1e-05 in the checkpoint, 0\.001 now"),
        ("early_stopping=3", r"early_stopping: None in the checkpoint, 3 now"),
        (
            "trainer.accumulate_grad_batches=2",
            r"trainer\.accumulate_grad_batches: 1 in the checkpoint, 2 now",
        ),
    ],
)
def test_another_experiment_is_refused_with_the_difference(override, difference, stopped, tmp_path):
    given = f"resume={stopped.newest_checkpoint()}"
    with pytest.raises(ConfigurationError, match=difference):
        train(compose(*CLASSIFIER, override, given), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_finished_run_with_other_data_is_refused(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("abc " * 400)
    overrides = (*LANGUAGE_MODEL, f"data.files={text}", "trainer.max_epochs=1")
    folder, record = train(compose(*overrides), tmp_path)
    text.write_text("xyz " * 400)
    with pytest.raises(ConfigurationError, match="holds a finished run, but the data have changed"):
        train(compose(*overrides), tmp_path)
    assert folder.read_record() == record


def test_a_run_begun_elsewhere_goes_on_with_its_own_checkpoints(
    stopped, whole_classifier, tmp_path, monkeypatch
):
    given = f"resume={min(stopped.checkpoints.glob('*.ckpt'))}"
    overrides = (*CLASSIFIER, given)
    with monkeypatch.context() as patch:
        interrupt_call(patch, "training_step", 5)
        with pytest.raises(Interruption):
            train(compose(*overrides), tmp_path / "other")
    folder, record = train(compose(*overrides), tmp_path / "other")
    assert [entry["checkpoint"] for entry in record.resumed] == [
        "step-00000012.ckpt",
        "step-00000015.ckpt",
    ]
    assert_equal(content(folder)[0], content(whole_classifier)[0])
    folder.update_record(status="interrupted")
    newest = stopped.newest_checkpoint()
    with pytest.raises(ConfigurationError, match="has checkpoints of its own"):
        train(compose(*CLASSIFIER, f"resume={newest}"), tmp_path / "other")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("+trainer.overfit_batches=2", "overfit_batches is not supported"),
        ("early_stopping=0", "a whole number from 1 up; got 0"),
        ("early_stopping=true", "a whole number from 1 up; got True"),
    ],
)
def test_what_could_not_be_resumed_is_refused(override, words, tmp_path):
    with pytest.raises(ConfigurationError, match=words):
        train(compose(*CLASSIFIER, override), tmp_path)
    assert not list(tmp_path.iterdir())


def test_resume_from_a_given_checkpoint(whole_classifier, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_call(patch, "training_step", 19)
        with pytest.raises(Interruption):
            train(compose(*CLASSIFIER), tmp_path)
    folder = only(tmp_path.glob("*/*/seed0"))
    older = min((folder / "checkpoints").glob("*.ckpt"))
    experiment = compose(*CLASSIFIER, f"resume={older}")
    assert_same_run(train(experiment, tmp_path)[0], whole_classifier)
