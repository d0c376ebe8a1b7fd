"""The device that a trainer asks for, checked before anything is loaded."""

import torch
from omegaconf import DictConfig

from lnrnn.config.errors import ConfigurationError


def check_gpu(trainer: DictConfig) -> None:
    """Check that there is a GPU for a trainer that asks for one.

    Raises:
        ConfigurationError: With what torch lacks to find it, and how to do without.
    """
    asked = trainer.get("accelerator")
    if asked not in ("gpu", "cuda") or torch.cuda.is_available():
        return
    if asked == "gpu" and torch.backends.mps.is_available():
        return
    built = torch.version.cuda or torch.version.hip
    hidden = "no driver answers, or no GPU is visible (see nvidia-smi and CUDA_VISIBLE_DEVICES)"
    why = hidden if built else "it is a CPU-only build"
    raise ConfigurationError(
        f"trainer.accelerator={asked} needs a GPU, and torch {torch.__version__} finds none: {why}."
        " To train on the CPU, leave out trainer=gpu, or set trainer.accelerator=cpu"
    )
