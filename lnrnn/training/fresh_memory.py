"""What torch does with memory that it hands out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils import deterministic


@contextmanager
def fresh_memory_as_it_is() -> Iterator[None]:
    """Keep torch from filling memory it hands out, which ``deterministic`` otherwise turns on.

    It helps to find reads of what nobody wrote; those are looked for in tests. In training it is a
    pass over every large tensor: a quarter of the time of a small layer with a norm in its step.
    """
    settings: Any = deterministic  # a module that makes its attribute on import
    before = settings.fill_uninitialized_memory
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        settings.fill_uninitialized_memory = before
