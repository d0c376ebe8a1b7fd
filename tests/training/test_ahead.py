"""The host runs ahead of the device, and a number that is not finite still never gets anywhere.

On a CPU everything is waited for; here `SequenceTask._ahead` makes it train as on a GPU.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from experiments import LANGUAGE_MODEL, Interruption, compose, interrupt_call
from host_reads import HostReads
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from same_runs import assert_same_run
from spoiled_runs import SPOILED, Stopped, spoil, stopped

from lnrnn.training import NonFiniteError, SequenceTask, train
from lnrnn.training.ahead import Flag, use_fused
from lnrnn.training.build import build_data, build_task, quiet_lightning
from lnrnn.training.monitor import callback as monitor

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    *("model=lstm_ln", "model.hidden_size=8", "model.dropout=0.2", "trainer.max_epochs=2"),
    *("trainer.log_every_n_steps=1000", "checkpoint_every_n_steps=1000", "+optimizer.fused=true"),
)
LAST = 7  # batch of an epoch
OPTIMIZERS = ("optimizer=sgd", "optimizer=adam", "optimizer=adamw")
UNCLIPPED = "trainer.gradient_clip_val=null"
SCALED = (
    *("trainer.precision=bf16-mixed", "optimizer=sgd", "optimizer.lr=0.5"),
    *("trainer.gradient_clip_val=0.1", "trainer.log_every_n_steps=1"),
)


@pytest.fixture
def text(tmp_path) -> str:
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog; " * 20)
    return f"data.files={path}"


def saved(run: Stopped) -> list[str]:
    return sorted(path.name for path in run.folder.checkpoints.iterdir())


def assert_same_stop(root: Path, *overrides: str, **settings: Any) -> None:
    """Check that a run stops as one that waits for every number, and that its step did nothing."""
    ours, theirs = (
        stopped(root / str(ahead), *overrides, ahead=ahead, **settings) for ahead in (True, False)
    )
    assert ours.message == theirs.message
    assert ours.folder.metrics.read_bytes() == theirs.folder.metrics.read_bytes()
    assert ours.folder.read_record().steps == theirs.folder.read_record().steps
    assert saved(ours) == saved(theirs)
    if settings["place"] != "parameter":  # that one is spoiled from outside
        ours.assert_untouched(optimizer=settings["at"] > 1)


@pytest.mark.parametrize("clip", [UNCLIPPED, "trainer.gradient_clip_val=0.1"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("place", ["activation", "loss", "gradient", "norm"])
def test_a_step_that_went_wrong_changes_nothing(place, optimizer, clip, tmp_path):
    assert_same_stop(tmp_path, optimizer, clip, *SMALL, place=place, at=5)


@pytest.mark.parametrize("at", [1, 2, LAST, LAST + 1, 2 * LAST])
@pytest.mark.parametrize("place", ["batch", "gradient"])
def test_it_is_the_same_at_every_step(place, at, tmp_path):
    """The last step of an epoch is followed by a validation, and that of the run by the end."""
    assert_same_stop(tmp_path, *SMALL, place=place, at=at)


@pytest.mark.parametrize("place", SPOILED)
@pytest.mark.parametrize(
    "override", ["checkpoint_every_n_steps=1", "trainer.log_every_n_steps=1", "monitor=true"]
)
def test_nothing_is_written_of_a_step_that_was_not_made(place, override, tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "EVERY", 1)
    assert_same_stop(tmp_path, *SMALL, override, place=place, at=4)


@pytest.mark.parametrize("batch", [0, 1, 2])
@pytest.mark.parametrize("place", ["batch", "activation", "gradient", "norm"])
def test_a_step_of_several_batches_names_the_one(place, batch, tmp_path):
    accumulated = "trainer.accumulate_grad_batches=3"
    assert_same_stop(tmp_path, *SMALL, accumulated, place=place, at=2, batch=batch)


@pytest.mark.parametrize("place", ["activation", "gradient"])
def test_a_validation_within_an_epoch_comes_after_the_check(place, tmp_path):
    assert_same_stop(tmp_path, *SMALL, "trainer.val_check_interval=2", place=place, at=4)


def test_a_validation_in_the_middle_of_a_step_comes_after_the_check(tmp_path):
    overrides = ("trainer.accumulate_grad_batches=3", "trainer.val_check_interval=0.3")
    assert_same_stop(tmp_path, *SMALL, *overrides, place="activation", at=2, batch=0)


@pytest.mark.parametrize("place", ["activation", "loss", "gradient", "norm"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "16-true", "64-true"])
def test_it_is_the_same_in_every_precision(precision, place, tmp_path):
    assert_same_stop(tmp_path, *SMALL, f"trainer.precision={precision}", place=place, at=3)


def test_the_state_that_a_batch_began_from_is_looked_at(tmp_path, text):
    overrides = (*LANGUAGE_MODEL, text, "+optimizer.fused=true")
    assert_same_stop(tmp_path, *overrides, place="activation", at=4)


@pytest.mark.parametrize(
    ("override", "at"),
    [
        ("trainer.val_check_interval=1.0", 3),  # read after the next batch
        ("trainer.val_check_interval=1.0", LAST),  # read where no precision is set
        ("trainer.accumulate_grad_batches=2", 2),
    ],
)
def test_what_went_wrong_is_looked_for_as_it_happened(override, at, tmp_path):
    overrides = ("trainer.precision=bf16-mixed", override)
    passes = stopped(tmp_path, *SMALL, *overrides, place="activation", at=at).passes
    assert len(passes) == 2  # the step's, and the one that found it
    assert passes[0] == passes[1]
    assert passes[0].autocast
    assert passes[0].training


def test_a_validation_in_a_step_looks_for_it_as_it_happened(tmp_path):
    overrides = ("trainer.accumulate_grad_batches=3", "trainer.val_check_interval=0.3")
    passes = stopped(tmp_path, *SMALL, *overrides, place="activation", at=1, batch=1).passes
    assert len(passes) == 2
    assert passes[0] == passes[1]
    assert passes[0].training


@pytest.mark.parametrize("place", ["activation", "gradient"])
@pytest.mark.parametrize("saves", [False, True])
def test_the_task_alone_looks_before_it_ends_and_is_saved(place, saves, tmp_path, monkeypatch):
    """Without this project's records and checkpoints."""
    experiment = compose(*SMALL)
    data = build_data(experiment.config)
    task: Any = build_task(experiment.config, data)
    original = SequenceTask.training_step

    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 1:
            spoil(self, batch, place, [])
        return original(self, batch, batch_idx)

    monkeypatch.setattr(SequenceTask, "training_step", step)
    monkeypatch.setattr(SequenceTask, "_ahead", True)
    checkpoints = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1)
    trainer = Trainer(
        max_steps=3 if saves else 2,
        accelerator="cpu",
        logger=False,
        callbacks=[checkpoints] if saves else [],
        enable_checkpointing=saves,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    with quiet_lightning(), pytest.raises(NonFiniteError, match="at step 2"):
        trainer.fit(task, datamodule=data)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch=0-step=1.ckpt"] * saves


def test_of_two_processes_one_goes_wrong_and_both_stop(tmp_path):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(ROOT / "tests" / "support" / "spoiled_runs.py"), str(tmp_path)]
    process = subprocess.run(
        [sys.executable, *command, "trainer=ddp", "trainer.accelerator=cpu", *SMALL],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    notes = [json.loads((tmp_path / f"seen{rank}").read_text()) for rank in (0, 1)]
    assert notes[0] == notes[1]
    for ahead, waiting in notes[0].values():
        assert ahead == waiting
        assert "at step 5 (epoch 0)" in ahead[0]
    assert len({message for (message, _), _ in notes[0].values()}) >= 3


def test_a_run_that_goes_well_is_the_same_run(tmp_path, monkeypatch):
    waiting = train(compose(*SMALL, "monitor=true"), tmp_path / "waiting")[0]
    monkeypatch.setattr(SequenceTask, "_ahead", True)
    ahead = train(compose(*SMALL, "monitor=true"), tmp_path / "ahead")[0]
    assert_same_run(ahead, waiting)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_run_keeps_the_kernel_of_its_device(optimizer, tmp_path, monkeypatch):
    """What a checkpoint says of the optimizer is from the device that the run began on."""
    overrides = (optimizer, *SMALL[:-1], "checkpoint_every_n_steps=4")
    with monkeypatch.context() as patch:
        interrupt_call(patch, "training_step", 6)
        with pytest.raises(Interruption):
            train(compose(*overrides), tmp_path)
    monkeypatch.setattr(SequenceTask, "_ahead", True)
    seen = []
    original = SequenceTask.training_step

    def look(self, batch, batch_idx):
        seen.append({group["fused"] for group in self.trainer.optimizers[0].param_groups})
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceTask, "training_step", look)
        interrupt_call(patch, "training_step", 6)
        with pytest.raises(Interruption):
            train(compose(*overrides), tmp_path)
        assert seen == [{True}] * 6
        seen.clear()
        patch.setattr(SequenceTask, "_ahead", None)
        patch.setattr(SequenceTask, "training_step", look)
        train(compose(*overrides), tmp_path)
    assert seen
    assert all(kinds == {None} for kinds in seen)


