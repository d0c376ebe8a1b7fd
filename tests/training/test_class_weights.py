"""Classes of unequal size: their weights in the loss, what is said and what is kept of each."""

import json
import math
from collections import Counter

import pytest
import torch
from experiments import compose, run
from same_runs import assert_same_run

from lnrnn.cli.evaluate import print_evaluation
from lnrnn.data.batch import IGNORED
from lnrnn.runs.confusion import plot_confusion, table_of, write_confusion
from lnrnn.training import ConfigurationError, evaluate, train
from lnrnn.training.build import build_data, build_task
from lnrnn.training.class_weights import class_counts
from lnrnn.training.metrics import sum_loss

SMALL = ("model=rnn_ln", "model.hidden_size=8", "trainer.max_epochs=3", "optimizer.lr=0.01")
NAMES = ("rare", "some", "usual")  # in the order of the classes


@pytest.fixture
def unequal(tmp_path) -> tuple[str, ...]:
    """A table of three classes; more of those that look rare are of the usual one."""
    texts = [("usual", "aab", 480), ("some", "abb", 90), ("usual", "bbb", 50), ("rare", "bbb", 40)]
    rows = [f"{text}{n % 10},{label}" for label, text, count in texts for n in range(count)]
    (tmp_path / "unequal.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    return ("data=table_files", f"data.files={tmp_path / 'unequal.csv'}", "data.num_classes=3")


def counts_by_hand(config) -> Counter[str]:
    data = build_data(config)
    names = data.preparation.class_names
    return Counter(names[k] for k in data.splits["train"].targets.tolist())


def test_balanced_weights_give_every_class_the_same_part(unequal):
    config = compose(*SMALL, *unequal, "class_weights=balanced").config
    counts = counts_by_hand(config)
    weights = build_task(config, build_data(config)).class_weights
    assert weights is not None
    total = sum(counts.values())
    for name, weight in zip(NAMES, weights.tolist(), strict=True):
        assert weight == pytest.approx(total / (3 * counts[name]), rel=1e-6)
    assert counts["usual"] > 10 * counts["rare"]


@pytest.mark.parametrize("shape", [(40,), (8, 5)])
def test_the_loss_is_that_of_torch(shape):
    torch.manual_seed(0)
    weights = torch.tensor([0.2, 1.0, 3.5])
    scores, targets = torch.randn(*shape, 3), torch.randint(0, 3, shape)
    targets[0] = IGNORED
    total, count = sum_loss(scores, targets, weights)
    loss = torch.nn.CrossEntropyLoss(weight=weights, ignore_index=IGNORED)
    torch.testing.assert_close(total / count, loss(scores.flatten(0, -2), targets.flatten()))


def test_small_weights_are_not_rounded_up_to_one(unequal, tmp_path):
    """The loss is a mean: weights ten thousand times as small give the same one."""
    losses = []
    for number, factor in enumerate((1.0, 1e-4)):
        weights = [factor * weight for weight in (4.0, 2.0, 0.5)]
        given = f"class_weights={weights}".replace(" ", "")
        folder, _ = train(compose(*SMALL, *unequal, given, f"name=n{number}"), tmp_path)
        lines = map(json.loads, folder.metrics.read_text().splitlines())
        losses.append([line["value"] for line in lines if line["name"] == "train/loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_they_change_what_is_learned_and_not_what_is_measured(unequal, tmp_path, monkeypatch):
    """The rare class is said only where it weighs; val/loss stays the plain one."""
    words = (*SMALL, *unequal, "trainer.max_epochs=6", "data.test=0.2")
    plain = run((*words, "name=plain"), tmp_path, monkeypatch=monkeypatch)
    balanced = run((*words, "class_weights=balanced"), tmp_path, monkeypatch=monkeypatch)
    one, other = (folder.read_record().metrics for folder in (plain, balanced))
    assert other["test/macro_f1"] > one["test/macro_f1"] + 0.05
    for folder in (plain, balanced):
        table = json.loads(folder.confusion.read_text())
        metrics = folder.read_record().metrics
        counts = torch.tensor(table["counts"])
        assert table["classes"] == list(NAMES)
        right, all_of_it = counts.diag().sum(), counts.sum()
        assert metrics["test/accuracy"] == pytest.approx(float(right / all_of_it), rel=1e-6)
        sums = counts.sum(0) + counts.sum(1)
        f1 = 2 * counts.diag() / sums
        assert metrics["test/macro_f1"] == pytest.approx(float(f1[sums > 0].mean()), rel=1e-6)
        assert folder.confusion.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    weighted = evaluate(balanced.path).metrics["test/loss"]
    config = compose(*words).config  # the same test without weights
    task, data = build_task(config, build_data(config)), build_data(config)
    assert task.class_weights is None
    assert weighted == pytest.approx(other["test/loss"], rel=1e-6)
    assert len(data.splits["test"]) == sum(map(sum, table["counts"]))


def test_after_an_interruption_it_is_the_same_run(unequal, tmp_path, monkeypatch):
    words = (*SMALL, *unequal, "class_weights=balanced", "checkpoint_every_n_steps=2")
    whole = run(words, tmp_path / "whole", monkeypatch=monkeypatch)
    again = run(words, tmp_path / "again", ("training_step", 7), monkeypatch=monkeypatch)
    assert_same_run(again, whole)
    assert again.confusion.read_bytes() == whole.confusion.read_bytes()
    checkpoint = again.newest_checkpoint()
    more = ("name=b", f"resume={checkpoint}", "trainer.max_epochs=4")
    with pytest.raises(ConfigurationError, match="class_weights: balanced in the checkpoint"):
        train(compose(*words, "class_weights=[1,2,3]", *more), tmp_path)


def test_unequal_classes_are_told_of(unequal, tmp_path, capsys):
    counts = counts_by_hand(compose(*SMALL, *unequal).config)
    train(compose(*SMALL, *unequal, "trainer.max_steps=1"), tmp_path)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"are 'usual' and {counts['rare']} 'rare'" in printed
    assert "class_weights=balanced" in printed
    train(compose(*SMALL, *unequal, "trainer.max_steps=1", "class_weights=balanced"), tmp_path)
    train(compose(*SMALL, "trainer.max_steps=1"), tmp_path)
    assert "unequal" not in capsys.readouterr().out


def test_evaluate_shows_which_class_is_taken_for_which(unequal, tmp_path, capsys):
    folder, record = train(compose(*SMALL, *unequal), tmp_path)
    evaluation = evaluate(folder.path)
    assert evaluation.metrics == pytest.approx(record.metrics, rel=1e-6)
    assert evaluation.confusion is not None
    kept = json.loads(folder.confusion.read_text())
    assert [list(row) for row in evaluation.confusion.counts] == kept["counts"]
    capsys.readouterr()
    print_evaluation(evaluation)
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*NAMES, "right \\ predicted"))


def test_many_classes_are_shown_by_their_mistakes(tmp_path, capsys):
    names = [f"[b]class {n}" for n in range(30)]
    counts = [
        [9 if i == j else (40 if (i, j) == (3, 4) else 0) for j in range(30)] for i in range(30)
    ]
    table = table_of(counts, names)
    assert table.mistakes() == [(40, "[b]class 3", "[b]class 4")]
    from lnrnn.cli.evaluate import print_confusion

    print_confusion(table)
    printed = capsys.readouterr().out
    assert "[b]class 3" in printed
    assert "[b]class 5" not in printed
    plot_confusion(table, tmp_path / "many.png")
    write_confusion(tmp_path / "many.json", table)
    assert json.loads((tmp_path / "many.json").read_text())["counts"][3][4] == 40


def test_names_in_any_letters_can_be_drawn(tmp_path):
    plot_confusion(table_of([[1, 0], [2, 3]], ["$x_{", "漢字" * 20]), tmp_path / "some.png")


def test_a_tagging_is_balanced_over_its_steps(tmp_path):
    words = ("data=copying", "data.length=25", "data.num_train=64", "data.num_test=16")
    words = (*words, "data.num_validation=16", "model=gru", "model.hidden_size=8")
    config = compose(*words).config
    data = build_data(config)
    targets = data.splits["train"].targets
    known = targets[targets != IGNORED]
    assert class_counts(data).tolist() == [int((known == k).sum()) for k in range(data.num_classes)]
    folder, record = train(compose(*words, "trainer.max_steps=2"), tmp_path)
    assert {"test/macro_f1", "test/calibration_error"} <= record.metrics.keys()
    table = json.loads(folder.confusion.read_text())
    known = data.splits["test"].targets
    assert sum(map(sum, table["counts"])) == int((known != IGNORED).sum())


def test_regressions_have_no_table(tmp_path):
    words = ("data=adding", "data.length=9", "model=gru", "trainer.max_steps=2")
    folder, record = train(compose(*words), tmp_path)
    assert not folder.confusion.exists()
    assert record.metrics.keys() == {"test/loss", "test/mse"}


@pytest.mark.parametrize(
    "given", ["equal", "0", "true", "[]", "[1,0]", "[1,-2]", "[1,nan]", "[1,inf]", "[a]", "[true]"]
)
def test_what_is_no_weight_is_refused(given):
    with pytest.raises(ConfigurationError, match="class_weights must be null, balanced, or a list"):
        compose(f"class_weights={given}")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["data=adding", "class_weights=balanced"], "is for classes, and this is regression"),
        (
            ["data=text_files", "data.files=a.txt", "class_weights=balanced"],
            "is for classes, and this is language modeling",
        ),
        (["class_weights=[1,2,3]"], "has 3 numbers, and the data have 9 classes: 0, 1, 2"),
    ],
)
def test_weights_for_no_such_classes_are_refused(words, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("to be or not to be\n" * 900)
    with pytest.raises(ConfigurationError, match=reason):
        train(compose(*SMALL, *words), tmp_path / "runs")


@pytest.mark.filterwarnings("ignore:no row to learn from has class 2")
def test_a_class_without_training_examples_cannot_be_balanced(tmp_path):
    rows = [f"{'ab'[n % 2] * 3}{n},{n % 2}" for n in range(40)]
    (tmp_path / "train.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    (tmp_path / "test.csv").write_text("text,label\nabc,2\nabd,1\nabe,0\n")
    words = ["data=table_files", f"data.files={tmp_path / 'train.csv'}", "data.num_classes=3"]
    words += [f"data.test_files={tmp_path / 'test.csv'}", "class_weights=balanced"]
    with pytest.raises(ConfigurationError, match="no training example is of 2"):
        train(compose(*SMALL, *words), tmp_path / "runs")
    words[-1] = "class_weights=[1,1,1e3]"
    _, record = train(compose(*SMALL, *words, "trainer.max_steps=1"), tmp_path / "runs")
    assert all(map(math.isfinite, record.metrics.values()))
