"""What interrupts a session, and when."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import TypeVar

Key = TypeVar("Key")
SIGNALS = {"SIGTERM": 4, "SIGKILL": 4, "SIGINT": 3, "SIGUSR1": 2, "SIGHUP": 1}
PAIRS = {  # one soon after the other: an impatient person, a scheduler
    ("SIGINT", "SIGINT"): 2,
    ("SIGTERM", "SIGKILL"): 2,
    ("SIGTERM", "SIGTERM"): 1,
    ("SIGINT", "SIGTERM"): 1,
    ("SIGUSR1", "SIGTERM"): 1,
}
# Faults are where files are written: a file of a run, how often it is watched, and up to which of
# its changes.
WATCHED = {
    "checkpoints/*.ckpt": (3, 4),
    "checkpoints/.*.tmp": (3, 6),
    "checkpoints/last": (3, 4),
    "metrics.jsonl": (4, 6),
    "run.json": (2, 2),
    "config.yaml": (1, 1),
    "run.lock": (1, 2),
    "curves.png": (1, 1),
}


@dataclass(frozen=True)
class Stop:
    """What interrupts a session, and when.

    Args:
        signals: Sent one after the other.
        gap: Seconds between them.
        target: ``all`` processes of the command, or ``one`` of them: the command's own, or a rank.
        file: What is watched, a pattern below a run's folder; None for none.
        change: Which change of it, from 1, since the session began.
        delay: Seconds after that change; without a file, the share of the twin's time.
    """

    signals: tuple[str, ...]
    gap: float
    target: str
    file: str | None
    change: int
    delay: float

    def __str__(self) -> str:
        names = " and ".join(self.signals)
        to = "" if self.target == "all" else ", to one process"
        if self.file is None:
            return f"{names} after {self.delay:.3f} of the twin's time{to}"
        moment = f"{1000 * self.delay:.1f} ms after change {self.change} of {self.file}"
        return f"{names} {moment}{to}"


def draw_stop(random: Random) -> Stop:
    """Return what interrupts one session."""
    single = random.random() < 0.85
    signals = (pick(random, SIGNALS),) if single else pick(random, PAIRS)
    gap = random.choice((0.0, random.uniform(0, 0.01), random.uniform(0, 0.3)))
    target = "all" if random.random() < 0.75 else "one"
    if random.random() < 0.4:
        return Stop(signals, gap, target, None, 0, random.uniform(0, 1))
    file = pick(random, {name: often for name, (often, _) in WATCHED.items()})
    change = random.randint(1, WATCHED[file][1])
    delay = random.choice((0.0, random.uniform(0, 0.003), random.uniform(0, 0.05)))
    return Stop(signals, gap, target, file, change, delay)


def pick(random: Random, weights: Mapping[Key, int]) -> Key:
    """Return one of the keys, each as often as its weight says."""
    return random.choices(list(weights), list(weights.values()))[0]
