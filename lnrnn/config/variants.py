"""Configurations that share all but a few numbers, such as seeds: Hydra composes them once."""

import copy
from collections.abc import Sequence
from dataclasses import replace

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from lnrnn.config.compose import Composition, Experiment, compose_unresolved, to_experiment


def compose_variants(shared: Sequence[str], variants: Sequence[Sequence[str]]) -> list[Experiment]:
    """Compose and check configurations that differ in a few numbers.

    They are what :func:`lnrnn.config.compose.compose_experiment` makes of each. Hydra, which takes
    a tenth of a second to read the same files again, composes the first; in the others a number is
    put where Hydra puts it, and values are resolved and checked as always. What is no number, or
    has no key there, is left to Hydra and its messages.

    Args:
        shared: The overrides of all of them.
        variants: What each has behind those, such as ``["optimizer.lr=0.01", "seed=3"]``.

    Raises:
        ConfigurationError: As ``compose_experiment``.
    """
    first, *others = variants
    base = compose_unresolved([*shared, *first])
    keys = {text.partition("=")[0] for text in first}
    compositions = [replace(base, config=copy.deepcopy(base.config))]
    compositions += [
        _with_numbers(base, keys, variant) or compose_unresolved([*shared, *variant])
        for variant in others
    ]
    return [
        to_experiment(composition, [*shared, *variant])
        for composition, variant in zip(compositions, variants, strict=True)
    ]


def _with_numbers(base: Composition, keys: set[str], variant: Sequence[str]) -> Composition | None:
    """Return a copy with other numbers; None if that is not all that a variant is.

    Args:
        base: What is copied.
        keys: Those of the base's own variant, all of which must be set.
        variant: The overrides.
    """
    try:
        overrides = OverridesParser.create().parse_overrides(list(variant))
    except HydraException:
        return None
    config = copy.deepcopy(base.config)
    for override in overrides:
        key, value = override.key_or_group, override.value()
        plain = override.type == OverrideType.CHANGE and override.package is None
        if not plain or type(value) not in (int, float) or not _has(config, key):
            return None
        OmegaConf.update(config, key, value, merge=True)
    return replace(base, config=config) if keys <= {o.key_or_group for o in overrides} else None


def _has(config: DictConfig, key: str) -> bool:
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    return isinstance(node, DictConfig) and leaf in node
