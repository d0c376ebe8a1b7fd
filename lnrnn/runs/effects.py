"""Which keys of a configuration change nothing in a run's numbers."""

from collections.abc import Sequence

# How a run is named, saved, watched and resumed.
WATCHING = (
    "resume",
    "name",
    "logger",
    "trust",
    "hydra",
    "checkpoint_every_n_steps",
    "monitor",
    "data.num_workers",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
)
# And where it is computed, which may round otherwise.
WITHOUT_EFFECT = (
    *WATCHING,
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
)


def is_without_effect(key: str) -> bool:
    """Return whether a key changes nothing in a run's numbers."""
    return is_part_of(key, WITHOUT_EFFECT)


def is_part_of(key: str, names: Sequence[str]) -> bool:
    """Return whether a key (``hydra.job.num``, ``hydra/launcher``) is one of ``names`` or below."""
    return any(key == name or key.startswith((f"{name}.", f"{name}/")) for name in names)
