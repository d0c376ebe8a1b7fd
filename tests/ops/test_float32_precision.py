"""float32 as products of bfloat16, which torch's switches ask for: forced where there is no AMX."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from norm_cases import FEW, Case
from numerics import assert_equal, output_and_grads, relative_error
from recurrences import arguments, names, op
from torch import Tensor

from lnrnn import LSTM, CellNorm
from lnrnn.ops import fused

pytestmark = pytest.mark.usefixtures("nan_filled_memory")

ONEDNN: Any = torch.backends.mkldnn  # whose types leave out its switches
AMX = torch.cpu._is_amx_tile_supported()
LAYOUTS: dict[str, dict[str, Any]] = {
    "H37": {"steps": 6, "batch": 17, "hidden": 37, "projected": 21, "features": 19},
    "H64": {"steps": 5, "batch": 70, "hidden": 64, "projected": 32, "features": 64},
    "H300": {"steps": 4, "batch": 3, "hidden": 300, "projected": 40, "features": 270},
    "ragged": {"hidden": 37, "sizes": [19, 18, 11, 11, 3, 1], "projected": 21, "features": 16},
}
# What products are, how far outputs may be off, and how many bits of the numbers they keep.
WAYS = [(name, 1e-2, 8) for name in ("bfloat16", "plain", "tiles")]
WAYS += [(f"{name}x3", 1e-5, 16) for name, *_ in WAYS]
SWITCHES: dict[str, tuple[Callable[[], Any], str]] = {
    "highest": (lambda: torch.set_float32_matmul_precision("highest"), "float32"),
    "high": (lambda: torch.set_float32_matmul_precision("high"), "float32"),
    "medium": (lambda: torch.set_float32_matmul_precision("medium"), "bfloat16"),
    "rnn": (lambda: _set(ONEDNN.rnn, "bf16"), "bfloat16"),
    "rnn in TF32": (lambda: _set(ONEDNN.rnn, "tf32"), "float32"),
    "everything": (lambda: _set(torch.backends, "bf16"), "bfloat16"),
    "medium, but not in an RNN": (
        lambda: (
            torch.set_float32_matmul_precision("medium"),
            _set(ONEDNN.rnn, "ieee"),
        ),
        "float32",
    ),
}


def _set(owner: Any, precision: str) -> None:
    owner.fp32_precision = precision


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")
    for owner in (torch.backends, ONEDNN.rnn, ONEDNN.matmul):
        _set(owner, "none")


def moved(function: Callable[..., Any], key: int, bits: int) -> Callable[..., Any]:
    """Return the function of its arguments, each moved by the last of so many bits."""

    def call(*args: Tensor) -> Any:
        generator = torch.Generator().manual_seed(key)
        signs = [torch.randint(2, a.shape, generator=generator) * 2 - 1 for a in args]
        return function(*(a * (1 + 2.0**-bits * s) for a, s in zip(args, signs, strict=True)))

    return call


@pytest.mark.parametrize("layout", list(LAYOUTS.values()), ids=list(LAYOUTS))
@pytest.mark.parametrize(("way", "allowed", "bits"), WAYS, ids=[name for name, *_ in WAYS])
@pytest.mark.parametrize("case", FEW, ids=str)
def test_errors_are_what_the_products_have_bits_for(
    case: Case, way: str, allowed: float, bits: int, layout: dict[str, Any], narrow: Any
) -> None:
    """Gradients may be off by twice what the last bit of every argument changes in them."""
    sizes = layout.get("sizes")
    packed = None if sizes is None else torch.tensor(sizes)
    args = arguments(case, **layout, dtype=torch.float32)
    reference = op(case, batch_sizes=packed, fused=False)
    wide = [a.double() for a in args]
    truth = output_and_grads(reference, wide)
    narrow(way)
    found = output_and_grads(op(case, batch_sizes=packed, fused=True), args)
    near = [output_and_grads(moved(reference, key, bits), wide) for key in range(4)]
    outputs = len(found) - len(args)
    labels = [*(f"output {i}" for i in range(outputs)), *names(case)]
    for i, label in enumerate(labels):
        error = relative_error(found[i], truth[i])
        magnified = 0.0 if i < outputs else 2 * max(relative_error(n[i], truth[i]) for n in near)
        assert error <= max(allowed, magnified), f"{label} is off by {error:.1e}"
    # It did go that way: float32 has 24 bits.
    assert max(relative_error(a, b) for a, b in zip(found, truth, strict=True)) > 2.0 ** -(bits + 4)


@pytest.mark.parametrize("way", ["bfloat16x3", "plainx3"])
def test_three_products_of_infinite_and_missing_numbers(way: str, narrow: Any) -> None:
    case = Case("gru", CellNorm())
    args = arguments(case, steps=5, batch=20, hidden=37, features=16, dtype=torch.float32)
    function = op(case, fused=True)
    for value in (torch.inf, torch.nan):
        args[0][2, 7] = value
        narrow("float32")
        truth = function(*args)[0]
        narrow(way)
        found = function(*args)[0]
        assert torch.equal(found.isnan(), truth.isnan())
        assert found[2:, 7].isnan().all()


@pytest.mark.parametrize("name", list(SWITCHES))
def test_switches_act_where_the_cpu_has_amx_and_nowhere_else(name: str, narrow: Any) -> None:
    case = Case("lstm", CellNorm())
    args = arguments(case, steps=6, batch=17, hidden=37, features=19, dtype=torch.float32)
    function = op(case, fused=True)
    switch, expected = SWITCHES[name]
    narrow(expected if AMX else "float32")
    truth = output_and_grads(function, args)
    narrow(None)
    switch()
    for value, known in zip(output_and_grads(function, args), truth, strict=True):
        assert_equal(value, known)


def test_float64_and_other_storage_know_no_switch(narrow: Any) -> None:
    case = Case("rnn", CellNorm())
    for dtype in (torch.float64, torch.float16):
        args = arguments(case, steps=6, batch=17, hidden=37, features=19, dtype=dtype)
        function = op(case, fused=True)
        narrow(None)
        truth = output_and_grads(function, args)
        torch.set_float32_matmul_precision("medium")
        for value, known in zip(output_and_grads(function, args), truth, strict=True):
            assert_equal(value, known)
        torch.set_float32_matmul_precision("highest")


def test_programs_ask_when_they_run() -> None:
    """What is traced under "medium" holds no answer, but leaves it to the kernel."""
    torch.set_float32_matmul_precision("medium")
    layer = LSTM(16, 16, norm="cell", fused=True)
    program = torch.export.export(layer, (torch.randn(5, 2, 16),))
    [node] = [n for n in program.graph.nodes if "ln_lstm" in str(n.target)]
    given = fused.by_name(fused.LSTM.takes, node.args)
    assert given["narrow"] is None


def test_an_unknown_product_is_refused(narrow: Any) -> None:
    narrow("bf16x3")
    case = Case("rnn", CellNorm())
    args = arguments(case, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"narrow is 'float32', .* got 'bf16x3'"):
        op(case, fused=True)(*args)
