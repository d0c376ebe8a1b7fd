"""Kernels over whole sequences compile, fit where `fits` says so, and copy rows in ahead."""

# Triton is not there where the types are checked.
# pyright: reportMissingImports=false

import re

import pytest
import torch
from aot.compiled import DEFAULTS, PERSISTENT, SHARED, TARGETS, compile_kernel, resources
from norm_cases import Case

from lnrnn import CellNorm
from lnrnn.ops import triton_persistent
from lnrnn.ops.gates import GATES

# Units, on a GPU with 227 KiB of shared memory.
WIDEST = {
    "rnn_persistent_forward": 256,
    "rnn_persistent_backward": 256,
    "lstm_persistent_forward": 128,
    "lstm_persistent_backward": 64,
    "gru_persistent_forward": 128,
    "gru_persistent_backward": 128,
}
WIDEST_FLOAT32 = {
    "rnn_persistent_forward": 128,
    "rnn_persistent_backward": 128,
    "lstm_persistent_forward": 64,
    "lstm_persistent_backward": 64,
    "gru_persistent_forward": 64,
    "gru_persistent_backward": 64,
}
# Bytes of a thread's registers that go to memory.
SPILLED = {
    "rnn_persistent_backward": 8,
    "lstm_persistent_forward": 48,
    "lstm_persistent_backward": 8,
    "gru_persistent_backward": 16,
}
SPILLED_FLOAT32 = 32  # in four releases of Triton; in 3.6 and 3.7 forward kernels spill nothing
KERNELS = [f"{cell}_persistent_{way}" for cell in PERSISTENT for way in ("forward", "backward")]
VARIANTS = [
    Case("rnn", CellNorm(inputs="separate", kind="rms"), bias=False, nonlinearity="relu"),
    Case("lstm", CellNorm(inputs="joint", span="gate", cell="state")),
    Case("lstm", CellNorm(cell=None, kind="rms"), bias=False),
    Case("gru", CellNorm(span="gate")),
    Case("gru", CellNorm(span="all", kind="rms"), bias=False),
]


def needed(kernel: str, hidden: int, dtype: torch.dtype = torch.bfloat16) -> int:
    """Return the shared memory that a call under autocast, or in float32, is taken to need.

    There x is of 16 bits where it is added to W h before the norm, as an RNN's is.
    """
    cell, backward = kernel.partition("_")[0], kernel.endswith("backward")
    x = dtype if DEFAULTS[cell].norm.is_joint(cell) else torch.float32
    return triton_persistent.bytes_needed(len(GATES[cell]), hidden, x, dtype, backward)


def fitting(target: str, kernel: str, hidden: int, dtype: torch.dtype = torch.bfloat16) -> bool:
    return needed(kernel, hidden, dtype) <= SHARED[target]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("target", list(SHARED))
def test_what_fits_compiles_and_takes_no_more_than_was_thought(target: str, kernel: str) -> None:
    sizes = [h for h in (32, 64, 128, 256) if fitting(target, kernel, h)]
    for hidden in {min(64, sizes[-1]), sizes[-1]}:
        found = resources(compile_kernel(kernel, target, torch.bfloat16, hidden))
        assert found.shared <= needed(kernel, hidden) <= SHARED[target]
        assert found.spilled <= SPILLED.get(kernel, 0)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
@pytest.mark.parametrize("resets", [False, True], ids=["plain", "resets"])
def test_float32_fits_as_it_is(target: str, kernel: str, resets: bool) -> None:
    """Multiplied as float32, with rows copied in ahead, and next to no register in memory."""
    sizes = [h for h in (32, 64, 128) if fitting(target, kernel, h, torch.float32)]
    for hidden in {min(32, sizes[-1]), sizes[-1]}:
        compiled = compile_kernel(kernel, target, torch.float32, hidden, resets=resets)
        found = resources(compiled)
        assert found.shared <= needed(kernel, hidden, torch.float32)
        assert found.spilled <= SPILLED_FLOAT32
        assert "tf32" not in compiled.asm["ptx"]
        loop = compiled.asm["ttgir"]
        loop = loop[loop.index("scf.for") :]
        assert "tt.load" not in loop[: loop.index("scf.yield")]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_120"])
def test_resets_take_no_more_than_was_thought(target: str, kernel: str) -> None:
    """Neither the states after a reset nor a second W_hh have a place in shared memory."""
    hidden = max(h for h in (32, 64, 128, 256) if fitting(target, kernel, h))
    found = compile_kernel(kernel, target, torch.bfloat16, hidden, resets=True)
    assert found.metadata.shared <= needed(kernel, hidden)


def test_the_widest_fit_on_hopper_and_no_wider() -> None:
    for kernel, hidden in WIDEST.items():
        assert fitting("sm_90", kernel, hidden)
        assert not fitting("sm_90", kernel, hidden + 1)
    for kernel, hidden in WIDEST_FLOAT32.items():
        assert fitting("sm_90", kernel, hidden, torch.float32)
        assert not fitting("sm_90", kernel, hidden + 1, torch.float32)


@pytest.mark.parametrize("case", VARIANTS, ids=str)
@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("resets", [False, True], ids=["plain", "resets"])
def test_variants_compile(case: Case, way: str, resets: bool) -> None:
    kernel = f"{case.cell}_persistent_{way}"
    compiled = compile_kernel(kernel, "sm_90", torch.bfloat16, 64, case, resets=resets)
    assert resources(compiled).shared <= SHARED["sm_90"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_are_copied_in_while_a_step_is_computed(kernel: str) -> None:
    """And W_hh before the first step: nothing in the loop loads it from global memory."""
    compiled = compile_kernel(kernel, "sm_90", torch.bfloat16, 64)
    text = compiled.asm["ttgir"]
    loop = text[text.index("scf.for") :]
    assert "ttg.async_copy_global_to_local" in loop
    assert "tt.load" not in loop[: loop.index("scf.yield")]
    multiplied = re.findall(r"tt\.dot .*", loop[: loop.index("scf.yield")])
    assert len(multiplied) == len(GATES[kernel.partition("_")[0]])


@pytest.mark.parametrize("kernel", ["rnn_moments", "lstm_moments", "gru_moments"])
@pytest.mark.parametrize("hidden", [5, 128])
def test_what_comes_before_compiles(kernel: str, hidden: int) -> None:
    assert resources(compile_kernel(kernel, "sm_90", torch.bfloat16, hidden)).spilled == 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_are_found_in_64_bits(kernel: str) -> None:
    """A row's number times its width passes 2**31 in a large batch of long sequences."""
    compiled = compile_kernel(kernel, "sm_90", torch.bfloat16, 64)
    loop = compiled.asm["ttir"][compiled.asm["ttir"].index("scf.for") :]
    types = re.findall(r"arith\.muli .* : ([^\n]*?)(?: loc|$)", loop, re.M)
    assert types
    assert {re.sub(r".*x(i\d+)>", r"\1", kind) for kind in types} == {"i64"}


@pytest.mark.parametrize("kernel", KERNELS)
def test_compiles_for_amd(kernel: str) -> None:
    assert TARGETS["gfx942"].backend == "hip"
    assert compile_kernel(kernel, "gfx942", torch.bfloat16, 64).asm["amdgcn"]
