"""Which of several processes this is, told before any of them is connected."""

import os

# torchrun's and SLURM's variables, in the order in which Lightning asks for them.
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def is_first_process() -> bool:
    """Return whether this process prints and writes: the only one, or the first of several."""
    for name in RANKS:
        if name in os.environ:
            return os.environ[name] == "0"
    return True


def is_only_process() -> bool:
    """Return whether no other process trains the same run, as far as the environment says."""
    sizes = (os.environ.get(name, "1") for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    return all(size == "1" for size in sizes)
