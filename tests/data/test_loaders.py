"""The loaders under Lightning: one order, with workers and after every kind of interruption."""

import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any, cast

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

import lnrnn.data
from lnrnn.data.batch import Batch

pytestmark = [
    # Lightning cannot know that these loaders resume; that they do is what is tested.
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before"),
    # The resumed run writes beside the one it is compared with.
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]

EPOCHS, BATCHES = 3, 6  # 24 sequences in batches of 4; validation runs each epoch


class Recorder(L.LightningModule):
    """Learns one number and writes down every batch it sees."""

    def __init__(self, interrupt=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.interrupt = [], interrupt

    def training_step(self, batch, index):
        step = self.trainer.fit_loop.epoch_loop.total_batch_idx
        if step == self.interrupt:
            raise KeyboardInterrupt
        self.seen.append((self.current_epoch, index, batch.inputs.tolist()))
        return (self.weight - batch.inputs.float().mean()) ** 2

    def validation_step(self, batch, index):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def sequences(num_workers=0):
    return lnrnn.data.adding(
        length=3, num_train=24, num_validation=11, num_test=7, batch_size=4, num_workers=num_workers
    )


def fit(path, datamodule, checkpoint=None, resume=None, interrupt=None, **trainer):
    module, callbacks = Recorder(interrupt), []
    if checkpoint is not None:
        callbacks.append(ModelCheckpoint(path, save_top_k=-1, filename="{step}", **checkpoint))
    trainer = {"max_epochs": EPOCHS, **trainer}
    loop = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=checkpoint is not None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=callbacks,
        **trainer,
    )
    loop.fit(module, datamodule=datamodule, ckpt_path=resume)
    return module


CASES = {
    "epoch end": ({"every_n_epochs": 1}, 6, {}),
    "epoch end before validation": ({"every_n_epochs": 1, "save_on_train_epoch_end": True}, 12, {}),
    "within an epoch": ({"every_n_train_steps": 4}, 4, {}),
    "within the second epoch": ({"every_n_train_steps": 4}, 8, {}),
    "last batch": ({"every_n_train_steps": 6}, 6, {}),
    "last batch of fewer": ({"every_n_train_steps": 5}, 5, {"limit_train_batches": 5}),
    "epoch end of fewer": ({"every_n_epochs": 1}, 5, {"limit_train_batches": 0.9}),
    "counted in steps": ({"every_n_train_steps": 4}, 8, {"max_epochs": -1, "max_steps": 15}),
    "last batch of steps": ({"every_n_train_steps": 6}, 6, {"max_epochs": -1, "max_steps": 15}),
    "epoch end of steps": ({"every_n_epochs": 1}, 6, {"max_epochs": -1, "max_steps": 15}),
    "both": ({"every_n_epochs": 1}, 6, {"max_epochs": 5, "max_steps": 15}),
}


@pytest.mark.parametrize(
    ("case", "num_workers"),
    [*((case, 0) for case in CASES), ("epoch end", 2), ("last batch", 2), ("within an epoch", 2)],
)
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(tmp_path, case, num_workers):
    checkpoint, step, trainer = CASES[case]
    whole = fit(tmp_path, sequences(num_workers), checkpoint, **trainer)
    path = str(tmp_path / f"step={step}.ckpt")
    resumed = fit(tmp_path / "again", sequences(num_workers), checkpoint, resume=path, **trainer)
    assert resumed.seen == whole.seen[step:]
    assert torch.equal(resumed.weight, whole.weight)


@pytest.mark.parametrize("limits", [{"max_steps": 15, "max_epochs": -1}, {}])
def test_a_run_may_be_resumed_twice(tmp_path, limits):
    checkpoint = {"every_n_epochs": 1}
    whole = fit(tmp_path, sequences(), checkpoint, **limits)
    fit(tmp_path / "2", sequences(), checkpoint, resume=str(tmp_path / "step=6.ckpt"), **limits)
    path = str(tmp_path / "2" / "step=12.ckpt")
    resumed = fit(tmp_path / "3", sequences(), checkpoint, resume=path, **limits)
    assert resumed.seen == whole.seen[12:]


@pytest.mark.parametrize("step", [3, 5, 6, 9, 11])
def test_an_interrupted_batch_is_done_again(tmp_path, step):
    checkpoint = {"save_on_exception": True, "every_n_epochs": 100}
    whole = fit(tmp_path / "whole", sequences())
    with pytest.raises(SystemExit):
        fit(tmp_path, sequences(), checkpoint, interrupt=step)
    (path,) = tmp_path.glob("*.ckpt")
    resumed = fit(tmp_path / "again", sequences(), checkpoint, resume=str(path))
    assert resumed.seen == whole.seen[step:]
    assert torch.equal(resumed.weight, whole.weight)


def test_a_text_goes_on_where_it_stopped(folder):
    (folder / "text.txt").write_bytes(bytes(range(100)) * 4)

    def text():
        return lnrnn.data.text_files(files="text.txt", batch_size=3, window=20)

    every = {"every_n_train_steps": 4}
    whole = fit(folder / "whole", text(), every)
    resumed = fit(folder / "again", text(), every, resume=str(folder / "whole" / "step=8.ckpt"))
    assert len(whole.seen) == EPOCHS * 5
    assert [seen[2] for seen in whole.seen[:5]] == [seen[2] for seen in whole.seen[5:10]]
    assert resumed.seen == whole.seen[8:]


