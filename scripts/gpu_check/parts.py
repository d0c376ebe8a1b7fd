"""What one pass consists of, in order: whether numbers are right, then how fast they are."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import NamedTuple

from gpu_check.sizes import REHEARSED

ROOT = Path(__file__).parents[2]
PYTEST = f"{sys.executable} -m pytest -c tests/gpu.ini -v --tb=short --maxfail=60".split()
NO_TESTS = 5  # pytest's exit code where all modules are skipped, as without a GPU


class Part(NamedTuple):
    """A command with a limit.

    Attributes:
        name: Of its log, too.
        seconds: After which it is killed.
        promised: Seconds that earlier parts leave it.
        command: What runs.
        beside: Whether it runs beside the parts that follow, up to the next that times anything.
        timed: Whether it times anything, so that nothing may run beside it.
        apart: Whether it runs in the folder of the logs, to write there.
        right: Exit codes that say that all is well.
    """

    name: str
    seconds: int
    promised: int
    command: list[str]
    beside: bool = False
    timed: bool = False
    apart: bool = False
    right: tuple[int, ...] = (0,)


def parts() -> list[Part]:
    """Return one pass."""
    graphs = ["tests/gpu/test_graphs.py", "tests/gpu/test_training.py"]
    parity = [f"tests/gpu/test_{name}.py" for name in ("persistent", "layers", "parity")]
    passed = (0, NO_TESTS) if REHEARSED else (0,)
    found = [
        Part("accuracy", 60, 30, _module("accuracy")),
        Part("warm", 180, 0, _module("warm"), beside=True),
        Part("graphs", 75, 30, [*PYTEST, *_plugins(), *graphs], right=passed),
        Part("parity", 130, 0, [*PYTEST, *_plugins(), *parity], right=passed),
        Part("speed", 125, 90, _speed(), timed=True),
        Part("persistent", 60, 30, _module("persistent"), timed=True),
        Part("cudnn", 50, 30, _module("cudnn"), timed=True),
        Part("profile", 40, 20, _module("profiling"), timed=True),
        Part("train", 60, 40, _train(), apart=True),
    ]
    if REHEARSED:  # on a machine that may be busy, where nothing is to be compiled beforehand
        kept = [part for part in found if part.name != "warm"]
        found = [part._replace(seconds=4 * part.seconds, promised=0) for part in kept]
    return found


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", f"gpu_check.{name}"]


def _plugins() -> list[str]:
    """Return what spreads the tests and stops those that hang, where these plugins are there."""
    options = []
    cores = os.cpu_count() or 1
    if importlib.util.find_spec("xdist") and cores > 4 and not REHEARSED:
        options += f"-n {cores - 4} --dist worksteal".split()
    if importlib.util.find_spec("pytest_timeout"):
        options.append("--timeout=90")
    return options


def _speed() -> list[str]:
    options = "--seconds 110 --loop-steps 32 --repeats 5"
    if REHEARSED:
        options = "--device cpu --seconds 2 --loop-steps 2 --repeats 1 --shapes 4,2,8,8"
    return [sys.executable, "scripts/benchmark_cuda.py", *options.split()]


def _train() -> list[str]:
    steps, trainer = (2, "default") if REHEARSED else (50, "gpu")
    options = f"model=lstm_lncell data=mnist1d trainer={trainer} trainer.max_steps={steps}"
    return [sys.executable, str(ROOT / "scripts/train.py"), *options.split()]
