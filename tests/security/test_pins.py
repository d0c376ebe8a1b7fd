"""The pinned versions are none of those with a known hole that this project could meet."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
# The first version without the holes that SECURITY.md lists.
SAFE = {
    "torch": "2.12.1",
    "lightning": "2.6.6",
    "pytorch-lightning": "2.6.6",
    "hydra-core": "1.3.6",
}


# Without the pins: the first version without the holes in what is called here. torch.jit.script and
# the reader of pt2 archives, whose holes are younger, are not called on anybody's files.
CALLED = {**SAFE, "torch": "2.10.0"}


@pytest.mark.parametrize("name", SAFE)
def test_pins_are_past_the_known_holes(name):
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        package, _, version = line.partition("#")[0].strip().partition("==")
        pinned[package] = version
    assert Version(pinned[name]) >= Version(SAFE[name])


@pytest.mark.parametrize("name", ["torch", "lightning", "hydra-core"])
def test_an_installation_without_the_pins_is_past_them_too(name):
    text = (ROOT / "pyproject.toml").read_text()
    (line,) = re.findall(rf'^  "({name}[<>=][^"]*)",$', text, flags=re.MULTILINE)
    allowed = Requirement(line).specifier
    for version in ("1.3.4", "1.3.5", "2.6.2", "2.6.3", "2.6.5", "2.9.1"):
        if Version(version) < Version(CALLED[name]):
            assert not allowed.contains(version)
    assert allowed.contains({"torch": "2.13.0", "lightning": "2.6.6", "hydra-core": "1.3.8"}[name])
