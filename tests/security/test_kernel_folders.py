"""A library is loaded as code only from where nobody else can have put it."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lnrnn.ops import cpu
from lnrnn.ops.cpu.trusted import distrusted

SOMEBODY = 54321  # a user's number
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that all may enter, in one that all may write, as /tmp is."""
    folder = Path(tempfile.mkdtemp(prefix="lnrnn-shared-", dir="/tmp")).resolve()
    folder.chmod(0o1777)
    (folder / "ours").mkdir()
    (folder / "ours").chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def ours(shared) -> Path:
    """A folder of ours in it, with a file."""
    (shared / "ours" / "library.so").touch(0o644)
    return shared / "ours"


def test_what_is_ours_alone_is_trusted(ours):
    assert distrusted(ours) is None


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o1777])
def test_a_folder_into_which_others_may_write_is_not(ours, mode):
    ours.chmod(mode)
    assert distrusted(ours) == f"others may write {ours}"


def test_a_file_that_others_may_write_is_not(ours):
    (ours / "library.so").chmod(0o666)
    assert distrusted(ours) == f"others may write {ours / 'library.so'}"


def test_a_folder_that_others_may_move_away_is_not(shared, ours):
    shared.chmod(0o777)
    assert distrusted(ours) == f"others may write {shared}"


def test_what_others_cannot_reach_may_be_writable(shared, ours):
    """As where every file is made writable by all, in a home that is closed."""
    ours.chmod(0o777)
    shared.chmod(0o700)
    assert distrusted(ours) is None


def test_a_link_is_not(ours):
    (ours / "build.ninja").symlink_to("/etc/hostname")
    assert distrusted(ours) == f"{ours / 'build.ninja'} is a link"


@as_root
@pytest.mark.parametrize("name", ["", "ours", "ours/library.so"])
def test_what_is_somebodys_is_not(name, shared, ours):
    os.chown(shared / name, SOMEBODY, -1)
    assert distrusted(ours) == f"{shared / name} belongs to user {SOMEBODY}"


@as_root
@pytest.mark.parametrize(("group", "trusted"), [(0, True), (SOMEBODY, False)])
def test_a_group_may_write_if_nobody_else_is_in_it(group, trusted, ours):
    os.chown(ours, -1, group)
    ours.chmod(0o775)
    assert (distrusted(ours) is None) is trusted


def test_the_home_is_as_it_is(shared, ours, monkeypatch):
    """Who can change it has its owner's shell."""
    shared.chmod(0o777)
    monkeypatch.setenv("HOME", str(shared))
    assert distrusted(ours) is None


PLANTED = '#include <cstdio>\n__attribute__((constructor)) void f() { std::fopen("%s", "w"); }\n'


@pytest.fixture
def call(shared, tmp_path, canary):
    """Load kernels of one line, where another library waits in the shared folder."""
    sources = tmp_path / "sources"
    sources.mkdir()
    for name in (*cpu.SOURCES, *cpu.HEADERS):
        (sources / name).write_text(f"int lnrnn_{Path(name).stem}() {{ return 1; }}\n")
    code = "import sys, pathlib; from lnrnn.ops import cpu; "

    def call(expression: str, **variables: str) -> subprocess.CompletedProcess[str]:
        surroundings = {"TORCH_EXTENSIONS_DIR": str(shared), "HOME": str(tmp_path / "home")}
        return subprocess.run(
            [sys.executable, "-c", code + f"print({expression})", str(sources)],
            env={**os.environ, "XDG_CACHE_HOME": "", **surroundings, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    name = call("cpu._name_of(pathlib.Path(sys.argv[1]))").stdout.strip()
    (tmp_path / "planted.cpp").write_text(PLANTED % canary)
    library = shared / name / f"{name}.so"
    library.parent.mkdir()
    command = ["c++", "-shared", "-fPIC", str(tmp_path / "planted.cpp"), "-o", str(library)]
    subprocess.run(command, check=True)
    return lambda **variables: call("cpu.load(pathlib.Path(sys.argv[1]))", **variables), library


def test_a_planted_library_is_not_loaded(call, canary, tmp_path):
    load, library = call
    taken = load()
    assert taken.stdout.strip() == str(library), taken.stderr  # as long as it may be ours
    assert canary.exists()
    canary.unlink()
    library.parent.chmod(0o777)
    own = tmp_path
    for _ in range(2):  # built, then taken from there
        answer = load()
        own = Path(answer.stdout.strip())
        assert own.is_relative_to(tmp_path / "home" / ".cache" / "lnrnn"), answer.stderr
        assert f"kept in {own.parent}, since others may write {library.parent}" in answer.stderr
    assert own.parents[1].stat().st_mode & 0o077 == 0


def test_without_a_folder_of_ones_own_nothing_is_loaded(call, canary, tmp_path):
    load, library = call
    library.parent.chmod(0o777)
    (tmp_path / "file").touch()
    for cache in (library.parent, tmp_path / "file"):
        answer = load(XDG_CACHE_HOME=str(cache))
        assert "ToolError: a library would be loaded that others may have written" in answer.stderr
        assert "TORCH_EXTENSIONS_DIR" in answer.stderr
