"""scripts/gpu_check.sh, rehearsed where there is no GPU."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gpu_check import __main__ as one_pass
from gpu_check import needs, report
from gpu_check.parts import Part

ROOT = Path(__file__).parents[2]
# Without a GPU "parity" is what "graphs" is: a pytest that skips.
PARTS = ["accuracy", "graphs", "speed", "cudnn", "profile", "train"]


def test_a_rehearsal_goes_through_the_parts(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "GPU_WHEELS": str(tmp_path)}
    command = [str(ROOT / "scripts/gpu_check.sh"), "--cpu", "--out", str(tmp_path)]
    command += ["--only", *PARTS]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.strip() in done.stdout
    for name in PARTS:
        assert f"\n* {name}: ok, " in text
        assert f"\n## {name}\n" in text
    assert "| lstm | 4, 2, 8, 8 | training | bf16 | " in text
    for cell in ("LSTM", "GRU"):
        for dtype in ("fp16", "bf16", "fp32"):
            assert f"| {cell} | 8 | {dtype} | training | " in text
    assert "aten::" in text  # the names of what ran
    assert "optimizer steps" in text


def sleeping(name: str, seconds: float, limit: int, code: int = 0) -> Part:
    text = f"import sys, time; print('began', flush=True); time.sleep({seconds}); sys.exit({code})"
    return Part(name, limit, 0, [sys.executable, "-c", text])


def make_pass(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *found: Part, seconds: int = 60
) -> int:
    monkeypatch.setattr(one_pass, "parts", lambda: list(found))
    argv = ["gpu_check", "--out", str(folder), "--seconds", str(seconds)]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as end:
        one_pass.main()
    return int(end.value.code or 0)


def test_a_part_that_hangs_is_stopped_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(one_pass, "LEAST", 1)
    hangs, works = sleeping("hangs", 600, 2), sleeping("works", 0, 30)
    assert make_pass(monkeypatch, tmp_path, hangs, sleeping("fails", 0, 30, 3), works) == 1
    text = capsys.readouterr().out
    for line in ("* hangs: STOPPED at its limit", "* fails: FAILED with 3", "* works: ok"):
        assert line in text
    assert "began" in (tmp_path / "hangs.txt").read_text(encoding="utf-8")


def test_later_parts_get_what_they_were_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, last = sleeping("first", 0, 60), sleeping("last", 0, 60)._replace(promised=30)
    assert make_pass(monkeypatch, tmp_path, first, last, seconds=33) == 1
    text = capsys.readouterr().out
    assert "* first: left out, no time" in text
    assert "* last: ok" in text


def test_what_runs_beside_is_over_before_anything_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = sleeping("beside", 1, 30)._replace(beside=True)
    timed = sleeping("timed", 0, 30)._replace(timed=True)
    assert make_pass(monkeypatch, tmp_path, beside, timed) == 0
    ended = [line for line in capsys.readouterr().out.splitlines() if line.startswith("* ")]
    assert [line.split(":")[0] for line in ended] == ["* beside", "* timed"]


def test_an_unknown_part_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--out", str(tmp_path), "--only", "sped"])
    with pytest.raises(SystemExit, match=r"--only takes accuracy, .*speed.*; got sped"):
        one_pass.main()


@pytest.mark.skipif(torch.version.cuda is not None, reason="says what a CPU build lacks")
def test_what_is_missing_is_said_in_one_sentence() -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT}"}
    command = [sys.executable, "-m", "gpu_check.needs"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("missing: ")
    assert "a CUDA build of torch (this is " in sentence


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "MODULES", ("torch", "triton", "no_such_package"))
    assert "the Python package no_such_package" in needs.missing()
    assert needs.missing(cpu=True) == ["the Python package no_such_package"]


def test_tests_on_a_gpu_install_nothing() -> None:
    """That machine may have no internet, and no .venv."""
    command = ["make", "-n", "test-gpu", "VENV=no-such-folder", "PYTHON=python-there"]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "pip" not in planned
    assert "python-there -m pytest -c tests/gpu.ini" in planned


def test_the_report_says_which_tests_failed() -> None:
    log = (
        "tests/gpu/test_graphs.py::test_a FAILED\n"
        "E   AssertionError: value is off by 1.0e-02\n"
        "FAILED tests/gpu/test_graphs.py::test_a - AssertionError\n"
        "===== 1 failed, 3 passed in 2.00s =====\n"
    )
    assert report.tests(log).splitlines() == [
        "1 failed, 3 passed in 2.00s",
        "FAILED tests/gpu/test_graphs.py::test_a - AssertionError",
        "E   AssertionError: value is off by 1.0e-02",
    ]


KILLED = """
tests/gpu/test_parity.py::test_a[x]
tests/gpu/test_parity.py::test_b
[gw1] [  1%] FAILED tests/gpu/test_parity.py::test_a[x]
tests/gpu/test_parity.py::test_a[x] failed at call:
E   AssertionError: value is off by 1.0e-02
tests/gpu/test_parity.py::test_c
[gw0] [  2%] PASSED tests/gpu/test_parity.py::test_b
"""


def test_the_report_of_a_pytest_that_was_killed_says_what_failed_until_then() -> None:
    expected = [
        "FAILED tests/gpu/test_parity.py::test_a[x]",
        "UNFINISHED tests/gpu/test_parity.py::test_c",
        "E   AssertionError: value is off by 1.0e-02",
    ]
    counts, *lines = report.tests(KILLED.strip()).splitlines()
    assert counts == "1 failed, 1 passed, 1 unfinished, no summary"
    assert lines == expected
    alone = (
        "tests/gpu/test_a.py::test_a[x] FAILED   [ 1%]\ntests/gpu/test_a.py::test_b PASSED  [ 2%]"
    )
    assert report.tests(alone).splitlines() == [
        "1 failed, 1 passed, no summary",
        "FAILED tests/gpu/test_a.py::test_a[x]",
    ]


TESTS = """
import time

def test_wrong():
    assert "one" == "two"

def test_long():
    time.sleep(600)
"""


@pytest.mark.parametrize("plugins", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_a_pytest_that_is_stopped_says_why_tests_failed(
    plugins: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests/gpu/conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-v", "--tb=short", *plugins, str(tmp_path)]
    part = Part("graphs", 30, 0, command)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell
    try:
        assert make_pass(monkeypatch, tmp_path, part) == 1
    finally:
        signal.signal(signal.SIGINT, before)
    text = capsys.readouterr().out
    assert "* graphs: STOPPED at its limit" in text
    assert "E   AssertionError: assert 'one' == 'two'" in text
    log = (tmp_path / "graphs.txt").read_text(encoding="utf-8")
    shown, summary = log.index("test_it.py::test_wrong failed at call:"), log.index("= FAILURES =")
    assert shown < summary  # at once, and again at the end


def test_a_part_that_does_not_listen_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(one_pass, "LEAST", 1)
    monkeypatch.setattr(one_pass, "GRACE", dict.fromkeys(one_pass.GRACE, 1))
    text = (
        "import signal, time\n"
        "for one in (signal.SIGINT, signal.SIGTERM):\n"
        "    signal.signal(one, signal.SIG_IGN)\n"
        "time.sleep(600)\n"
    )
    deaf = Part("deaf", 3, 0, [sys.executable, "-c", text])
    assert make_pass(monkeypatch, tmp_path, deaf) == 1
    assert "* deaf: STOPPED at its limit" in capsys.readouterr().out
