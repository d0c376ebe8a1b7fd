"""The names of what the health monitor records, made and parsed in this file alone.

``monitor/saturation/l0/i`` is a quantity, a layer and a part of it: a gate, or a norm. The parts of
``state_gradient`` are lags, ``lag64``: steps before the end.
"""

import re
from enum import StrEnum
from typing import NamedTuple

PREFIX = "monitor/"
_LAG = re.compile(r"lag(\d+)")


class Quantity(StrEnum):
    """What the monitor measures; docs/monitor.md explains each."""

    STATE_GRADIENT = "state_gradient"
    RECURRENT_GRADIENT = "recurrent_gradient"
    SATURATION = "saturation"
    VARIANCE = "variance"
    LOW_VARIANCE = "low_variance"
    NEAR_EPS = "near_eps"
    GAIN_DRIFT = "gain_drift"
    SHIFT_DRIFT = "shift_drift"
    STATE_NORM = "state_norm"
    CLIPPED = "clipped"


class MonitorName(NamedTuple):
    """The name of one number; ``str`` gives it as records hold it.

    Args:
        quantity: What is measured.
        layer: Of which layer and direction, such as ``"l0_reverse"``; empty for the whole model.
        part: Of which gate or norm in it; empty for the whole layer.
        lag: Steps before the end, for ``STATE_GRADIENT``.

    Example:
        >>> str(MonitorName(Quantity.SATURATION, "l0", "i"))
        'monitor/saturation/l0/i'
        >>> str(MonitorName(Quantity.STATE_GRADIENT, "l0", lag=64))
        'monitor/state_gradient/l0/lag64'
    """

    quantity: Quantity
    layer: str = ""
    part: str = ""
    lag: int | None = None

    def __str__(self) -> str:
        part = self.part if self.lag is None else f"lag{self.lag}"
        return PREFIX + "/".join(filter(None, (self.quantity, self.layer, part)))


def parse_monitor_name(text: str) -> MonitorName | None:
    """Return what a name says; None for one that the monitor does not write.

    Example:
        >>> parse_monitor_name("monitor/state_gradient/l0/lag64").lag
        64
        >>> parse_monitor_name("val/loss") is None
        True
    """
    quantity, *rest = text.removeprefix(PREFIX).split("/")
    if not text.startswith(PREFIX) or quantity not in set(Quantity) or len(rest) > 2:
        return None
    layer, part = (*rest, "", "")[:2]
    if quantity != Quantity.STATE_GRADIENT:
        return MonitorName(Quantity(quantity), layer, part)
    lag = _LAG.fullmatch(part)
    return None if lag is None else MonitorName(Quantity(quantity), layer, lag=int(lag[1]))