def test_a_carried_state_goes_to_the_device_that_the_model_is_going_to(text):
    """A checkpoint is read before the model is moved."""
    experiment = compose(*LANGUAGE_MODEL, text)
    task: Any = build_task(experiment.config, build_data(experiment.config))
    strategy = SimpleNamespace(root_device=torch.device("meta"))
    task._trainer = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1)
    task.on_load_checkpoint({"carried_state": (torch.zeros(1, 3, 8),)})
    assert [part.device.type for part in task.train_state] == ["meta"]


def test_a_flag_from_a_gpu_is_waited_for_by_its_own_event(monkeypatch):
    """It reads neither the device's value nor the stream: other work may go on."""
    steps: list[str] = []

    class Event:
        def record(self) -> None:
            steps.append("record")

        def synchronize(self) -> None:
            steps.append("synchronize")

    class Pinned:
        def copy_(self, value: Any, *, non_blocking: bool) -> None:
            steps.append(f"copy {non_blocking}")

        def __bool__(self) -> bool:
            steps.append("read")
            return True

    def empty(size: Any, *, dtype: torch.dtype, pin_memory: bool) -> Pinned:
        steps.append(f"{dtype} {pin_memory}")
        return Pinned()

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch, "empty", empty)
    value: Any = SimpleNamespace(is_cuda=True)
    flag = Flag(value)
    assert steps == ["torch.bool True", "copy True", "record"]
    assert flag.read()
    assert steps[3:] == ["synchronize", "read"]


