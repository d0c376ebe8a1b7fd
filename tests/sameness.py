"""Whether two runs ended in the same bits: weights, optimizer, schedule, carried state, records."""

from typing import Any

import torch

from lnrnn.training import RunFolder

KEPT = ("state_dict", "optimizer_states", "lr_schedulers", "carried_state")


def content(folder: RunFolder) -> tuple[dict, bytes, dict]:
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
    assert record["metrics"] == other_record["metrics"]
    assert record["steps"] == other_record["steps"]
