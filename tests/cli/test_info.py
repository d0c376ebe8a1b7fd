"""What ``lnrnn info`` prints, and that it finds a kernel that is wrong."""

import sys

import pytest

from lnrnn.cli import info
from lnrnn.ops import choice


@pytest.fixture
def call(monkeypatch, capsys):
    def call(*arguments: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["lnrnn info", *arguments])
        with pytest.raises(SystemExit) as caught:
            info.main()
        return caught.value.code, capsys.readouterr().out

    return call


def test_it_says_what_is_there_and_checks_every_kernel(call):
    code, printed = call()
    assert code == 0
    for name in ("torch", "lightning", "capability", "cpu kernels", "cuda kernels"):
        assert f"\n{name} " in printed
    assert all(f"  {cell:<11} ok, worst relative error" in printed for cell in info.CELLS)


def test_a_wrong_kernel_is_named_and_is_the_exit_code(call, monkeypatch):
    right = info.output_and_gradients

    def off(cell, device, dtype, *, fused):
        values = right(cell, device, dtype, fused=fused)
        if fused and cell == "GRU":
            values[1] = values[1] * (1 + 1e-3)
        return values

    monkeypatch.setattr(info, "output_and_gradients", off)
    code, printed = call()
    assert code == info.WRONG
    assert "GRU         WRONG" in printed
    assert "LSTM        ok" in printed


def test_it_says_why_kernels_are_not_used(call, monkeypatch):
    monkeypatch.setattr(choice.BACKENDS["cpu"], "missing", lambda: "there is no C++ compiler")
    code, printed = call()
    assert code == 0
    assert "cpu kernels   not used: there is no C++ compiler" in printed


def test_arguments_are_refused(call):
    code, _ = call("model=rnn")
    assert "takes no arguments, got model=rnn" in str(code)
