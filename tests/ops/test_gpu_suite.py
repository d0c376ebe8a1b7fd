"""tests/gpu can be run: each of its lines that once could not, and all of its parity tests.

A GPU is stood in for by the CPU and its kernels. What its numbers are on a GPU, only a GPU says.
"""

import builtins
import os
import runpy
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from absent_gpu import SyncDebugMode, standing_in
from norm_cases import FEW, Case
from numerics import BFLOAT16, assert_close

GPU = Path(__file__).parents[1] / "gpu"


@pytest.fixture
def sync() -> Iterator[SyncDebugMode]:
    with standing_in() as mode:
        yield mode


@pytest.fixture
def parity(sync: SyncDebugMode) -> ModuleType:
    from gpu import test_parity

    return test_parity


@pytest.fixture
def graphs(sync: SyncDebugMode) -> ModuleType:
    from gpu import test_graphs

    return test_graphs


def test_products_in_deterministic_mode_are_prepared_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch refuses them without one of these two settings, which it reads once."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    runpy.run_path(str(GPU / "conftest.py"))
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")


def test_the_mode_that_forbids_waiting_is_not_left_behind(
    graphs: ModuleType, sync: SyncDebugMode
) -> None:
    """The call that sets it warns, and warnings are errors here."""
    with graphs.waiting_is_an_error():
        assert sync.mode == "error"
    assert sync.mode == "default"
    graphs.test_replays_wait_for_nothing(None, None)
    assert sync.mode == "default"


@pytest.mark.skipif(torch.__version__ >= "2.14", reason="from torch 2.14 on it is only logged")
def test_what_the_compiler_says_fails_no_test(graphs: ModuleType) -> None:
    (mark,) = (m for m in graphs.test_torch_compile.pytestmark if m.name == "filterwarnings")
    with warnings.catch_warnings():
        for entry in mark.args:
            action, message, category = entry.split(":")
            warnings.filterwarnings(action, message, getattr(builtins, category))
        from torch._inductor import compile_fx

        compile_fx._warn_tf32_disabled.cache_clear()
        compile_fx._warn_tf32_disabled()
    compile_fx._warn_tf32_disabled.cache_clear()
    with pytest.warns(UserWarning, match="TensorFloat32"):  # which it would have said
        compile_fx._warn_tf32_disabled()


def test_rows_past_the_bound_are_compared(
    parity: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer rows, and nearly, since the CPU's kernels add up longer sequences otherwise."""
    monkeypatch.setattr(parity, "ENTRIES", 4 * 512 * 512 * 2)
    monkeypatch.setattr(parity, "assert_equal", partial(assert_close, tolerance=BFLOAT16))
    parity.test_rows_past_what_32_bits_count()


@pytest.mark.parametrize("case", [FEW[0], FEW[2], FEW[5]], ids=str)
def test_parity_tests_run(case: Case, parity: ModuleType) -> None:
    layout: dict[str, Any] = parity.SIZES["ragged"]
    parity.test_every_variant_is_exact_in_float64(case)
    parity.test_every_size_and_dtype_is_as_accurate(case, True, layout, torch.float32)
    parity.test_results_repeat_bit_for_bit(case, True, layout)
    parity.test_gradients_of_gradients(case)
    parity.test_memory_that_nobody_wrote_is_not_read(case)
