"""Whether two runs ended in the same bits: weights, optimizer, schedule, carried state, records."""

from typing import Any

import torch

from lnrnn.runs.checkpoint_files import read_checkpoint
from lnrnn.runs.record import RunRecord
from lnrnn.training import RunFolder
from lnrnn.training.build import build_data, build_task

KEPT = (
    *("state_dict", "optimizer_states", "lr_schedulers", "carried_state"),
    *("loops", "callbacks", "epoch", "global_step", "stopped_early"),
)


def content(folder: RunFolder) -> tuple[dict, bytes, RunRecord]:
    newest = folder.newest_checkpoint()
    assert newest is not None
    checkpoint = torch.load(newest, weights_only=True)
    kept = {key: checkpoint[key] for key in KEPT}
    return {"file": newest.name, **kept}, folder.metrics.read_bytes(), folder.read_record()


def assert_equal(one: Any, other: Any) -> None:
    """Compare tensors bit for bit, inside dictionaries and lists too."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        for part, other_part in zip(one, other, strict=True):
            assert_equal(part, other_part)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def assert_same_run(one: RunFolder, other: RunFolder) -> None:
    (state, metrics, record), (other_state, other_metrics, other_record) = (
        content(one),
        content(other),
    )
    assert_equal(state, other_state)
    assert metrics == other_metrics
    assert record.metrics == other_record.metrics
    assert record.steps == other_record.steps


def predictions(folder: RunFolder) -> torch.Tensor:
    """Return what the newest checkpoint predicts for the first test batch."""
    config = folder.read_config()
    datamodule = build_data(config)
    task = build_task(config, datamodule)
    newest = folder.newest_checkpoint()
    assert newest is not None
    task.load_state_dict(read_checkpoint(newest)["state_dict"])
    batch = next(iter(datamodule.test_dataloader()))
    with torch.no_grad():
        return task.eval().model(batch.inputs, batch.lengths)[0]
