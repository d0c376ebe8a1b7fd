"""Recurrences by emulated tile instructions, and by plain loops: a process of its own.

Its words are the emulator, kernels' sources that take the CPU for one with AMX, and a file for what
comes out.
"""

import ctypes
import sys
from pathlib import Path
from typing import Any

import torch
from chosen_products import choose
from norm_cases import FEW, Case
from numerics import output_and_grads
from recurrences import arguments, op

from lnrnn.ops import cpu

INSTRUCTIONS = ("ldtilecfg", "tilerelease", "tilezero", "tileloadd", "tilestored", "tdpbf16ps")
PRODUCTS = ("", "x3")  # one of bfloat16, and three
WAYS = ("manual", "one by one", "loops")  # how sums are made; the first two by instructions

# Blocks of every height and width up to 2 by 2 tiles, and edges of all of them; more rows and
# columns than a panel's 64; and a sum of more than the 1024 between two visits of the result.
LAYOUTS: dict[str, dict[str, Any]] = {
    "padded": {"steps": 6, "batch": 37, "hidden": 37, "projected": 21, "features": 19},
    "packed": {"sizes": [69, 69, 33, 16, 5, 1], "hidden": 45, "projected": 33, "features": 70},
    "long sums": {"steps": 4, "batch": 3, "hidden": 1043, "features": 17},
}


def cases(layout: str) -> list[Case]:
    """Return the cases that a layout is tried with; one is enough where it takes long."""
    return FEW[:1] if layout == "long sums" else FEW


def main(emulator: str, sources: str, results: str) -> None:
    library = ctypes.CDLL(emulator)
    library.amx_emulator_install()
    library.amx_emulator_count.restype = ctypes.c_uint64
    library.amx_emulator_sum_one_by_one.argtypes = [ctypes.c_bool]
    cpu.SOURCE_FOLDER = Path(sources)  # which the first call loads
    torch.use_deterministic_algorithms(True)  # so that C++ fills with NaN what it allocates
    torch.set_num_threads(2)

    def count(name: str) -> int:
        return library.amx_emulator_count(name.encode())

    def run(case: Case, layout: str, products: str, way: str) -> dict[str, Any]:
        """Return what comes out of a call, and how often it runs each instruction."""
        torch.manual_seed(0)
        args = arguments(case, **LAYOUTS[layout], dtype=torch.float32)
        sizes = LAYOUTS[layout].get("sizes")
        more: dict[str, Any] = {} if sizes is None else {"batch_sizes": torch.tensor(sizes)}
        choose(("plain" if way == "loops" else "tiles") + products)
        library.amx_emulator_sum_one_by_one(way == "one by one")
        before = {name: count(name) for name in INSTRUCTIONS}
        values = output_and_grads(op(case, fused=True, **more), args)
        counts = {name: count(name) - before[name] for name in INSTRUCTIONS}
        return {"values": values, "counts": counts}

    found = {
        (str(case), layout, products, way): run(case, layout, products, way)
        for layout in LAYOUTS
        for case in cases(layout)
        for products in PRODUCTS
        for way in WAYS
    }
    torch.save({"found": found, "threads": count("threads")}, results)


if __name__ == "__main__":
    main(*sys.argv[1:])
