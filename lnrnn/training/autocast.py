"""What torch's autocast makes of a model's recurrent layers."""

import torch
from torch import nn

from lnrnn.nn.stack import Stack


def computed_in_float16(
    model: nn.Module, precision: str | int | None, device: torch.device
) -> str | None:
    """Say that recurrent layers compute in float16 where bfloat16 was asked for; None if not.

    On a GPU torch's autocast casts what cuDNN computes to float16, whatever dtype it was set to
    (ATen/cudnn/AutocastRNN.cpp). Norms inside the step compute in bfloat16.

    Args:
        model: What is trained.
        precision: Of the trainer.
        device: On which it is.
    """
    if str(precision) not in ("bf16-mixed", "bf16") or device.type != "cuda":
        return None
    names = [name for name, part in model.named_modules() if _is_torchs(part)]
    if not names:
        return None
    return (
        f"{', '.join(names)}: on a GPU torch computes these layers in float16 under bf16-mixed, "
        "and norms inside the step compute in bfloat16. trainer.precision=bf16-true or 32-true "
        "computes everything in what it says"
    )


def _is_torchs(part: nn.Module) -> bool:
    """Return whether torch computes a layer's recurrence."""
    if isinstance(part, Stack):
        return part.norm in (None, "output")
    return isinstance(part, nn.RNNBase)
