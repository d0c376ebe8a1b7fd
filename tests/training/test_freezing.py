"""Parts that are not trained, or not until a step; also where the run was interrupted."""

import pytest
import torch
from experiments import CLASSIFIER, compose, run
from same_runs import assert_same_run
from torch import Tensor

from lnrnn.runs.checkpoint_files import read_checkpoint
from lnrnn.runs.weights import model_weights, read_weights
from lnrnn.seeding import initialize
from lnrnn.training import ConfigurationError, RunFolder, train
from lnrnn.training.build import build_data, build_task

# An epoch has 7 steps.
SHORT = (*CLASSIFIER, "trainer.max_epochs=2", "checkpoint_every_n_steps=1")


def weights_after(folder: RunFolder) -> dict[str, Tensor]:
    newest = folder.newest_checkpoint()
    assert newest is not None
    return read_weights(newest)


def weights_before(folder: RunFolder) -> dict[str, Tensor]:
    config = folder.read_config()
    task = build_task(config, build_data(config))
    initialize(task.model, config.seed)
    return dict(task.model.state_dict())


def moved(folder: RunFolder) -> set[str]:
    before, after = weights_before(folder), weights_after(folder)
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("encoder", lambda name: name.startswith("encoder.")),
        ("[head,*bias*]", lambda name: name.startswith("head.") or "bias" in name),
        ("weight_hh_l1", lambda name: name.endswith("weight_hh_l1")),
    ],
)
def test_a_frozen_part_stays_as_it_was(given, kept, tmp_path, capsys):
    folder, record = train(
        compose(*SHORT, f"freeze={given}", "optimizer.weight_decay=0.5"), tmp_path
    )
    every = set(weights_after(folder))
    assert moved(folder) == {name for name in every if not kept(name)}
    assert record.parameters == sum(value.numel() for value in weights_after(folder).values())
    printed = " ".join(capsys.readouterr().out.split())
    assert f"frozen: {next(name for name in weights_after(folder) if kept(name))}" in printed


@pytest.mark.parametrize(
    ("extra", "when", "step"),
    [
        ([], "5", 5),
        ([], "1epoch", 7),
        (["trainer.accumulate_grad_batches=3"], "1epoch", 3),
        (["trainer.limit_train_batches=4"], "1epochs", 4),
        (["optimizer=sgd", "optimizer.momentum=0.9"], "3", 3),
    ],
)
def test_a_part_is_trained_from_a_step_on(extra, when, step, tmp_path, capsys, monkeypatch):
    """Up to that step, and no further, it is as it was; its moments begin there."""
    seen = record_steps(monkeypatch)
    words = (*SHORT, "freeze=encoder", f"unfreeze_at={when}", *extra)
    folder, _ = train(compose(*words), tmp_path)
    before = weights_before(folder)
    assert len(seen) > step + 1
    for number, weights in enumerate(seen, start=1):
        same = all(
            torch.equal(value, before[name])
            for name, value in weights.items()
            if name.startswith("encoder.")
        )
        assert same == (number <= step), number
    assert f"step {step}: encoder is trained from here on" in capsys.readouterr().out
    if "optimizer=sgd" not in extra:
        newest = folder.newest_checkpoint()
        assert newest is not None
        states = read_checkpoint(newest)["optimizer_states"][0]["state"].values()
        assert {int(state["step"]) for state in states} == {len(seen), len(seen) - step}


def record_steps(monkeypatch) -> list[dict[str, Tensor]]:
    """Let every checkpoint leave the model's weights in the list that is returned."""
    from lnrnn.training import checkpoint_io

    seen: list[dict[str, Tensor]] = []
    original = checkpoint_io.write_checkpoint

    def write(checkpoint, path, **settings):
        if checkpoint["global_step"] > len(seen):
            weights = model_weights(checkpoint["state_dict"])
            seen.append({name: value.clone() for name, value in weights.items()})
        original(checkpoint, path, **settings)

    monkeypatch.setattr(checkpoint_io, "write_checkpoint", write)
    return seen


