"""Whether two runs ended in the same bits: weights, optimizer, schedule, carried state, records."""

import json
from collections.abc import Iterator
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
    assert not list(differing(one, other))


def differing(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Yield each place in which two nested values differ, with what is there."""
    if type(one) is not type(other):
        yield f"{where}: {one!r} and {other!r}"
    elif isinstance(one, dict):
        for key in sorted(one.keys() | other.keys(), key=str):
            inside = f"{where}.{key}" if where else str(key)
            if key in one and key in other:
                yield from differing(one[key], other[key], inside)
            else:
                yield f"{inside}: in one of the two only"
    elif isinstance(one, list | tuple) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from differing(*pair, f"{where}[{index}]")
    elif isinstance(one, torch.Tensor):
        if one.dtype != other.dtype or one.shape != other.shape:
            yield f"{where}: {one.dtype} {tuple(one.shape)} and {other.dtype} {tuple(other.shape)}"
        elif not torch.equal(one, other):
            yield f"{where}: differs by up to {(one - other).abs().max():.3g}"
    elif one != other:
        yield f"{where}: {one!r} and {other!r}"


def assert_same_run(one: RunFolder, other: RunFolder) -> None:
    (state, metrics, record), (other_state, other_metrics, other_record) = (
        content(one),
        content(other),
    )
    assert_equal(state, other_state)
    assert metrics == other_metrics
    assert record.metrics == other_record.metrics
    assert record.steps == other_record.steps
    assert (record.tested, record.best) == (other_record.tested, other_record.best)
    assert kept_for_use(one) == kept_for_use(other)


def kept_for_use(folder: RunFolder) -> dict[str, Any]:
    """Return the best weights with their manifest, and what the model reads and answers."""
    paths = [folder.model, *folder.checkpoints.glob("best-*.safetensors")]
    found: dict[str, Any] = {path.name: path.read_bytes() for path in paths}
    for path in folder.checkpoints.glob("best-*.json"):
        found[path.name] = json.loads(path.read_text())
        del found[path.name]["versions"]  # of whoever wrote it, which may be another in the end
    return found


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
