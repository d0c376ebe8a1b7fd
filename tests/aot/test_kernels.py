"""Every kernel compiles for every GPU, without spills, within its memory, with wide loads."""

# Triton is not there where the types are checked.
# pyright: reportMissingImports=false

import re

import pytest
import torch
import triton
from aot.ceilings import ceiling
from aot.compiled import (
    KERNELS,
    SHARED,
    TARGETS,
    Resources,
    compile_kernel,
    launches,
    resources,
)
from norm_cases import Case

from lnrnn import CellNorm
from lnrnn.ops import reference, triton_noise
from lnrnn.ops.gates import GATES

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
HIDDEN = [64, 128, 512, 1024]
IN_FULL = ["sm_80", "sm_90"]
# `make aot-table` compiles all; the suite, for the other GPUs, one size.
COMBINATIONS = [
    (kernel, target, dtype, hidden)
    for target in SHARED
    for hidden in (HIDDEN if target in IN_FULL else [512])
    for dtype in DTYPES
    for kernel in KERNELS
]
VARIANTS = [
    Case("rnn", CellNorm(inputs="separate", kind="rms"), bias=False, nonlinearity="relu"),
    Case("lstm", CellNorm(inputs="joint", span="gate", cell="state"), proj_size=256),
    Case("lstm", CellNorm(cell=None, kind="rms"), bias=False),
    Case("gru", CellNorm(span="gate")),
    Case("gru", CellNorm(span="all", kind="rms"), bias=False),
]


def most_barriers(case: Case) -> int:
    """Return how many barriers a step may have: three a sum over a row that crosses warps.

    A norm takes two such sums, forward and backward (kind "rms": one).
    """
    gates = len(GATES[case.cell])
    norms = len(reference.norm_widths(case.norm.span, gates, 1))
    norms += case.cell == "lstm" and case.norm.cell is not None
    return 3 * norms * (2 if case.norm.kind == "layer" else 1)


@pytest.mark.parametrize(("kernel", "target", "dtype", "hidden"), COMBINATIONS)
def test_compiles_for_nvidia(kernel: str, target: str, dtype: str, hidden: int) -> None:
    found = resources(compile_kernel(kernel, target, DTYPES[dtype], hidden))
    assert found.spilled == 0
    registers, instructions = ceiling(kernel)
    assert found.registers <= registers
    assert found.instructions <= instructions
    assert found.shared <= SHARED[target]
    assert found.barriers <= most_barriers(Case(kernel.partition("_")[0], CellNorm()))
    if hidden >= 256:
        check_wide_loads(kernel, found)


def check_wide_loads(kernel: str, found: Resources) -> None:
    """Check that a thread loads four numbers at once, but for the moments of a row."""
    moments = {"rnn": 2, "lstm": 10, "gru": 6}[kernel.partition("_")[0]]
    narrow = sum(count for width, count in found.loads.items() if width < 8)
    assert narrow == (moments if kernel.endswith("backward") else 0)
    assert sum(found.loads.values()) > narrow


@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("case", VARIANTS, ids=str)
def test_variants_compile(case: Case, way: str) -> None:
    found = resources(compile_kernel(f"{case.cell}_{way}", "sm_90", torch.bfloat16, 512, case))
    assert found.spilled == 0
    assert found.barriers <= most_barriers(case)


@pytest.mark.parametrize("kernel", KERNELS)
def test_resets_compile_and_cost_a_byte_a_state(kernel: str) -> None:
    """Of a row that, and what the state is reset to, are read besides; no barrier is added."""
    plain = resources(compile_kernel(kernel, "sm_90", torch.float32, 512))
    found = resources(compile_kernel(kernel, "sm_90", torch.float32, 512, resets=True))
    assert found.spilled == 0
    assert found.barriers == plain.barriers
    states = 2 if kernel.startswith("lstm") else 1
    assert found.loads[1] == states
    wide = sum(n for width, n in found.loads.items() if width > 1) - sum(plain.loads.values())
    assert wide == states  # four units a thread, in one load
    assert found.instructions <= 1.15 * plain.instructions


