import pytest

from lnrnn.comparison.claims import Outcome, supported
from lnrnn.comparison.statistics import Paired
from lnrnn.comparison.wording import p_text, verdict


def say(paired, p_holm, higher=True, fragile=()):
    claimed = supported(paired.n, paired.interval, p_holm)
    outcome = Outcome(paired, p_holm, claimed, fragile)
    return verdict("test accuracy", outcome, higher_is_better=higher, digits=3)


def test_a_supported_difference_says_which_is_better():
    paired = Paired(10, 0.02, (0.01, 0.03), 0.002, 1.0)
    evidence = "0.020 higher (95 % interval +0.010 to +0.030, Holm p = 0.0040, 10 pairs)"
    assert say(paired, 0.004) == f"better test accuracy, {evidence}"
    assert say(paired, 0.004, higher=False) == f"worse test accuracy, {evidence}"
    down = Paired(10, -0.02, (-0.03, -0.01), 0.002, 0.0)
    assert say(down, 0.004).startswith("worse test accuracy, 0.020 lower")
    assert say(down, 0.004, higher=False).startswith("better test accuracy, 0.020 lower")


@pytest.mark.parametrize(
    ("n", "interval", "p_holm"),
    [
        (10, (0.01, 0.03), 0.05),  # p must be below, not at, 0.05
        (10, (0.01, 0.03), 0.2),
        (10, (-0.01, 0.03), 0.01),  # p and interval disagree
        (10, (0.0, 0.03), 0.01),
        (5, (0.01, 0.03), 0.01),  # cannot happen, and is not believed if it does
        (10, (0.01, 0.03), None),
        (10, None, 0.01),
    ],
)
def test_nothing_weaker_is_claimed(n, interval, p_holm):
    paired = Paired(n, 0.02, interval, p_holm, 1.0)
    assert not supported(n, interval, p_holm)
    assert say(paired, p_holm).startswith(("no supported difference in test", "smoke, no claim"))


def test_few_pairs_are_smoke_and_one_pair_has_no_interval():
    assert say(Paired(5, 0.02, (0.01, 0.03), 0.0625, 1.0), 0.0625).startswith("smoke, no claim: ")
    one = say(Paired(1, 0.02, None, None, 1.0), None)
    assert one == "smoke, no claim: test accuracy 0.020 higher (1 pair)"


def test_equal_and_missing_arms():
    equal = "no difference in test accuracy, which is equal in {}, so no test was run"
    assert say(Paired(6, 0.0, (0.0, 0.0), None, 0.5), None) == equal.format("6 pairs")
    assert say(Paired(1, 0.0, None, None, 0.5), None) == equal.format("1 pair")
    assert "cannot be compared" in say(Paired(0, None, None, None, None), None)
    cancelled = say(Paired(6, 0.0, (-0.1, 0.1), 1.0, 0.5), 1.0)
    assert cancelled.startswith("no supported difference in test accuracy")


def test_p_is_never_printed_as_zero():
    assert (p_text(None), p_text(1e-6), p_text(0.03125)) == ("-", "< 0.0001", "0.0312")
