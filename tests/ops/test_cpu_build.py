"""Building the kernels: once for all processes, again for other sources, and politely without."""

import contextlib
import io
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from lnrnn.ops import cpu, ln_rnn

SOURCES = cpu.SOURCE_FOLDER


@pytest.fixture
def forgetful() -> Iterator[None]:
    """Let the next call look for the kernels anew, and forget what it found."""
    cpu.missing.cache_clear()
    yield
    cpu.missing.cache_clear()


def arguments() -> list[torch.Tensor]:
    return [torch.randn(shape) for shape in ((4, 2, 5), (2, 5), (5, 5), (5,))]


def test_no_compiler_is_one_warning_and_the_reference(
    forgetful: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    args = arguments()
    with pytest.warns(RuntimeWarning, match=r"no C\+\+ compiler 'no-such-compiler'; install g"):
        first = ln_rnn(*args)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = ln_rnn(*args)[0]
    assert torch.equal(first, ln_rnn(*args, fused=False)[0])
    assert torch.equal(second, first)
    with pytest.raises(NotImplementedError, match=r"has none: there is no C\+\+ compiler"):
        ln_rnn(*args, fused=True)


def test_sources_that_do_not_compile_are_one_warning(
    forgetful: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Error building extension")

    monkeypatch.setattr(cpu, "load", fail)
    with pytest.warns(RuntimeWarning, match="building the CPU kernels failed: Error building"):
        assert cpu.missing() is not None


@pytest.mark.parametrize("fails", [False, True])
def test_a_terminal_shows_what_is_done(
    fails: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    (tmp_path / "unit_0.o").touch()
    with contextlib.suppress(ValueError), cpu._progress(tmp_path):
        while "parts" not in shown.getvalue():
            time.sleep(0.05)
        if fails:
            raise ValueError
    line, *_ = shown.getvalue().split("\r")[1:]
    assert line == f"lnrnn: 1 of {len(cpu.UNITS)} parts compiled, 1 s"
    assert shown.getvalue().endswith(f"\r{' ' * len(line)}\r")


def test_the_name_depends_on_every_source(tmp_path: Path) -> None:
    names = (*cpu.SOURCES, *cpu.HEADERS)
    sources = [path.name for path in SOURCES.iterdir() if path.suffix in (".cpp", ".hpp")]
    assert sorted(names) == sorted(sources)
    for name in names:
        (tmp_path / name).write_bytes((SOURCES / name).read_bytes())
    digest = cpu._digest(SOURCES)
    assert cpu._digest(tmp_path) == digest
    for name in names:
        (tmp_path / name).write_bytes((SOURCES / name).read_bytes() + b"\n")
        assert cpu._digest(tmp_path) != digest
        (tmp_path / name).write_bytes((SOURCES / name).read_bytes())


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a process that loads kernels of one line a file, which take a second to build."""
    sources = tmp_path / "sources"
    sources.mkdir()
    for name in (*cpu.SOURCES, *cpu.HEADERS):
        (sources / name).write_text(f"int lnrnn_{Path(name).stem}() {{ return 1; }}\n")
    program = f"import pathlib; from lnrnn.ops import cpu; cpu.load(pathlib.Path({str(sources)!r}))"
    surroundings = {**os.environ, "TORCH_EXTENSIONS_DIR": str(tmp_path / "built")}

    def start(**variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", program],
            env={**surroundings, **variables},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    return start


def test_processes_that_come_at_once_build_once(start, tmp_path: Path) -> None:
    running = [start() for _ in range(3)]
    told = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], told
    assert sum("building the CPU kernels" in text for text in told) == 1
    (folder,) = tmp_path.glob("built/*")
    assert sorted(path.name for path in folder.iterdir()) == ["building", f"{folder.name}.so"]


def test_what_a_killed_build_goes_on_with_meets_no_other(start, tmp_path: Path) -> None:
    """Its compilers live on: here until ``go`` is there, when they write an empty library."""
    compiler, go, ended = (tmp_path / name for name in ("c++", "go", "ended"))
    compiler.write_text(
        f"""#!/bin/sh
        case "$*" in *-shared*) ;; *) exec c++ "$@";; esac
        touch {tmp_path}/linking
        until test -e {go}; do sleep 0.1; done
        for word; do test "$before" = -o && cp /dev/null "$word"; before=$word; done
        touch {ended}
        """
    )
    compiler.chmod(0o755)
    killed = start(CXX=str(compiler))
    wait_for(tmp_path / "linking")
    killed.kill()
    killed.communicate()
    answer = start()
    told = answer.communicate()[1]
    assert answer.returncode == 0, told
    assert "built the CPU kernels" in told
    (library,) = tmp_path.glob("built/*/*.so")
    whole = library.read_bytes()
    go.touch()
    wait_for(ended)
    assert library.read_bytes() == whole
    assert sorted(path.name for path in library.parent.iterdir()) == ["building", library.name]


def wait_for(path: Path, seconds: float = 60) -> None:
    """Wait until ``path`` exists."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.05)


def test_a_forked_process_runs_the_kernels() -> None:
    """As a worker of a DataLoader does, after its parent has used threads."""
    args = [torch.randn(shape) for shape in ((6, 40, 37), (40, 37), (37, 37), (37,))]
    truth = ln_rnn(*args, fused=True)[0]
    dataset = _Recurrence(args)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=None, num_workers=1, multiprocessing_context="fork", timeout=60
    )
    for value in loader:
        torch.testing.assert_close(value, truth)


class _Recurrence(torch.utils.data.Dataset):
    def __init__(self, args: list[torch.Tensor]) -> None:
        self.args = args

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> torch.Tensor:
        return ln_rnn(*self.args, fused=True)[0]
