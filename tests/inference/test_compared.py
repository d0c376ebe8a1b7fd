"""What a model's card says of the comparisons that its run was part of."""

import json
import os
import shutil

import pytest

import lnrnn
from lnrnn.comparison import compare, write
from lnrnn.inference.card import model_card
from lnrnn.inference.compared import LARGEST, comparisons_of
from lnrnn.inference.handed_out import hand_out
from lnrnn.training import ConfigurationError, RunFolder


@pytest.fixture
def compared(made, tmp_path) -> RunFolder:
    """A run of two arms with two seeds, which were compared."""
    folders = {}
    for arm in ("rnn", "rnn_ln"):
        source = [made(f"model={arm}", f"seed={seed}", "data=japanese_vowels") for seed in (0, 1)]
        folders[arm] = [tmp_path / "runs" / "vowels" / arm / run.path.name for run in source]
        for run, place in zip(source, folders[arm], strict=True):
            shutil.copytree(run.path, place)
    write(compare(folders), folders, tmp_path / "runs" / "vowels" / "compare" / "rnn-vs-rnn_ln")
    return RunFolder(folders["rnn_ln"][0])


def content_of(run: RunFolder) -> tuple:
    path = run.path.parent.parent / "compare" / "rnn-vs-rnn_ln" / "compare.json"
    return path, json.loads(path.read_text())


def spoiled(path, content, key: str, value) -> None:
    content["arms"][0][key] = value
    path.write_text(json.dumps(content))


def test_the_card_has_means_and_intervals_over_seeds(compared, tmp_path):
    model = lnrnn.load(compared.path)
    _, content = content_of(compared)
    arm, pair = content["arms"][1], content["pairs"][0]
    card = model_card(model, "me/vowels")
    assert "## Compared: rnn-vs-rnn_ln" in card
    assert "accuracy in the test, over seeds; this model is a run of rnn_ln:" in card
    assert f"rnn_ln: {arm['mean']:.4g} ± {arm['sd']:.4g} (sd), 2 runs" in card
    low, high = pair["interval"]
    assert (
        f"rnn_ln minus rnn: {pair['difference']:.4g}, 95 % interval {low:.4g} to {high:.4g}, "
        f"Holm p {pair['p_holm']:.4g}, 2 pairs"
    ) in card
    hand_out(model, tmp_path / "out")
    assert model_card(lnrnn.load(tmp_path / "out"), "me/vowels") == card


def test_other_runs_and_other_weights_are_not_told_of(compared):
    path, _ = content_of(compared)
    metrics = compared.read_record().metrics
    assert len(comparisons_of(compared.path, metrics)) == 1
    assert comparisons_of(compared.path.parent / "seed7", metrics) == []
    assert comparisons_of(compared.path, {"test/accuracy": 2.0}) == []
    assert comparisons_of(compared.path, {}) == []
    path.unlink()
    assert "## Compared" not in model_card(lnrnn.load(compared.path), "me/vowels")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path, content: path.write_text("{"),
        lambda path, content: path.write_text("[]"),
        lambda path, content: path.write_text(json.dumps({**content, "arms": 3})),
        lambda path, content: spoiled(path, content, "mean", "much"),
        lambda path, content: spoiled(path, content, "name", {"deep": ["er"]}),
        lambda path, content: os.truncate(path, LARGEST + 1),
        lambda path, content: (path.rename(path.with_name("x")), path.symlink_to("x")),
    ],
)
def test_a_damaged_or_linked_comparison_is_named_and_left_out(compared, spoil):
    spoil(*content_of(compared))
    with pytest.warns(UserWarning, match=r"compare\.json is skipped"):
        model = lnrnn.load(compared.path)
    assert "## Compared" not in model_card(model, "me/vowels")


def test_nothing_in_a_comparison_acts_on_the_page(compared):
    path, content = content_of(compared)
    name = "rnn\n\n<script>x</script>\n# heading"
    content["arms"][0]["name"] = content["pairs"][0]["baseline"] = name
    path.write_text(json.dumps(content))
    card = model_card(lnrnn.load(compared.path), "me/vowels")
    lines = [line for line in card.splitlines() if "<script>" in line]
    assert lines
    assert all(line.startswith("    ") for line in lines)  # a block of code
    assert "\n# heading" not in card


@pytest.mark.parametrize("found", [[3], {"a": 1}, [{"comparison": "x"}], [{"arms": []}], 7])
def test_a_model_that_brings_something_else_is_refused(compared, found):
    model = lnrnn.load(compared.path)
    model.about["compared"] = found
    with pytest.raises(ConfigurationError, match="comparisons are damaged"):
        model_card(model, "me/vowels")
