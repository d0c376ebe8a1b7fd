"""From what a person has to what a model reads: text and numbers as padded batches.

Dimensions: B sequences, T steps of the longest, F features.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lnrnn.preparation import Preparation


def to_steps(value: Any, preparation: Preparation, name: str) -> Tensor:
    """Return one sequence as a model reads it, treated as the training data were.

    Args:
        value: A text (or bytes), where the model reads bytes; whole numbers, where it reads
            symbols; or numbers: (T, F), or (T,) where F is 1; None and NaN are
            missing, where the training data had missing values.
        preparation: How the training data were treated.
        name: What the sequence is called in messages.

    Returns:
        Steps, (T, F) float32 or (T,) int64.

    Raises:
        ValueError: If it is empty, of another kind or shape, or holds what the model does not know.
    """
    if preparation.num_features is not None:
        steps = _features(value, preparation, name)
    else:
        steps = _symbols(value, preparation, name)
    if len(steps) == 0:
        raise ValueError(f"{name}: a sequence needs at least one step, and this one is empty")
    steps = steps[: preparation.max_length]
    if preparation.length is not None and len(steps) != preparation.length:
        raise ValueError(
            f"{name}: this model was trained on sequences of {preparation.length} steps, got "
            f"{len(steps)}"
        )
    window = None if preparation.kind == "language_modeling" else preparation.window
    if window is not None and len(steps) != window:
        raise ValueError(
            f"{name}: this model was trained on windows of {window} steps (data.window), got "
            f"{len(steps)}: give {window} steps that follow one another"
        )
    return steps


def to_batch(sequences: Sequence[Tensor], preparation: Preparation) -> tuple[Tensor, Tensor | None]:
    """Pad sequences to the longest.

    Args:
        sequences: From :func:`to_steps`; at least one.
        preparation: How the training data were treated.

    Returns:
        Inputs, (B, T, F) or (B, T), and lengths, (B,) int64; None where all are equally long.
    """
    lengths = torch.tensor([len(steps) for steps in sequences])
    padding = 0 if preparation.num_tokens is None else preparation.num_tokens - 1
    inputs = pad_sequence(list(sequences), batch_first=True, padding_value=padding)
    return inputs, None if bool((lengths == lengths[0]).all()) else lengths


def _features(value: Any, preparation: Preparation, name: str) -> Tensor:
    count = preparation.given_features
    rule = f"{name}: each of its steps must be {count} numbers"
    if isinstance(value, str | bytes):
        raise ValueError(f"{rule}, and not text")
    try:
        given = _with_nan(value) if preparation.masked else value
        steps = torch.as_tensor(given, dtype=torch.float64)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{rule} ({error})") from error
    if steps.dim() == 1 and count == 1:
        steps = steps[:, None]
    if steps.numel() == 0:
        return torch.empty(0, preparation.num_features or 0)
    if steps.dim() != 2 or steps.shape[1] != count:
        raise ValueError(f"{rule}, (T, {count}); got the shape {tuple(steps.shape)}")
    missing = steps.isnan()
    bad = steps.isinf() if preparation.masked else ~torch.isfinite(steps)
    if bool(bad.any()):
        step = int(bad.any(dim=1).nonzero()[0])
        raise ValueError(
            f"{name}: values must be finite, and step {step} is {steps[step].tolist()}"
        )
    steps = steps.float()
    if preparation.scaling is not None:
        mean = torch.tensor(preparation.scaling.mean, dtype=torch.float64)
        std = torch.tensor(preparation.scaling.std, dtype=torch.float64)
        steps = ((steps.double() - mean) / std).float()
    if preparation.masked:
        steps = torch.cat((steps.masked_fill(missing, 0.0), missing.float()), dim=1)
    return steps


def _with_nan(value: Any) -> Any:
    """Put NaN where lists have None, as JSON and Arrow write what is missing."""
    if isinstance(value, list | tuple):
        return [_with_nan(entry) for entry in value]
    return math.nan if value is None else value


def _symbols(value: Any, preparation: Preparation, name: str) -> Tensor:
    if preparation.symbols == "bytes":
        if isinstance(value, str):
            value = value.encode()
        if not isinstance(value, bytes):
            raise ValueError(f"{name}: this model reads text, got {type(value).__name__}")
        return torch.frombuffer(bytearray(value), dtype=torch.uint8).long() if value else _NONE
    rule = f"{name}: symbols must be whole numbers from 0 to {(preparation.num_tokens or 0) - 1}"
    try:
        steps = torch.as_tensor(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{rule} ({error})") from error
    if steps.numel() == 0:
        return _NONE
    if steps.dim() != 1 or steps.is_floating_point() or steps.dtype == torch.bool:
        raise ValueError(f"{rule}, got {steps.dtype} of the shape {tuple(steps.shape)}")
    if int(steps.min()) < 0 or int(steps.max()) >= (preparation.num_tokens or 0):
        raise ValueError(f"{rule}, got {int(steps.min())} to {int(steps.max())}")
    return steps.long()


_NONE = torch.empty(0, dtype=torch.int64)
