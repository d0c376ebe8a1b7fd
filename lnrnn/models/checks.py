"""What encoders and heads demand of lengths, with errors that say the way out.

Dimensions: B batch, T time steps.
"""

import torch
from torch import Tensor


def check_lengths(lengths: Tensor, sequences: Tensor) -> None:
    """Check that every sequence of a padded batch has a length that fits.

    Args:
        lengths: Valid steps of each sequence, (B,), whole numbers on the CPU.
        sequences: The padded batch, (B, T, ...).

    Raises:
        TypeError: If ``lengths`` is not an int64 tensor on the CPU.
        ValueError: If its shape is not (B,), B is 0 or a length is outside 1..T.
    """
    batch, steps = sequences.shape[:2]
    if lengths.dtype != torch.int64 or lengths.device.type != "cpu":
        raise TypeError(
            "lengths must be int64 on the CPU, where packing reads them, "
            f"got {lengths.dtype} on {lengths.device}"
        )
    if lengths.shape != (batch,):
        raise ValueError(
            f"lengths must hold one number for each of the {batch} sequences, "
            f"got shape {tuple(lengths.shape)}"
        )
    if batch == 0:
        raise ValueError(
            "a batch with lengths needs at least one sequence, got "
            f"{tuple(sequences.shape)}; an empty batch goes with lengths=None"
        )
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest < 1 or longest > steps:
        raise ValueError(
            f"lengths must be between 1 and the batch's {steps} steps, got {shortest} to "
            f"{longest}; leave empty sequences out of the batch"
        )


def valid_steps(lengths: Tensor, sequences: Tensor) -> Tensor:
    """Tell the steps of each sequence from its padding.

    Args:
        lengths: Valid steps of each sequence, (B,), int64 on the CPU.
        sequences: The padded batch, (B, T, ...).

    Returns:
        Booleans on the device of ``sequences``, (B, T), True before each sequence's end.

    Raises:
        TypeError: If ``lengths`` is not an int64 tensor on the CPU.
        ValueError: If its shape is not (B,), B is 0 or a length is outside 1..T.

    Example:
        >>> valid_steps(torch.tensor([1, 3]), torch.zeros(2, 3))
        tensor([[ True, False, False],
                [ True,  True,  True]])
    """
    check_lengths(lengths, sequences)
    step = torch.arange(sequences.shape[1], device=sequences.device)
    return step < lengths.to(sequences.device, non_blocking=True)[:, None]
