"""The weights of a trained run as the start of a new one."""

import hashlib
import shutil

import pytest
import torch
from experiments import Interruption, compose, interrupt_call, run
from same_runs import assert_same_run

import lnrnn
from lnrnn.inference.card import model_card
from lnrnn.inference.handed_out import hand_out
from lnrnn.runs.tensor_files import read_tensors, write_tensors
from lnrnn.runs.weights import read_weights
from lnrnn.training import ConfigurationError, RunFolder, train

SMALL = ("model=lstm_ln", "model.hidden_size=8", "trainer.max_epochs=2")
ANOTHER = ("name=b", "seed=7", "trainer.max_steps=4", "checkpoint_every_n_steps=2")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> RunFolder:
    return train(compose(*SMALL, "name=a"), tmp_path_factory.mktemp("source"))[0]


def weights_of(folder: RunFolder) -> dict[str, torch.Tensor]:
    newest = folder.newest_checkpoint()
    assert newest is not None
    return read_weights(newest)


def test_all_of_a_run(source, tmp_path, capsys):
    words = (*SMALL, *ANOTHER, f"init_from={source.path}", "optimizer.lr=0")
    folder, record = train(compose(*words), tmp_path)
    before, after = weights_of(source), weights_of(folder)
    assert all(torch.equal(before[name], value) for name, value in after.items())
    file = source.newest_checkpoint()
    assert file is not None
    assert record.init_from == {
        "given": str(source.path),
        "file": str(file),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "taken": list(after),
        "left": [],
    }
    assert record.metrics == source.read_record().metrics
    digests = {n: hashlib.sha256(v.numpy().tobytes()).hexdigest()[:12] for n, v in before.items()}
    assert record.initial_parameters == digests
    printed = capsys.readouterr().out
    assert f"init_from: 8 tensors of {file} are taken: encoder.layer.weight_ih_l0" in printed
    assert "not taken" not in printed
    card = model_card(lnrnn.load(folder.path), "user/name")
    assert f'"sha256 of the weights it started with": "{record.init_from["sha256"]}"' in card
    assert str(tmp_path) not in card
    assert "it started with" not in model_card(lnrnn.load(source.path), "user/name")


def test_a_named_file_and_an_exported_model_are_sources_too(source, tmp_path):
    best = next(source.checkpoints.glob("best-*.safetensors"))
    hand_out(lnrnn.load(source.path, weights="best"), tmp_path / "exported")
    found = []
    for given in (best, tmp_path / "exported"):
        words = (*SMALL, *ANOTHER, f"init_from={given}", "optimizer.lr=0")
        folder, record = train(compose(*words), tmp_path / given.name)
        found.append(weights_of(folder))
        assert record.init_from["given"] == str(given)
    wanted = read_tensors(best)[0]
    for weights in found:
        assert all(torch.equal(wanted[name], value) for name, value in weights.items())