@pytest.mark.parametrize(
    "interruptions",
    [
        pytest.param([("training_step", 3)], id="before"),
        pytest.param([("training_step", 5)], id="at the step"),
        pytest.param([("training_step", 6)], id="one step after"),
        pytest.param([("training_step", 4), ("training_step", 1), ("test_step", 0)], id="often"),
    ],
)
@pytest.mark.parametrize("extra", [(), ("trainer.accumulate_grad_batches=2",)])
def test_after_an_interruption_it_is_the_same_step(extra, interruptions, tmp_path, monkeypatch):
    words = (*SHORT, "freeze=[layer]", "unfreeze_at=5", "schedule=cosine", *extra)
    whole = run(words, tmp_path / "whole", monkeypatch=monkeypatch)
    again = run(words, tmp_path / "again", *interruptions, monkeypatch=monkeypatch)
    assert_same_run(again, whole)


@pytest.mark.parametrize(
    ("step", "said"), [(3, "frozen up to step 5: encoder"), (6, "trained since step 5: encoder")]
)
def test_a_resumed_run_says_what_holds_now(step, said, tmp_path, monkeypatch, capsys):
    words = (*SHORT, "freeze=encoder", "unfreeze_at=5")
    run(words, tmp_path, ("training_step", step), monkeypatch=monkeypatch)
    printed = capsys.readouterr().out
    assert printed.count("frozen up to step 5") == (2 if step < 5 else 1)
    assert said in printed


def test_a_frozen_part_stays_frozen_after_an_interruption(tmp_path, monkeypatch):
    words = (*SHORT, "freeze=encoder", "checkpoint_every_n_steps=3")
    whole = run(words, tmp_path / "whole", monkeypatch=monkeypatch)
    again = run(words, tmp_path / "again", ("training_step", 8), monkeypatch=monkeypatch)
    assert_same_run(again, whole)
    assert moved(again) == {"head.linear.weight", "head.linear.bias"}


def test_what_is_frozen_when_is_part_of_a_run(tmp_path):
    words = (*SHORT, "trainer.max_steps=4", "name=a")
    folder, _ = train(compose(*words, "freeze=encoder", "unfreeze_at=2"), tmp_path)
    checkpoint = folder.newest_checkpoint()
    for changed, reason in [
        (["freeze=encoder"], r"unfreeze_at: 2 in the checkpoint, None now"),
        (["freeze=head", "unfreeze_at=2"], r"freeze: encoder in the checkpoint, head now"),
    ]:
        with pytest.raises(ConfigurationError, match=reason):
            train(compose(*words, "name=b", *changed, f"resume={checkpoint}"), tmp_path)


def test_a_monitor_looks_into_a_frozen_layer(tmp_path):
    folder, record = train(compose(*SHORT, "freeze=encoder", "monitor=true"), tmp_path)
    assert record.diagnosis
    assert moved(folder) == {"head.linear.weight", "head.linear.bias"}


def test_a_tied_weight_is_frozen_under_both_names(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(97 + (i * i) % 26) for i in range(2500)))
    data = ("data=text_files", f"data.files={text}", "data.batch_size=3", "data.window=12")
    words = (*data, "model=gru", "model.hidden_size=8", "trainer.max_steps=3", "head.tied=true")
    folder, _ = train(compose(*words, "freeze=embedding"), tmp_path)
    assert "frozen: encoder.embedding.weight, head.linear.weight (2,056" in capsys.readouterr().out
    assert not {"encoder.embedding.weight", "head.linear.weight"} & moved(folder)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["freeze=encodr"], "freeze=encodr: the model has no such part. Did you mean encoder"),
        (["freeze=embedding"], r"no such part. .*Its parts: encoder, encoder\.layer"),
        (["freeze=[encoder,head]"], "freeze=encoder, head leaves nothing to be trained"),
        (["freeze=head", "unfreeze_at=14"], "after step 14, but training ends after step 14"),
        (["freeze=head", "unfreeze_at=2epochs"], "after step 14, but training ends"),
        (["freeze=head", "unfreeze_at=3", "trainer.max_steps=3"], "training ends after step 3"),
    ],
)
def test_what_can_have_no_effect_is_refused(words, reason, tmp_path):
    with pytest.raises(ConfigurationError, match=reason):
        train(compose(*SHORT, *words), tmp_path)
    assert not list(tmp_path.rglob("run.json")), "nothing was begun"
