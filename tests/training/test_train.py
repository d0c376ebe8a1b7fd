import json
import shutil
from pathlib import Path

import pytest
import torch
from experiments import compose, only
from omegaconf import OmegaConf

from lnrnn.runs.checkpoint_files import read_checkpoint
from lnrnn.runs.record import RunRecord, unpack_correct
from lnrnn.training import ConfigurationError, NonFiniteError, RunFolder, evaluate, train
from lnrnn.training.build import build_data, build_task

SHORT = ("model.hidden_size=8", "trainer.max_epochs=2")
LAST = ("step-00000014.ckpt", "step-00000014.json")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, RunFolder, RunRecord]:
    root = tmp_path_factory.mktemp("runs")
    return root, *train(compose(*SHORT, "checkpoint_every_n_steps=7"), root)


def test_a_run_leaves_everything_in_its_folder(finished):
    root, folder, record = finished
    assert folder.path == root / "japanese_vowels/rnn_ln-hidden_size-8-max_epochs-2/seed0"
    assert folder.curves.read_bytes().startswith(b"\x89PNG")
    assert OmegaConf.load(folder.config).model.hidden_size == 8
    assert record.status == "finished"
    assert record.steps == 14
    assert record.metric == "accuracy"
    assert record.higher_is_better is True
    assert record.machine["device"] == "cpu"
    assert record.versions["torch"].startswith("2.")
    assert 0 < record.seconds_per_step < 10
    assert 0 < record.seconds_per_save < 10
    assert record.parameters == 8 * (12 + 8 + 2) + 2 * 8 + 9 * (8 + 1)
    measured = ("accuracy", "calibration_error", "loss", "macro_f1")
    assert set(record.metrics) == {f"test/{name}" for name in measured}


def test_metrics_are_one_value_a_line_in_full_precision(finished):
    _, folder, record = finished
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    names = ["train/loss", "val/accuracy", "val/loss", "val/macro_f1"]
    tested = [f"test/{name}" for name in ("accuracy", "calibration_error", "loss", "macro_f1")]
    assert [line["name"] for line in lines] == [*names, *names, *tested]
    assert [line["step"] for line in lines] == [7] * 4 + [14] * 8
    assert [line["epoch"] for line in lines] == [0] * 4 + [1] * 8
    assert {line["name"]: line["value"] for line in lines[-4:]} == record.metrics


def test_a_classifier_records_which_test_examples_it_gets_right(finished):
    _, folder, record = finished
    correct = unpack_correct(record.test_correct)
    assert len(correct) == record.split_sizes["test"] == 370
    assert sum(correct) / 370 == pytest.approx(record.metrics["test/accuracy"], abs=1e-6)
    experiment = compose(*SHORT)
    datamodule = build_data(experiment.config)
    task = build_task(experiment.config, datamodule)
    task.load_state_dict(read_checkpoint(folder.checkpoints / LAST[0])["state_dict"])
    batches = list(datamodule.test_dataloader())
    with torch.no_grad():
        guesses = [
            task.eval().model(batch.inputs, batch.lengths)[0].argmax(-1) for batch in batches
        ]
    rights = [guess == batch.targets for guess, batch in zip(guesses, batches, strict=True)]
    assert torch.cat(rights).tolist() == correct


