import pytest

from lnrnn.comparison.claims import Outcome, supported
from lnrnn.comparison.statistics import Paired
from lnrnn.comparison.wording import p_text, speed_verdict, verdict


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
    assert say(paired, p_holm).startswith(("no supported difference in test", "too few pairs to"))


def test_few_pairs_conclude_nothing_and_one_pair_has_no_interval():
    few = say(Paired(5, 0.02, (0.01, 0.03), 0.0625, 1.0), 0.0625)
    assert few.startswith("too few pairs to conclude about test accuracy, 0.020 higher (95 %")
    one = say(Paired(1, 0.02, None, None, 1.0), None)
    assert one == "too few pairs to conclude about test accuracy, 0.020 higher (1 pair)"


def test_equal_and_missing_arms():
    equal = "no difference in test accuracy, which is equal in {}, so no test was run"
    assert say(Paired(6, 0.0, (0.0, 0.0), None, 0.5), None) == equal.format("6 pairs")
    assert say(Paired(1, 0.0, None, None, 0.5), None) == equal.format("1 pair")
    assert "cannot be compared" in say(Paired(0, None, None, None, None), None)
    cancelled = say(Paired(6, 0.0, (-0.1, 0.1), 1.0, 0.5), 1.0)
    assert cancelled.startswith("no supported difference in test accuracy")


def test_p_is_never_printed_as_zero():
    assert (p_text(None), p_text(1e-6), p_text(0.03125)) == ("-", "< 0.0001", "0.0312")


def test_a_claim_that_depends_on_a_seed_says_so():
    strong, weak = Paired(10, 0.02, (0.01, 0.03), 0.002, 1.0), Paired(10, 0.02, (-1, 1), 0.5, 0.5)
    assert say(strong, 0.004, fragile=(3,)).endswith(
        "10 pairs); this depends on seed 3 alone: without it, the claim no longer holds"
    )
    single = "; this depends on single seeds: without any one of "
    assert say(strong, 0.004, fragile=(3, 7)).endswith(
        f"{single}seeds 3 and 7, the claim no longer holds"
    )
    assert say(weak, 0.5, fragile=(1, 2, 3)).endswith(
        f"{single}seeds 1, 2 and 3, a difference would be supported"
    )
    assert say(strong, 0.004, fragile=(0, 1, 2, 3)).endswith(
        f"{single}4 of the 10, the claim no longer holds"
    )


def rung(steps=None, seconds=None, reached=(10, 10)):
    entry = {
        "n": 10,
        "ratio": 2.0,
        "interval": [1.6, 2.5],
        "p": 0.002,
        "p_holm": 0.016,
        "supported": True,
        "censored": 0,
    }
    return {
        "target": 0.93,
        "share": 0.9,
        "steps": {**entry, **(steps or {})},
        "seconds": None if seconds is None else {**entry, **seconds},
        "reached": dict(zip(("baseline", "arm"), reached, strict=True)),
        "of": 10,
    }


PLACE = "to reach 90 % of the baseline's improvement (0.93), "


def faster(*args, **changes):
    text = speed_verdict([{**rung(), "share": 0.5}, rung(*args, **changes)])
    assert text is not None
    assert text.startswith(PLACE)
    return text.removeprefix(PLACE)


def test_a_speed_up_says_how_many_times_fewer_steps_and_less_time():
    assert faster({}, {"ratio": 1.7, "interval": [1.3, 2.0]}) == (
        "2.00x fewer steps (95 % interval 1.60x to 2.50x, Holm p = 0.0160, 10 pairs) and "
        "1.70x less time (95 % interval 1.30x to 2.00x, Holm p = 0.0160, 10 pairs)"
    )


def test_a_loss_of_speed_is_said_as_plainly():
    assert faster({}, {"ratio": 0.8, "interval": [0.7, 0.9]}).endswith(
        " and 1.25x as much time (95 % interval 1.11x to 1.43x, Holm p = 0.0160, 10 pairs)"
    )
    assert faster({"supported": False, "interval": [0.9, 3.0]}) == (
        "no supported difference in steps (speed-up 2.00x, 95 % interval 0.90x to 3.00x, "
        "Holm p = 0.0160, 10 pairs)"
    )


def test_runs_that_never_arrive_are_counted_in_words():
    text = faster({"interval": [1.2, None], "censored": 1}, reached=(9, 10))
    assert text.startswith("2.00x fewer steps (95 % interval 1.20x or more, Holm p")
    assert text.endswith("; 9 of 10 runs of the baseline and 10 of 10 of this arm get there")
    never = faster({"ratio": None, "interval": [None, 0.5], "censored": 9}, reached=(10, 1))
    assert never.startswith("more steps (95 % interval 2.00x or more, Holm p = 0.0160, 10 pairs)")
    first = faster({"ratio": None, "interval": [1.5, None], "censored": 9}, reached=(1, 10))
    assert first.startswith("fewer steps (95 % interval 1.50x or more, Holm p")
    unsure = {"ratio": None, "interval": [None, None], "censored": 9, "supported": False}
    assert faster(unsure).startswith("no supported difference in steps (95 % interval unbounded,")
    low = {"interval": [None, 3.0], "censored": 2, "supported": False}
    assert "(speed-up 2.00x, 95 % interval 3.00x or less, " in faster(low)


def test_speed_that_cannot_be_told_says_why():
    equal = {"ratio": 1.0, "interval": [1.0, 1.0], "p": None, "p_holm": None, "supported": False}
    assert faster(equal) == "no difference in steps, equal in 10 pairs, so no test was run"
    few = faster({"n": 1, "interval": None, "p_holm": None, "supported": False})
    assert few == "too few pairs to conclude about steps (speed-up 2.00x, 1 pair)"
    assert "cannot be compared" in faster({"n": 0, "ratio": None, "interval": None})
    assert speed_verdict([]) is None
