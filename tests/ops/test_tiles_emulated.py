"""AMX's instructions as the library has them, on a CPU without AMX: an emulator executes them.

`test_amx_emulator` tests the emulator itself. Here the kernels are built anew, from sources that
take the CPU for one with AMX, so this takes a minute or two.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from emulated_tiles import INSTRUCTIONS, LAYOUTS, PRODUCTS, WAYS, cases
from emulator import SUPPORT, build, needs_emulator
from numerics import assert_close, assert_equal

from lnrnn.ops import cpu

# Sums in another order may be a rounding of float32 apart, and what is multiplied next is then
# rounded to the next bfloat16, or to the next sum of two of them: 8 bits a number. Few numbers are;
# values are 1e-3 and 6e-6 apart at most.
NEXT = {"": 2**-8, "x3": 2**-16}


@needs_emulator
@pytest.mark.timeout(600)  # builds the kernels, perhaps on a busy machine
def test_instructions_do_what_the_loops_do(tmp_path: Path) -> None:
    """One test, since workers of pytest would build the kernels once each."""
    results = tmp_path / "results.pt"
    emulator = build(tmp_path / "emulator.so", "-shared", "-fPIC")
    done = subprocess.run(
        [sys.executable, SUPPORT / "emulated_tiles.py", emulator, sources(tmp_path), results],
        env={**os.environ, "TORCH_EXTENSIONS_DIR": str(tmp_path / "built")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    run = torch.load(results)
    assert run["threads"] > 1  # have had tiles
    for call in [
        (str(c), layout, p) for layout in LAYOUTS for c in cases(layout) for p in PRODUCTS
    ]:
        manual, one_by_one, loops = (run["found"][*call, way] for way in WAYS)
        for i, truth in enumerate(loops["values"]):
            name = f"value {i} of {call}"
            assert_equal(one_by_one["values"][i], truth, name)
            assert_close(manual["values"][i], truth, NEXT[call[-1]], name)
        counts = manual["counts"]
        assert all(counts[name] > 0 for name in INSTRUCTIONS), (call, counts)
        assert counts["ldtilecfg"] == counts["tilerelease"], call
        assert one_by_one["counts"] == counts, call
        assert set(loops["counts"].values()) == {0}, call


def sources(folder: Path) -> Path:
    """Copy the kernels' sources, and let them believe that the CPU has AMX."""
    copy = folder / "sources"
    copy.mkdir()
    for name in (*cpu.SOURCES, *cpu.HEADERS):
        shutil.copy(cpu.SOURCE_FOLDER / name, copy)
    header = copy / "amx.hpp"
    text = header.read_text()
    assert text.count("  return has;\n") == 1
    header.write_text(text.replace("  return has;\n", "  return true;\n"))
    return copy
