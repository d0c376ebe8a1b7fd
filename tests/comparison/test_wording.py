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


def test_a_claim_that_hangs_on_a_seed_says_so():
    strong, weak = Paired(10, 0.02, (0.01, 0.03), 0.002, 1.0), Paired(10, 0.02, (-1, 1), 0.5, 0.5)
    assert say(strong, 0.004, fragile=(3,)).endswith(
        "10 pairs); this hangs on seed 3: without it, the claim falls"
    )
    assert say(strong, 0.004, fragile=(3, 7)).endswith(
        "; this hangs on seeds 3 and 7: without any one of them, the claim falls"
    )
    assert say(weak, 0.5, fragile=(1, 2, 3)).endswith(
        "; this hangs on seeds 1, 2 and 3: without any one of them, a difference is supported"
    )
    assert say(strong, 0.004, fragile=(0, 1, 2, 3)).endswith(
        "; this hangs on single seeds: without any one of 4 of the 10, the claim falls"
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


def sooner(*args, **changes):
    text = speed_verdict([{**rung(), "share": 0.5}, rung(*args, **changes)], "lstm", "ln")
    assert text is not None
    return text


def test_a_speed_up_is_said_in_shares_of_steps_and_of_time():
    time = {"ratio": 1 / 0.6, "interval": [1 / 0.75, 2.0]}
    assert sooner({}, time) == (
        "for 90 % of lstm's way (to 0.93), fewer steps, 0.50 times as many (95 % interval 0.40 to "
        "0.62, Holm p = 0.0160, 10 pairs) and less time, 0.60 times as much (95 % interval 0.50 to "
        "0.75, Holm p = 0.0160, 10 pairs)"
    )


def test_a_loss_of_speed_is_said_as_plainly():
    text = sooner({}, {"ratio": 0.8, "interval": [0.7, 0.9]})
    assert "and more time, 1.25 times as much (95 % interval 1.11 to 1.43" in text
    text = sooner({"supported": False, "interval": [0.9, 3.0]})
    assert text.startswith(
        "for 90 % of lstm's way (to 0.93), no supported difference in steps, 0.50"
    )


def test_runs_that_never_arrive_are_counted_in_words():
    text = sooner({"interval": [1.2, None], "censored": 1}, reached=(9, 10))
    assert "95 % interval 0 to 0.83" in text
    assert text.endswith("; 9 of 10 runs of lstm and 10 of 10 of ln get there")
    never = sooner({"ratio": None, "interval": [None, 0.5], "censored": 9}, reached=(10, 1))
    assert "more steps (95 % interval 2.00 to any number, Holm p = 0.0160, 10 pairs)" in never


def test_speed_that_cannot_be_told_says_why():
    equal = {"ratio": 1.0, "interval": [1.0, 1.0], "p": None, "p_holm": None, "supported": False}
    assert sooner(equal).endswith("no difference in steps, equal in 10 pairs, so no test was run")
    few = sooner({"n": 1, "interval": None, "p_holm": None, "supported": False})
    assert few.endswith("smoke, no claim: steps, 0.50 times as many (1 pair)")
    assert "cannot be compared" in sooner({"n": 0, "ratio": None, "interval": None})
    assert speed_verdict([], "lstm", "ln") is None