def test_the_encoder_alone_under_another_head(source, tmp_path, capsys):
    """Everything else starts as it would have without, from the seed."""
    words = (*SMALL, *ANOTHER, "data=mnist1d", "trainer.limit_val_batches=1", "optimizer.lr=0")
    taken = (f"init_from={source.path}", "init_parts=[*hh*,*_out_*]")
    folder, record = train(compose(*words, *taken), tmp_path)
    plain, _ = train(compose(*words, "name=plain"), tmp_path)
    before, after, drawn = weights_of(source), weights_of(folder), weights_of(plain)
    names = {name for name in after if "hh" in name or "_out_" in name}
    assert set(record.init_from["taken"]) == names
    assert len(names) == 4
    for name, value in after.items():
        assert torch.equal(value, (before if name in names else drawn)[name]), name
    printed = capsys.readouterr().out
    assert "init_from: not taken: encoder.layer.weight_ih_l0 (32, 12)" in printed
    assert "init_from: drawn from the seed: encoder.layer.weight_ih_l0 (32, 1)" in printed
    assert "head.linear.weight (10, 8)" in printed


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        pytest.param(
            ["data=mnist1d"],
            [
                "encoder.layer.weight_ih_l0: (32, 12) in the file, (32, 1) in this model",
                "head.linear.bias: (9,) in the file, (10,) in this model",
                "init_parts=... names what is taken",
            ],
            id="other features",
        ),
        pytest.param(
            ["data=adding", "data.length=9", "+model.projection=12", "init_parts=[layer,head]"],
            [
                "head.linear.weight: (9, 8) in the file, (1, 8) in this model",
                "init_parts=encoder takes the encoder, and the head starts anew",
            ],
            id="another head",
        ),
        pytest.param(
            ["model=lstm_lncell"],
            [
                "encoder.layer.gain_ih_l0: (32,) in this model, and not in the file",
                "encoder.layer.gain_out_l0: (8,) in the file, and not in this model",
            ],
            id="another norm",
        ),
        pytest.param(
            ["model.num_layers=4"], ["weight_ih_l1", "and 6 more"], id="more than is shown"
        ),
        pytest.param(
            ["init_parts=embedding"],
            ["init_parts=embedding: the model has no such part", "encoder.layer.weight_ih_l0"],
            id="no such part",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_names_and_shapes(words, lines, source, tmp_path):
    words = (*SMALL, *ANOTHER, f"init_from={source.path}", *words)
    with pytest.raises(ConfigurationError) as refused:
        train(compose(*words), tmp_path)
    for line in lines:
        assert line in str(refused.value)
    assert not list(tmp_path.rglob("run.json")), "nothing was begun"


def test_what_is_not_a_run_is_refused(source, tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link.safetensors").symlink_to(next(source.checkpoints.glob("best-*.safetensors")))
    for name, reason in {
        "nothing": "there is no such run",
        "weights.pt": "there is no such run",
        "empty": "init_from=.*/empty: there is no such run",
        "link.safetensors": "is a link, which is not followed",
    }.items():
        words = (*SMALL, *ANOTHER, f"init_from={tmp_path / name}")
        with pytest.raises(ConfigurationError, match=reason):
            train(compose(*words), tmp_path / "runs")


@pytest.mark.parametrize("change", [float("nan"), torch.int64])
def test_numbers_that_nothing_can_start_with_are_refused(change, source, tmp_path):
    tensors = read_tensors(next(source.checkpoints.glob("best-*.safetensors")))[0]
    bias = tensors["head.linear.bias"]
    tensors["head.linear.bias"] = (
        bias.to(change) if isinstance(change, torch.dtype) else bias * change
    )
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        write_tensors(file, tensors, {})
    expected = "NaN or infinite" if isinstance(change, float) else "torch.int64 in the file"
    with pytest.raises(ConfigurationError, match=f"head.linear.bias: {expected}"):
        train(compose(*SMALL, *ANOTHER, f"init_from={path}"), tmp_path / "runs")


def test_double_precision_is_kept(tmp_path):
    double = (*SMALL, "trainer.precision=64-true", "trainer.max_steps=3")
    folder, _ = train(compose(*double, "name=a"), tmp_path)
    again, _ = train(
        compose(*double, "name=b", f"init_from={folder.path}", "optimizer.lr=0"), tmp_path
    )
    for name, value in weights_of(folder).items():
        assert value.dtype == torch.float64
        assert torch.equal(weights_of(again)[name], value)


def test_a_tied_head_is_taken_with_the_embedding(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(97 + (i * i) % 26) for i in range(2500)))
    data = ("data=text_files", f"data.files={text}", "data.batch_size=3", "data.window=12")
    words = (*data, "model=gru", "model.hidden_size=8", "trainer.max_steps=3")
    folder, _ = train(compose(*words, "name=a", "head.tied=true"), tmp_path)
    taken = (f"init_from={folder.path}", "init_parts=encoder", "optimizer.lr=0")
    again, _ = train(compose(*words, "name=b", "head.tied=true", *taken, "seed=3"), tmp_path)
    printed = capsys.readouterr().out
    assert "drawn from the seed: head.linear.bias (257,)" in printed
    assert torch.equal(
        weights_of(again)["head.linear.weight"], weights_of(folder)["encoder.embedding.weight"]
    )


# --- resume: the source is read once, at the very start


def test_a_resumed_run_does_not_need_its_source(source, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(source.path, copy)
    words = (*SMALL, "name=b", "trainer.max_steps=9", "checkpoint_every_n_steps=2")
    words = (*words, "model.dropout=0.3", f"init_from={copy}", "freeze=encoder", "unfreeze_at=6")
    whole = run(words, tmp_path / "whole", monkeypatch=monkeypatch)
    again = tmp_path / "again"
    with monkeypatch.context() as patch:
        interrupt_call(patch, "training_step", 4)
        with pytest.raises(Interruption):
            train(compose(*words), again)
    shutil.rmtree(copy)
    folder = run(words, again, monkeypatch=monkeypatch)
    assert_same_run(folder, whole)
    one, other = whole.read_record(), folder.read_record()
    assert other.resumed
    assert one.init_from == other.init_from
    assert one.initial_parameters == other.initial_parameters
    assert run(words, again, monkeypatch=monkeypatch).path == folder.path, "nor a finished one"


def test_another_start_is_another_run(source, tmp_path):
    words = (*SMALL, "trainer.max_steps=4", "checkpoint_every_n_steps=2")
    folder, _ = train(compose(*words, "name=b", f"init_from={source.path}"), tmp_path)
    with pytest.raises(ConfigurationError, match=r"init_from: None"):
        train(compose(*words, "name=b"), tmp_path)
    checkpoint = next(folder.checkpoints.glob("step-*.ckpt"))
    with pytest.raises(ConfigurationError, match=r"init_from: .* in the checkpoint, None now"):
        train(compose(*words, "name=c", f"resume={checkpoint}"), tmp_path)
    more = (f"init_from={source.path}", f"resume={checkpoint}", "trainer.max_steps=6")
    _, record = train(compose(*words, "name=d", *more), tmp_path)
    kept = folder.read_record().init_from
    assert record.init_from == {"given": kept["given"], "sha256": kept["sha256"]}
    assert record.initial_parameters == {}
