"""torch's LSTM under autocast to bfloat16, which not every CPU has."""

import torch
from torch import nn

import lnrnn


def torch_lstm(device: str = "cpu") -> type[nn.Module]:
    """Return `torch.nn.LSTM`, or the same in float32 where that fails under autocast.

    oneDNN has no LSTM in bfloat16 for CPUs without AVX-512, and `torch.nn.LSTM` raises there. What
    a user can have is its float32, which lnrnn's layer without a norm falls back to.
    """
    layer, x = nn.LSTM(8, 8, device=device), torch.zeros(2, 1, 8, device=device)
    try:
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            layer(x)
    except RuntimeError:
        if device != "cpu":
            raise
        return lnrnn.LSTM
    return nn.LSTM