def test_validating_does_not_change_the_training(tmp_path):
    with_validation = fit(tmp_path, sequences())
    without = fit(tmp_path, sequences(), limit_val_batches=0)
    assert with_validation.seen == without.seen


def test_loading_draws_nothing_from_the_global_generator():
    datamodule = sequences()
    state = torch.get_rng_state()
    for loader in (datamodule.train_dataloader(), datamodule.val_dataloader()):
        list(loader)
    assert torch.equal(torch.get_rng_state(), state)


def test_epochs_differ_and_workers_do_not(tmp_path):
    alone, workers = fit(tmp_path, sequences()), fit(tmp_path, sequences(2))
    assert alone.seen == workers.seen
    epochs = [[s[2] for s in alone.seen[i : i + BATCHES]] for i in range(0, 18, BATCHES)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    rows = [sorted(str(row) for batch in epoch for row in batch) for epoch in epochs]
    assert rows[0] == rows[1] == rows[2]


def test_evaluation_is_in_order_and_whole():
    datamodule = sequences()
    for name, loader in (
        ("validation", datamodule.val_dataloader()),
        ("test", datamodule.test_dataloader()),
    ):
        split = datamodule.splits[name]
        everything = split[list(range(len(split)))]
        assert torch.equal(torch.cat([batch.inputs for batch in loader]), everything.inputs)
        assert torch.equal(torch.cat([batch.targets for batch in loader]), everything.targets)


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_every_batch(world_size):
    """What a rank loads is the rows of the global batch that are its own."""
    alone = sequences()
    ranks = []
    for rank in range(world_size):
        datamodule = sequences()
        datamodule.trainer = cast(L.Trainer, FakeTrainer(rank, world_size))
        ranks.append(datamodule)
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        parts = zip(*(getattr(rank, loader)() for rank in ranks), strict=True)
        for batch, part in zip(getattr(alone, loader)(), parts, strict=True):
            assert torch.equal(torch.cat([p.inputs for p in part]), batch.inputs)
            assert torch.equal(torch.cat([p.targets for p in part]), batch.targets)


class FakeTrainer:
    """What the datamodule asks a trainer before any epoch began."""

    def __init__(self, global_rank, world_size):
        self.global_rank, self.world_size = global_rank, world_size
        self.limit_train_batches = 1.0
        self.fit_loop = L.Trainer(logger=False, enable_checkpointing=False).fit_loop


def test_lengths_stay_on_the_cpu():
    batch = Batch(torch.zeros(2, 3), torch.zeros(2), torch.tensor([3, 2])).to("meta")
    assert batch.inputs.device.type == batch.targets.device.type == "meta"
    assert batch.lengths is not None
    assert batch.lengths.device.type == "cpu"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Python starts them afresh")
def test_loader_processes_are_children_whatever_python_starts_others_by():
    """Python 3.14 forks from a server; a loader process obeys nobody but its parent."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("forkserver", force=True)
    try:
        batches: Any = iter(sequences(num_workers=1).train_dataloader())
        (worker,) = batches._workers
        status = Path(f"/proc/{worker.pid}/status").read_text()
        assert f"\nPPid:\t{os.getpid()}\n" in status
        worker.terminate()
        worker.join(timeout=20)
        assert worker.exitcode == 0
    finally:
        multiprocessing.set_start_method(before, force=True)


@pytest.mark.parametrize(("key", "value"), [("batch_size", 0), ("num_workers", -1)])
def test_bad_loader_settings(key, value):
    with pytest.raises(ValueError, match=f"data.{key} must"):
        lnrnn.data.japanese_vowels(**{key: value})


@pytest.mark.parametrize("value", ["abc", 1.5, True])
@pytest.mark.parametrize(
    ("data", "key"),
    [
        ("japanese_vowels", "num_classes"),
        ("japanese_vowels", "num_features"),
        ("japanese_vowels", "batch_size"),
        ("japanese_vowels", "num_workers"),
        ("mnist1d", "length"),
        ("adding", "length"),
        ("copying", "length"),
        ("copying", "num_tokens"),
        ("adding", "num_train"),
        ("shakespeare", "window"),
    ],
)
def test_what_counts_something_is_a_whole_number(data, key, value):
    with pytest.raises(TypeError, match=f"data.{key} must be a whole number, got {value!r}"):
        getattr(lnrnn.data, data)(**{key: value})


def test_the_greatest_length_is_a_whole_number():
    with pytest.raises(TypeError, match=r"data.max_length must be a whole number, got 'abc'"):
        lnrnn.data.table_files(files="a.csv", num_classes=2, max_length=cast(int, "abc"))


def test_a_batch_goes_to_a_gpu_without_being_waited_for():
    """Lightning calls ``to(device)``; only a copy from pinned memory is not waited for."""
    calls = []

    class Stub:
        device = torch.device("cpu")

        def pin_memory(self):
            calls.append("pinned")
            return self

        def to(self, device, non_blocking):
            calls.append((device, non_blocking))
            return self

    lengths = torch.tensor([3, 2])
    stub: Any = Stub()
    moved = Batch(stub, stub, lengths).to(torch.device("cuda"))
    assert calls == ["pinned", "pinned", *[(torch.device("cuda"), True)] * 2]
    assert moved.lengths is lengths
