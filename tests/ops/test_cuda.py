"""What CUDA tensors get: which calls the Triton kernels cover, and what happens without Triton."""

import sys
import warnings
from collections.abc import Iterator

import pytest
import torch
from norm_cases import FEW, Case
from recurrences import arguments as arguments_of
from recurrences import names, op
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from lnrnn.ops import choice, cuda, ln_rnn

F16, BF16, F32, F64 = torch.float16, torch.bfloat16, torch.float32, torch.float64


def arguments(dtype: torch.dtype = F32) -> list[Tensor]:
    return [torch.randn(shape, dtype=dtype) for shape in ((4, 2, 5), (2, 5), (5, 5), (5,))]


@pytest.fixture
def cpu_for_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let CPU tensors be judged as CUDA tensors, by a process that has not looked for Triton."""
    monkeypatch.setitem(choice.BACKENDS, "cpu", cuda)
    cuda.missing.cache_clear()
    yield
    cuda.missing.cache_clear()


@pytest.mark.parametrize(
    ("dtypes", "covered"),
    [
        ([F32], True),
        ([F64], True),
        ([BF16], True),
        ([F16, F32], True),
        ([BF16, F32], True),
        ([F64, F32], False),
        ([BF16, F16], False),
        ([torch.complex64], False),
    ],
)
def test_dtypes(dtypes: list[torch.dtype], covered: bool) -> None:
    why = cuda.uncovered({n: torch.zeros(1, dtype=d) for n, d in zip("xy", dtypes, strict=False)})
    assert (why is None) == covered
    if why is not None:
        assert all(str(dtype) in why for dtype in dtypes)


@pytest.mark.parametrize("odd", ["h_0", "weight_hh", "weight_hr", "x", "weight_ih"])
def test_factors_of_two_dtypes_are_named(odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A float32 state beside a bfloat16 weight is what torch cannot multiply."""
    monkeypatch.setattr(cuda, "missing", lambda: None)
    monkeypatch.setitem(choice.BACKENDS, "cpu", cuda)
    case = FEW[3]  # it has them all
    tensors = zip(names(case), arguments_of(case, dtype=F32), strict=True)
    args = [t.bfloat16() if name == odd else t for name, t in tensors]
    rule = rf"{odd}.* must be of one dtype outside of autocast, .* torch\.bfloat16, torch\.float32"
    with pytest.raises(NotImplementedError, match=rule):
        op(case, fused=True)(*args)
    with torch.autocast("cpu", BF16):
        assert choice._uncovered(dict(zip(names(case), args, strict=True))) is None


def test_tensors_of_two_devices_are_named() -> None:
    x, *rest = arguments()
    with pytest.raises(NotImplementedError, match=r"one cpu or cuda device, .* on cpu, meta"):
        ln_rnn(x, *(t.to("meta") for t in rest), fused=True)


def test_no_triton_is_one_warning_and_the_reference(
    cpu_for_cuda: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.startswith("lnrnn.ops.triton_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "triton", None)  # whether it is installed or not
    args = arguments()
    with pytest.warns(
        RuntimeWarning, match=r"Triton cannot be used \(.*Error: .* a CUDA build of torch"
    ):
        first = ln_rnn(*args)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = ln_rnn(*args)[0]
    assert torch.equal(first, ln_rnn(*args, fused=False)[0])
    assert torch.equal(second, first)
    with pytest.raises(NotImplementedError, match="has none: Triton cannot be used"):
        ln_rnn(*args, fused=True)


def test_what_no_kernel_covers_does_not_look_for_triton(
    cpu_for_cuda: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "register", pytest.fail)
    x, *rest = arguments(F16)
    ln_rnn(x.bfloat16(), *rest)
    ln_rnn(x, *rest, fused=False)


def test_triton_without_a_gpu_or_compiler_is_one_warning(
    cpu_for_cuda: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(cuda, "register", lambda key: None)
    monkeypatch.setattr(cuda, "_find_driver", fail)
    with pytest.warns(RuntimeWarning, match="RuntimeError: Failed to find C compiler"):
        ln_rnn(*arguments())


@pytest.mark.parametrize(("capabilities", "covered"), [([(7, 5), (9, 0)], False), ([(8, 0)], True)])
def test_old_devices_have_no_kernels(
    capabilities: list[tuple[int, int]],
    covered: bool,
    cpu_for_cuda: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: capabilities[i])
    monkeypatch.setattr(cuda, "register", lambda key: None)
    monkeypatch.setattr(cuda, "_find_driver", lambda: None)
    if covered:
        assert cuda.missing() is None
    else:
        with pytest.warns(RuntimeWarning, match=r"capability 8\.0 or more, and one here has 7\.5"):
            assert cuda.missing() is not None


@pytest.mark.parametrize("narrow", [F32, BF16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("case", FEW, ids=str)
def test_cuda_tensors_go_to_the_operators(
    case: Case, narrow: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With tensors that have a device and no data (nor gradients, for which torch wants CUDA)."""
    monkeypatch.setattr(cuda, "missing", lambda: None)
    products = {"h_0", "weight_hh", "weight_hr"}
    with FakeTensorMode():
        args = [
            torch.empty(a.shape, dtype=narrow if name in products else F32, device="cuda")
            for name, a in zip(names(case), arguments_of(case), strict=True)
        ]
        output, h_n, *c_n = op(case, fused=True)(*args)
        assert (output.dtype, h_n.dtype) == (narrow, narrow)
        assert [c.dtype for c in c_n] == [F32] * (case.cell == "lstm")
        for result in (output, h_n, *c_n):
            assert result.device.type == "cuda"


def test_cpu_states_beside_cuda_tensors_have_no_kernel() -> None:
    with FakeTensorMode():
        x, h_0, *rest = (torch.empty(a.shape, device="cuda") for a in arguments())
        with pytest.raises(NotImplementedError, match="tensors are on cpu, cuda:0"):
            ln_rnn(x, torch.empty(h_0.shape), *rest, fused=True)