@pytest.mark.parametrize("noise", ["masks", "shares"])
@pytest.mark.parametrize(("target", "dtype"), [("sm_80", "bf16"), ("sm_90", "fp32")])
@pytest.mark.parametrize("kernel", KERNELS)
def test_noise_compiles_and_adds_no_barrier(
    kernel: str, target: str, dtype: str, noise: str
) -> None:
    """Masks are read four units at a time; an RNN's backward took 1.52 times the instructions."""
    plain = resources(compile_kernel(kernel, target, DTYPES[dtype], 512))
    found = resources(compile_kernel(kernel, target, DTYPES[dtype], 512, noise=noise))
    assert found.spilled == 0
    assert found.barriers == plain.barriers
    assert found.loads[1] == 0
    assert found.registers <= plain.registers + 16
    assert found.instructions <= 1.55 * plain.instructions


@pytest.mark.parametrize("case", VARIANTS, ids=str)
@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("hidden", [37, 1024])
def test_noise_compiles_in_every_variant(case: Case, way: str, hidden: int) -> None:
    kernel = f"{case.cell}_{way}"
    found = resources(
        compile_kernel(kernel, "sm_90", torch.float32, hidden, case, resets=True, noise="masks")
    )
    assert found.spilled == 0


@pytest.mark.parametrize("target", list(SHARED))
def test_masks_compile(target: str) -> None:
    step, row = torch.arange(4).unsqueeze(1), torch.arange(3)
    with launches(target, "draw_masks") as compiled:
        for seed, units in ((1, 1), (2**63 - 1, 37)):
            triton_noise.keep_mask(0.5, seed, 3, step, row, units)
    assert len({kernel.asm["cubin"] for kernel in compiled}) == 1  # seeds are not compiled in
    assert resources(compiled[0]).spilled == 0


@pytest.mark.parametrize("hidden", [5, 200, 1000, 2048])
@pytest.mark.parametrize("kernel", KERNELS)
def test_any_size_compiles(kernel: str, hidden: int) -> None:
    """Sizes that are no power of two, from where a warp is not full to where it is crowded."""
    found = resources(compile_kernel(kernel, "sm_90", torch.float32, hidden))
    assert found.spilled == 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_are_found_in_64_bits(kernel: str) -> None:
    """A row's number times its width passes 2**31 in a large batch of long sequences."""
    compiled = compile_kernel(kernel, "sm_90", torch.bfloat16, 512)
    types = re.findall(r"arith\.muli .* : ([^\n]*?)(?: loc|$)", compiled.asm["ttir"], re.M)
    assert types
    assert {re.sub(r".*x(i\d+)>", r"\1", kind) for kind in types} == {"i64"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=["fp16", "fp64"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_other_dtypes_compile(kernel: str, dtype: torch.dtype) -> None:
    assert resources(compile_kernel(kernel, "sm_90", dtype, 512)).registers <= 255


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("kernel", KERNELS)
def test_compiles_for_amd(kernel: str, dtype: str) -> None:
    compiled = compile_kernel(kernel, "gfx942", DTYPES[dtype], 512)
    assert TARGETS["gfx942"].backend == "hip"
    spills = re.findall(r"\.(?:vgpr|sgpr)_spill_count: +(\d+)", compiled.asm["amdgcn"])
    assert spills
    assert set(spills) == {"0"}


def test_a_spill_shows() -> None:
    """Compiled for fewer registers than it needs, a kernel fails the check it passes without."""
    compiled = compile_kernel("lstm_backward", "sm_90", torch.float32, 512)
    assert resources(compiled).spilled == 0
    options = {"num_warps": 4, "maxnreg": 40, "enable_fp_fusion": True}
    tight = triton.compile(compiled.src, target=TARGETS["sm_90"], options=options)
    assert resources(tight).spilled > 0
