"""Names of the monitor's numbers: what is made is parsed back, and nothing else is."""

import pytest

from lnrnn.runs.monitor_names import MonitorName, Quantity, parse_monitor_name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (MonitorName(Quantity.CLIPPED), "monitor/clipped"),
        (MonitorName(Quantity.STATE_NORM, "l1_reverse"), "monitor/state_norm/l1_reverse"),
        (MonitorName(Quantity.SATURATION, "l0", "f"), "monitor/saturation/l0/f"),
        (MonitorName(Quantity.NEAR_EPS, "l0", "attention"), "monitor/near_eps/l0/attention"),
        (MonitorName(Quantity.STATE_GRADIENT, "l0", lag=64), "monitor/state_gradient/l0/lag64"),
    ],
)
def test_what_is_made_is_parsed_back(name, text):
    assert str(name) == text
    assert parse_monitor_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "val/loss",
        "clipped",
        "monitor/",
        "monitor/else/l0",
        "train/monitor/clipped",
        "monitor/variance/l0/ih/more",
        "monitor/state_gradient/l0",
        "monitor/state_gradient/l0/8",
        "monitor/state_gradient/l0/lag",
    ],
)
def test_what_the_monitor_does_not_write_is_not_a_name(text):
    assert parse_monitor_name(text) is None
