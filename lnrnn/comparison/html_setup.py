"""What was run, as the page says it: the command, the data, and what all arms have in common."""

from collections.abc import Mapping, Sequence
from typing import Any

SPLITS = {"train": "training", "validation": "validation", "test": "test"}
NUMBERS = {  # a setting that all arms share, in words
    "data.batch_size": "batches of {}",
    "trainer.accumulate_grad_batches": "gradients of {} batches a step",
    "model.hidden_size": "{} units",
    "model.num_layers": "layers: {}",
    "model.dropout": "dropout {}",
    "model.eps": "eps {}",
    "warmup_steps": "{} steps of warmup",
}
UNCHANGED = {  # what is not worth a word
    "trainer.accumulate_grad_batches": 1,
    "model.dropout": 0,
    "warmup_steps": 0,
}


def setup(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a reader must know of the runs, with a name each; without what is not known.

    Args:
        result: What ``compare`` returned.
    """
    validity = result["validity"]
    shared = validity["shared_configuration"]
    lines = [
        ("data", _data(result["data"], validity["split_sizes"])),
        ("training", _training(validity["steps"], shared)),
        ("optimizer", _optimizer(shared)),
        ("model", _numbers(shared, "model.")),
        ("intervals and p-values", coverage(result)),
    ]
    return [(name, words) for name, words in lines if words]


def coverage(result: Mapping[str, Any]) -> str:
    """Say for what else than these runs the intervals and p-values of a comparison hold.

    Args:
        result: What ``compare`` returned.
    """
    splits, pairs = len(result["splits"]), result["pairs"]
    if splits == 1 or not pairs:
        return "hold for other seeds, on the same split of the same data"
    widened = pairs[0]["splits"]["correction"]
    if not widened:
        return (
            "hold for other seeds and for other data of the same kind, as each of the "
            f"{splits} splits has data of its own"
        )
    return (
        f"hold for other seeds and other splits: the {splits} splits share out the same examples, "
        f"so the variance between them counts for 1/{splits} + {widened:.3g} instead of 1/{splits}"
    )


def _data(name: str, sizes: Mapping[str, int] | None) -> str:
    known = sizes or {}
    listed = ", ".join(
        f"{known[split]:,} {words}" for split, words in SPLITS.items() if split in known
    )
    return f"{name}: {listed} sequences or windows" if listed else name


def _training(steps: Sequence[int], shared: Mapping[str, Any]) -> str:
    words = []
    if steps:
        span = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
        words.append(f"{span} optimizer steps")
    epochs = shared.get("trainer.max_epochs")
    if isinstance(epochs, int) and epochs > 0:
        words.append(f"{epochs} epochs")
    words.append(_numbers(shared, "data."))
    words.append(_numbers(shared, "trainer."))
    if "trainer.gradient_clip_val" in shared:
        clip = shared["trainer.gradient_clip_val"] or None  # 0 means none to Lightning
        norm = f"{clip:g}" if isinstance(clip, (int, float)) else clip
        words.append("no clipping" if clip is None else f"gradients clipped to a norm of {norm}")
    if "early_stopping" in shared and shared["early_stopping"] is not None:
        words.append(f"stopped after {shared['early_stopping']} validations without a better one")
    if "trainer.precision" in shared:
        words.append(f"precision {shared['trainer.precision']}")
    return ", ".join(filter(None, words))


def _optimizer(shared: Mapping[str, Any]) -> str:
    if "optimizer._target_" not in shared:
        return ""
    kind = str(shared["optimizer._target_"]).rpartition(".")[2]
    names = {"lr": "learning rate", "weight_decay": "weight decay"}
    words = [
        f"{names.get(key, key)} {value}"
        for name, value in shared.items()
        if (key := name.removeprefix("optimizer.")) != name and not key.startswith("_")
    ]
    if shared.get("schedule") is not None:
        words.append(f"{shared['schedule']} schedule")
    words.append(_numbers(shared, "warmup_steps"))
    return ", ".join([kind, *filter(None, words)])


def _numbers(shared: Mapping[str, Any], start: str) -> str:
    """Return what ``NUMBERS`` has of the settings whose names begin with ``start``."""
    return ", ".join(
        words.format(shared[key])
        for key, words in NUMBERS.items()
        if key.startswith(start) and key in shared and shared[key] != UNCHANGED.get(key)
    )
