"""A trained model from its run: the same numbers as at its test, and nothing executed."""

import json
import shutil

import numpy as np
import pytest
import torch

import lnrnn
from lnrnn.data import adding, copying, japanese_vowels
from lnrnn.data.sequences import Sequences
from lnrnn.inference.card import model_card
from lnrnn.inference.handed_out import CONFIG, WEIGHTS, hand_out
from lnrnn.training import ConfigurationError, evaluate

VOWELS = ("data=japanese_vowels", "model=lstm_lncell")


def raw_test(data) -> Sequences:
    split = data.splits["test"]
    assert isinstance(split, Sequences)
    return split


def sequences_of(split: Sequences) -> list[np.ndarray]:
    ends = split.ends.tolist()
    starts = [0, *ends[:-1]]
    return [split.values[a:b].numpy() for a, b in zip(starts, ends, strict=True)]


def test_raw_data_give_the_metrics_of_the_test(made):
    folder = made(*VOWELS)
    model = lnrnn.load(folder.path)
    split = raw_test(japanese_vowels(standardize=False))
    predictions = model.predict(sequences_of(split))
    chances = torch.stack(list(predictions.probabilities))
    labels = np.array([int(label) for label in predictions.labels])
    right = np.mean(labels == split.targets.numpy())
    loss = -chances.gather(1, split.targets[:, None]).log().mean()
    recorded = folder.read_record().metrics
    assert right == pytest.approx(recorded["test/accuracy"], abs=1e-6)
    assert float(loss) == pytest.approx(recorded["test/loss"], rel=1e-5)
    assert predictions.classes == tuple("012345678")
    assert len(predictions) == 370
    assert "japanese_vowels" in repr(model)


def test_regression(made):
    folder = made("data=adding", "data.length=12", "data.num_test=60")
    split = raw_test(adding(length=12, num_test=60))
    values = torch.tensor(lnrnn.load(folder.path).predict(sequences_of(split)).values)
    mse = float(((values - split.targets) ** 2).mean())
    assert mse == pytest.approx(folder.read_record().metrics["test/mse"], rel=1e-4)


def test_tagging_has_a_label_a_step(made):
    folder = made("data=copying", "data.length=25", "data.num_test=40")
    split = raw_test(copying(length=25, num_test=40))
    predictions = lnrnn.load(folder.path).predict(sequences_of(split))
    targets = split.targets.reshape(40, 25).tolist()
    right = [
        int(label) == target
        for labels, row in zip(predictions.labels, targets, strict=True)
        for label, target in zip(labels, row, strict=True)
    ]
    assert np.mean(right) == pytest.approx(folder.read_record().metrics["test/accuracy"], abs=1e-6)
    assert predictions.probabilities[0].shape == (25, 10)


def test_texts_and_their_labels(made, reviews):
    model = lnrnn.load(made(*reviews).path)
    predictions = model.predict(["fine, lovely day", "bad and awful"])
    assert predictions.labels == ("for", "against")
    assert predictions.classes == ("against", "for")
    assert model.predict("fine, lovely day").labels == ("for",)
    cut = model.predict("fine, lov" + "bad and awful" * 20)  # data.max_length=9
    torch.testing.assert_close(cut.probabilities[0], predictions.probabilities[0])


@pytest.mark.parametrize("batch_size", [1, 7, 370])
def test_the_batch_changes_nothing(made, batch_size):
    model = lnrnn.load(made(*VOWELS).path)
    sequences = sequences_of(raw_test(japanese_vowels(standardize=False)))[:40]
    one = torch.stack(list(model.predict(sequences).probabilities))
    other = torch.stack(list(model.predict(sequences, batch_size=batch_size).probabilities))
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)  # padding changes last digits


