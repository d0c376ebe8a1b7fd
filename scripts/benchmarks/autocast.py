"""torch's LSTM under autocast to bfloat16, which not every CPU has."""

import torch
from torch import nn


def torch_lstm_dtype(device: str = "cpu") -> torch.dtype | None:
    """Return what `torch.nn.LSTM` computes in under autocast to bfloat16; None where it fails.

    oneDNN has no LSTM in bfloat16 for CPUs without AVX-512. What a user can have there is float32,
    to which `lnrnn.LSTM` without a norm falls back.
    """
    layer, x = nn.LSTM(8, 8, device=device), torch.zeros(2, 1, 8, device=device)
    try:
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            return layer(x)[0].dtype
    except RuntimeError:
        if device != "cpu":
            raise
        return None
