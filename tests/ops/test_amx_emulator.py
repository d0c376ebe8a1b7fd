"""The emulator of AMX's instructions, by instructions written by hand.

Products are of small integers, which every order of sums has exactly, so they are the same bits.
"""

import signal
import subprocess
from pathlib import Path

import pytest
from emulator import SUPPORT, build, needs_emulator

pytestmark = needs_emulator

PARTS = ("products", "sums", "surroundings", "operands", "intrinsics", "threads")
REFUSED = {
    "palette": "ldtilecfg: the palette has to be 1, and is 2",
    "start row": "ldtilecfg: start_row is not emulated, and is 1",
    "reserved": "ldtilecfg: reserved bytes",
    "a ninth tile's bytes": "ldtilecfg: reserved bytes",
    "a ninth tile's rows": "ldtilecfg: reserved bytes",
    "rows": "tile 7 has 17 of 64",
    "bytes": "tile 7 has 16 of 65",
    "no bytes": "tile 2 has 16 of 0",
    "no tile": "tilezero: tile 0 has no rows in the configuration",
    "other rows": "tdpbf16ps: a sum of 16 rows of 64 bytes does not fit a left tile of 15 of 64",
    "other columns": "and a right one of 16 of 60",
    "other depth": "and a right one of 15 of 64",
    "no fours": "multiples of 4 bytes; they are 64, 62 and 64",
    "no configuration": "tilezero: this thread has no tiles: ldtilecfg comes first",
    "released": "tilezero: this thread has no tiles",
    "another thread": "tilezero: this thread has no tiles",
    "the sum is left": "tdpbf16ps: the three tiles have to differ",
    "the sum is right": "tdpbf16ps: the three tiles have to differ",
    "left is right": "tdpbf16ps: the three tiles have to differ",
}
ILLEGAL = ("ud2", "sttilecfg", "tile 8", "no sib", "a vector", "a wide one")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("amx") / "program", str(SUPPORT / "amx_program.cpp"))


def run(program: Path, part: str, what: str = "") -> tuple[int, str]:
    done = subprocess.run([program, part, what], capture_output=True, text=True)
    return done.returncode, done.stderr


@pytest.mark.parametrize("part", PARTS)
def test_instructions_mean_what_the_manual_says(part: str, program: Path) -> None:
    assert run(program, part) == (0, "")


def test_what_a_cpu_refuses_ends_the_process(program: Path) -> None:
    for what, message in REFUSED.items():
        status, said = run(program, "refused", what)
        assert status == -signal.SIGABRT, what
        assert said.startswith("amx_emulator: "), what
        assert message in said, what
    assert run(program, "refused", "nothing") == (0, "")


def test_what_is_illegal_stays_so(program: Path) -> None:
    for what in ILLEGAL:
        assert run(program, "illegal", what) == (-signal.SIGILL, ""), what
        assert run(program, "handled", what) == (42, ""), what  # by who handled it before
    assert run(program, "illegal", "nothing") == (0, "")
