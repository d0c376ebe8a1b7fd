"""Random numbers keyed by what they are for, never by the order in which they are drawn.

Two runs with one seed see the same data order, the same dropout stream and the same initial values
of every parameter they share, whatever else differs between them.
"""

import hashlib

import torch
from torch import nn


def derive_seed(seed: int, purpose: str, *names: str | int) -> int:
    """Return a seed in [0, 2**63) that depends on every argument and on nothing else.

    Args:
        seed: The run's seed.
        purpose: What the numbers are for, such as ``"order"``, ``"init"`` or ``"dropout"``.
        names: What tells draws of one purpose apart, such as an epoch or a parameter's name.

    Example:
        >>> derive_seed(0, "order", 3) == derive_seed(0, "order", 3)
        True
        >>> derive_seed(0, "order", 3) == derive_seed(0, "order", 4)
        False
    """
    key = "/".join(str(part) for part in (seed, purpose, *names))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def initialize(model: nn.Module, seed: int) -> None:
    """Draw every parameter again, each module's from a seed made of its own name.

    So a module that two models share starts with the same values in both, whatever else they hold.
    Torch's global generators are left as they were.

    Args:
        model: A model whose parameter-owning modules all have ``reset_parameters()``.
        seed: The run's seed.

    Raises:
        TypeError: If a module owns parameters but cannot redraw them.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        for name, module in model.named_modules():
            if next(module.parameters(recurse=False), None) is None:
                continue
            reset = getattr(module, "reset_parameters", None)
            if reset is None:
                raise TypeError(
                    f"{name or 'the model'} ({type(module).__name__}) owns parameters but has no "
                    "reset_parameters() that could draw them from the run's seed"
                )
            torch.manual_seed(derive_seed(seed, "init", name))
            reset()