@pytest.mark.parametrize("data", ["adding", "shakespeare"])
def test_what_is_no_classification_records_none(data, tmp_path):
    few = ["trainer.max_steps=1", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"]
    _, record = train(compose(f"data={data}", "model=rnn", *few), tmp_path)
    assert record.test_correct == {}


def test_a_finished_run_is_not_repeated(finished, monkeypatch):
    root, folder, record = finished
    monkeypatch.setattr("lnrnn.training.run.build_task", None)  # would be called first
    assert train(compose(*SHORT), root) == (folder, record)


def test_evaluate_reproduces_the_test_metrics(finished):
    _, folder, record = finished
    evaluation = evaluate(folder.path)
    assert evaluation.metrics == evaluation.recorded == record.metrics
    newest = folder.newest_checkpoint()
    assert newest is not None
    assert evaluate(newest).metrics == record.metrics


def test_two_newest_checkpoints_are_kept(finished):
    _, folder, _ = finished
    names = sorted(path.name for path in folder.checkpoints.iterdir())
    best = ["best-00000014.json", "best-00000014.safetensors"]
    assert names == [*best, "last", "step-00000007.ckpt", "step-00000007.json", *LAST]
    assert (folder.checkpoints / "last").read_text() == "step-00000014.ckpt\n"


def test_a_checkpoint_holds_tensors_and_plain_values(finished):
    _, folder, _ = finished

    def check(value):
        if isinstance(value, dict):
            for key, part in value.items():
                assert isinstance(key, str | int)
                check(part)
        elif isinstance(value, list | tuple):
            for part in value:
                check(part)
        else:
            assert value is None or isinstance(value, torch.Tensor | str | int | float | bool)

    check(read_checkpoint(folder.newest_checkpoint()))


def test_the_same_seed_gives_the_same_run(finished, tmp_path):
    _, folder, _ = finished
    again, _ = train(compose(*SHORT), tmp_path)
    assert again.metrics.read_bytes() == folder.metrics.read_bytes()


def test_another_default_in_the_folder_is_an_error(finished):
    root, *_ = finished
    experiment = compose(*SHORT)
    experiment.config.model.eps = 1e-3
    with pytest.raises(ConfigurationError, match=r"\+model\.eps: 0\.001"):
        train(experiment, root)


def test_never_refuses_a_used_folder(finished):
    root, *_ = finished
    with pytest.raises(ConfigurationError, match="resume=never needs a new folder"):
        train(compose(*SHORT, "resume=never"), root)


def test_a_checkpoint_of_another_model_is_refused(finished, tmp_path):
    _, folder, _ = finished
    other = compose("model=gru", *SHORT, f"resume={folder.newest_checkpoint()}")
    with pytest.raises(ConfigurationError, match="belongs to another model") as caught:
        train(other, tmp_path)
    assert "weight_ih_l0: (8, 12) in the checkpoint, (24, 12) in the model" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_named(finished, tmp_path):
    _, folder, _ = finished
    torn = tmp_path / "torn.ckpt"
    torn.write_bytes(folder.newest_checkpoint().read_bytes()[:1000])
    with pytest.raises(ConfigurationError, match=r"torn\.ckpt is damaged"):
        train(compose(*SHORT, f"resume={torn}"), tmp_path)


def test_evaluate_says_what_it_wants(tmp_path):
    with pytest.raises(ConfigurationError, match="there is no run"):
        evaluate(tmp_path / "nowhere")
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(compose().config))
    with pytest.raises(ConfigurationError, match="holds no checkpoint yet"):
        evaluate(tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    overrides = ("optimizer=sgd", "optimizer.lr=1e38", "trainer.gradient_clip_val=null")
    experiment = compose(*overrides, "model=lstm", "checkpoint_every_n_steps=1")
    with pytest.raises(NonFiniteError, match=r"at step \d+ \(epoch 0\)"):
        train(experiment, tmp_path)
    folder = RunFolder(only(tmp_path.glob("*/*/seed0")))
    assert folder.read_record().status == "failed"
    assert "NonFiniteError" in (folder.read_record().error or "")
    assert folder.read_record().diverged
    newest = folder.newest_checkpoint()
    if newest is not None:
        values = read_checkpoint(newest)["state_dict"].values()
        assert all(value.isfinite().all() for value in values)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.eps=0"], "eps must be"),
        (["model.hidden_size=0"], "hidden_size"),
        (["data.batch_size=0"], "batch_size"),
        (["data.num_features=13"], "num_features"),
        (["data.num_classes=5"], "num_classes"),
        (["data=text_files", "data.files=nowhere.txt"], r"nowhere\.txt"),
        (["data=shakespeare", "model=transformer"], "looks ahead"),
        (["head=tokens"], "needs a ClassificationHead, got a TokenHead"),
    ],
)
def test_bad_input_is_explained_and_nothing_is_left(overrides, words, tmp_path):
    with pytest.raises(ConfigurationError, match=words):
        train(compose(*overrides), tmp_path)
    assert not list(tmp_path.rglob("metrics.jsonl"))


@pytest.mark.parametrize(
    "override", ["optimizer.lr=-1", "trainer.devices=abc", "trainer.precision=8"]
)
def test_what_only_training_would_refuse_leaves_no_folder(override, tmp_path):
    with pytest.raises(ConfigurationError):
        train(compose(override), tmp_path)
    assert not list(tmp_path.iterdir())


def test_clipping_at_zero_is_no_clipping_as_lightning_has_it(tmp_path):
    off, _ = train(compose(*SHORT, "trainer.gradient_clip_val=0"), tmp_path)
    none, _ = train(compose(*SHORT, "trainer.gradient_clip_val=null"), tmp_path)
    assert off.metrics.read_bytes() == none.metrics.read_bytes()


def test_damaged_records_are_named(finished, tmp_path):
    _, folder, _ = finished
    shutil.copytree(folder.path, tmp_path / "run")
    copy = RunFolder(tmp_path / "run")
    for damage in ("", "model: [", "- a"):
        copy.config.write_text(damage)
        with pytest.raises(ConfigurationError, match=r"config\.yaml is damaged"):
            evaluate(copy.path)
    copy.config.write_text(folder.config.read_text())
    copy.record.write_text("{")
    with pytest.raises(ConfigurationError, match=r"run\.json is damaged"):
        evaluate(copy.path)


def test_evaluate_notices_other_data(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("abc " * 400)
    small = ("data=text_files", "data.batch_size=2", "data.window=8", "model=gru", *SHORT)
    folder, _ = train(compose(f"data.files={text}", *small, "trainer.max_epochs=1"), tmp_path)
    assert evaluate(folder.path).same_data
    text.write_text("xyz " * 400)
    assert not evaluate(folder.path).same_data