def test_only_an_optimizer_that_knows_how_to_skip_is_trusted_to():
    weights = [torch.nn.Parameter(torch.ones(3))]
    fused = [torch.optim.SGD(weights), torch.optim.Adam(weights), torch.optim.AdamW(weights)]
    assert all(use_fused(optimizer) for optimizer in fused)
    assert use_fused(torch.optim.Adam(weights, fused=True))
    others = [
        torch.optim.Adam(weights, foreach=True),
        torch.optim.Adam(weights, fused=False),
        torch.optim.Adam(weights, capturable=True),
        torch.optim.SGD(weights, differentiable=True),
        torch.optim.RMSprop(weights),
        type("Adam", (torch.optim.Adam,), {})(weights),
    ]
    assert not any(use_fused(optimizer) for optimizer in others)


def scaled(self: MixedPrecision, precision: str, device: str) -> None:
    """Build what Lightning has on GPUs only."""
    self.precision, self.device = "16-mixed", device
    self.scaler = torch.amp.GradScaler(device, init_scale=8.0)  # reads its flag at every step


def test_a_scalers_gradients_are_clipped_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(MixedPrecision, "__init__", scaled)
    runs = [
        train(compose(*SMALL[:-1], f"+optimizer.fused={fused}", *SCALED), tmp_path / fused)[0]
        for fused in ("true", "false")
    ]
    fused, plain = (
        [json.loads(line)["value"] for line in run.metrics.read_text().splitlines()] for run in runs
    )
    assert fused == pytest.approx(plain, rel=0.02)


@pytest.mark.parametrize(
    "override",
    [
        "trainer.precision=bf16-mixed",
        "+trainer.detect_anomaly=true",  # reads every output
        "+optimizer.foreach=true",
    ],
    ids=["scaler", "anomaly", "foreach"],
)
def test_where_it_cannot_run_ahead_it_waits(override, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(Flag, "read", lambda self: read.append(self))
    monkeypatch.setattr(MixedPrecision, "__init__", scaled)
    found = stopped(tmp_path, *SMALL[:-1], override, place="activation", at=3)
    assert "at step 3 (epoch 0). First to go wrong: the output of head" in found.message
    assert not read


@pytest.mark.parametrize("data", ["adding", "text"])
@pytest.mark.parametrize("accumulated", [1, 2])
def test_ten_steps_read_nothing_but_flags_that_have_arrived(
    data, accumulated, text, tmp_path, monkeypatch
):
    source = (*LANGUAGE_MODEL, text) if data == "text" else ("data=adding", "data.length=9")
    overrides = ("trainer.max_steps=10", f"trainer.accumulate_grad_batches={accumulated}")
    experiment = compose(*source, *SMALL[:-1], *overrides, "trainer.max_epochs=9", "monitor=true")
    reads = HostReads(monkeypatch)
    monkeypatch.setattr(SequenceTask, "_ahead", True)
    train(experiment, tmp_path / "ahead")
    assert any(reads.batches[:accumulated])  # the first step: the monitor's sample
    others = reads.batches[accumulated:]
    assert len(others) >= 9
    ends = [batch for batch in others if batch]  # of an epoch
    assert all("_write_loss" in read for batch in ends for read in batch)
    assert len(ends) <= 4
    assert reads.flags == reads.asked > 10
    assert all(reads.batches[number] for number in reads.early)
    monkeypatch.setattr(SequenceTask, "_ahead", None)
    reads.batches.clear()
    train(experiment, tmp_path / "waiting")
    assert all(batch for batch in reads.batches)  # or this test sees nothing