@pytest.mark.parametrize(
    ("sequences", "words"),
    [
        ([np.zeros((4, 12)), np.zeros((4, 11))], r"sequence 1: .*12 numbers.*\(4, 11\)"),
        ([np.zeros((0, 12))], "sequence 0: a sequence needs at least one step"),
        ([[[float("nan")] * 12]], "sequence 0: values must be finite, and step 0"),
        (["text"], "sequence 0: each of its steps must be 12 numbers, and not text"),
        ([[[1.0, "x"]]], "sequence 0: each of its steps must be 12 numbers"),
        ([np.zeros(12)], r"\(T, 12\); got the shape \(12,\)"),
    ],
)
def test_other_numbers_are_refused(made, sequences, words):
    with pytest.raises(ValueError, match=words):
        lnrnn.load(made(*VOWELS).path).predict(sequences)


def test_symbols_are_checked(made):
    model = lnrnn.load(made("data=copying", "data.length=25", "data.num_test=40").path)
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 9, got 0 to 10"):
        model.predict([[0, 10]])
    with pytest.raises(ValueError, match="trained on sequences of 25 steps, got 2"):
        model.predict([[0, 1]])


def test_best_and_last(made):
    folder = made(*VOWELS, "optimizer.lr=3.0", "trainer.val_check_interval=2")
    assert folder.read_record().best["step"] < 12, "this run must not be best at its end"
    best, last, own = (lnrnn.load(folder.path, weights=w) for w in ("best", "last", None))
    head = "head.linear.weight"
    parameters = [model.module.state_dict()[head] for model in (best, last, own)]
    assert not torch.equal(parameters[0], parameters[1])
    assert torch.equal(parameters[1], parameters[2])
    file = next(folder.checkpoints.glob("best-*.safetensors"))
    assert torch.equal(lnrnn.load(file).module.state_dict()[head], parameters[0])


def test_what_is_told_is_of_the_weights_that_were_loaded(made, tmp_path):
    folder = made(*VOWELS, "optimizer.lr=3.0", "trainer.val_check_interval=2")
    record = folder.read_record()
    own, best = lnrnn.load(folder.path), lnrnn.load(folder.path, weights="best")
    told = [(model.about["weights"], model.about["steps"]) for model in (own, best)]
    assert told == [("last", 12), ("best", record.best["step"])]
    assert own.about["metrics"] == record.metrics
    assert best.about["metrics"] == {}  # the last were tested
    assert "has not tested these weights" in model_card(best, "user/name")
    shutil.copytree(folder.path, tmp_path / "seed0")
    (newest,) = (tmp_path / "seed0/checkpoints").glob("step-*.ckpt")
    older = newest.rename(newest.with_name("step-00000006.ckpt"))
    about = lnrnn.load(older).about
    assert (about["weights"], about["steps"], about["metrics"]) == (older.name, 6, {})


def test_a_run_without_the_file_is_read_from_its_data(made, tmp_path):
    folder = made(*VOWELS)
    shutil.copytree(folder.path, tmp_path / "seed0")
    (tmp_path / "seed0" / "model.json").unlink()
    model = lnrnn.load(tmp_path / "seed0")
    assert model.preparation == lnrnn.load(folder.path).preparation
    record = json.loads((tmp_path / "seed0" / "run.json").read_text())
    (tmp_path / "seed0" / "run.json").write_text(
        json.dumps({**record, "data_fingerprint": "0" * 16})
    )
    with pytest.raises(ConfigurationError, match="its data have changed"):
        lnrnn.load(tmp_path / "seed0")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "magic"}, "kind must be one of"),
        ({"num_classes": 0}, "num_classes must be null or a whole number"),
        ({"labels": ["a"]}, "labels must be 9 names, got 1"),
        ({"labels": "ninechars"}, "labels must be null or a list"),
        ({"scaling": {"mean": [0.0] * 12, "std": [0] * 12}}, "std that is nowhere 0"),
        ({"scaling": {"mean": [0.0] * 12}}, "a mean and std of 12 numbers"),
        ({"scaling": [1]}, "a mean and std of 12 numbers"),
        ({"symbols": "runes"}, "symbols must be"),
        ({"num_tokens": 5}, "exactly one of"),
        ({"scaling": {"mean": [0.0] * 12, "std": [float("nan")] * 12}}, "all finite"),
        ({"scaling": {"mean": [10**400] * 12, "std": [1.0] * 12}}, "all finite"),
        ({"target_scale": [float("inf"), 1.0]}, "both finite"),
        ({"target_scale": [0.0, 10**400]}, "both finite"),
        ({"num_classes": 200_000_000}, "the model has num_classes=9, .* num_classes=200000000"),
        ({"num_features": 6, "scaling": None}, "the model has num_features=12"),
        ({"num_features": None, "num_tokens": 5, "scaling": None}, "the model has num_features"),
        ({"num_classes": None, "kind": "regression"}, "the model has num_classes=9"),
    ],
)
def test_what_no_run_writes_is_refused(made, tmp_path, change, words):
    shutil.copytree(made(*VOWELS).path, tmp_path / "seed0")
    path = tmp_path / "seed0" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ConfigurationError, match=words):
        lnrnn.load(tmp_path / "seed0")


