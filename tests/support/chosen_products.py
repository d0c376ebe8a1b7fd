"""Which products the CPU's kernels take, by force: layers leave that to the CPU and to torch."""

from collections.abc import Callable
from functools import partial
from typing import Any

from lnrnn.ops import fused

MAKERS = {name: getattr(fused, name) for name in ("_forward", "_backward")}


def choose(value: str | None, put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Make kernels multiply as ``value`` says, as the operators' ``narrow`` does; None undoes it.

    Args:
        value: What they take.
        put: Sets an attribute, for good or for a test.
    """
    for name, make in MAKERS.items():
        put(fused, name, partial(_choosing, make, name == "_backward", value))


def _choosing(
    make: Callable[..., Any], backward: bool, value: str | None, which: fused.Op
) -> Callable[..., Any]:
    at = (which.backward_takes if backward else which.takes).index("narrow")

    def run(*args: Any) -> Any:
        assert args[at] is None
        return make(which)(*args[:at], value, *args[at + 1 :])

    return run
