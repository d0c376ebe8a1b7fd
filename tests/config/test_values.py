import inspect

import pytest

from lnrnn.config.allowed_targets import locate
from lnrnn.config.known_arguments import KNOWN_ARGUMENTS


@pytest.mark.parametrize("target", KNOWN_ARGUMENTS)
def test_known_arguments_are_those_of_the_signature(target):
    found = locate("node", target)
    assert KNOWN_ARGUMENTS[target].split() == list(inspect.signature(found).parameters)