def test_no_run_and_no_weights(tmp_path, made):
    with pytest.raises(ConfigurationError, match="there is no run"):
        lnrnn.load(tmp_path / "nothing")
    shutil.copytree(made(*VOWELS).path, tmp_path / "seed0")
    for path in (tmp_path / "seed0/checkpoints").iterdir():
        path.unlink()
    with pytest.raises(ConfigurationError, match="holds no checkpoint yet"):
        lnrnn.load(tmp_path / "seed0")
    with pytest.raises(ConfigurationError, match="holds no best weights"):
        lnrnn.load(tmp_path / "seed0", weights="best")


def test_a_configuration_names_nothing_that_is_not_listed(made, tmp_path):
    shutil.copytree(made(*VOWELS).path, tmp_path / "seed0")
    config = tmp_path / "seed0" / "config.yaml"
    before = config.read_text()
    hostile = before.replace("lnrnn.models.RecurrentEncoder", "os.system")
    assert hostile != before
    config.write_text(hostile)
    with pytest.raises(ConfigurationError, match=r"os\.system"):
        lnrnn.load(tmp_path / "seed0")


def test_a_link_in_the_folder_is_refused(made, tmp_path):
    shutil.copytree(made(*VOWELS).path, tmp_path / "seed0")
    model = tmp_path / "seed0" / "model.json"
    model.rename(tmp_path / "model.json")
    model.symlink_to(tmp_path / "model.json")
    with pytest.raises(ConfigurationError, match="is a link"):
        lnrnn.load(tmp_path / "seed0")


def test_what_is_handed_out_is_the_same_model(made, reviews, tmp_path):
    model = lnrnn.load(made(*reviews).path)
    hand_out(model, tmp_path / "out")
    again = lnrnn.load(tmp_path / "out")
    assert again.preparation == model.preparation
    assert again.about["metrics"] == model.about["metrics"]
    texts = ["fine", "awful"]
    pairs = zip(model.predict(texts).probabilities, again.predict(texts).probabilities, strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    with pytest.raises(ConfigurationError, match="holds one file of weights"):
        lnrnn.load(tmp_path / "out", weights="best")


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"model": {"_target_": "os.system", "command": "true"}},
        {"model": None},
        {"head": {"_target_": "lnrnn.models.ClassificationHead", "num_classes": "${oc.env:HOME}"}},
        {"preparation": None},
        {"trust": ["os"]},
        {"model": {"_target_": "lnrnn.models.RecurrentEncoder", "cell": "rnn", "num_tokens": 3}},
    ],
)
def test_what_is_handed_out_is_checked(made, reviews, tmp_path, change):
    hand_out(lnrnn.load(made(*reviews).path), tmp_path)
    path = tmp_path / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert (tmp_path / WEIGHTS).exists()
    with pytest.raises(ConfigurationError):
        lnrnn.load(tmp_path)


def test_float64(made):
    folder = made(*VOWELS, "trainer.precision=64-true")
    model = lnrnn.load(folder.path)
    assert model.dtype == torch.float64
    predictions = model.predict([np.zeros((5, 12))])
    assert evaluate(folder.path).metrics.keys() >= {"test/loss"}
    assert float(predictions.probabilities[0].sum()) == pytest.approx(1.0, abs=1e-12)
