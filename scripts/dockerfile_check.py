"""Execute the Dockerfile's steps without Docker, then train three steps as its user.

Debian's debootstrap makes the base: the same Debian and the same Python as the image that FROM
names. COPY, ENV, ENTRYPOINT, RUN, USER and WORKDIR are read from the Dockerfile; any other
instruction is an error. It needs root, debootstrap, what pip and apt reach here, and 3 GB of memory
where pip finds a CPU build of torch.

    make dockerfile-check
"""

import argparse
import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

CONTEXT = Path(__file__).resolve().parents[1]
COMMAND = ["model=lstm_lncell", "trainer.max_steps=3"]
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


class Image:
    """A folder that holds a Debian, and what the steps so far have said about the next ones.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.user = "root"
        self.folder = PurePosixPath("/")
        self.entry: list[str] = []
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

    def inside(self, path: PurePosixPath) -> Path:
        """Return where a path of the image is on this machine."""
        return self.root / path.relative_to("/")

    def call(self, command: list[str], pip: dict[str, str]) -> str:
        """Run a command as the current user in the current folder, and return what it says."""
        entry = self._passwd()
        variables = {"HOME": entry[5], **self.environment, **pip}
        return subprocess.run(
            [
                *("chroot", f"--userspec={entry[2]}:{entry[3]}", str(self.root)),
                *("env", "-i", *(f"{name}={value}" for name, value in variables.items())),
                *("sh", "-c", 'cd "$0" && exec "$@"', str(self.folder), *command),
            ],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ).stdout

    def uid(self) -> int:
        """Return the number of the current user."""
        return int(self._passwd()[2])

    def _passwd(self) -> list[str]:
        lines = (self.root / "etc/passwd").read_text().splitlines()
        return next(line.split(":") for line in lines if line.split(":")[0] == self.user)

    def copy(self, words: list[str], ignored: list[str]) -> None:
        """Copy files and folders of the context, as COPY does, without what is ignored."""
        *sources, target = words
        place = self.inside(self.folder / target)
        for name in sources:
            source = CONTEXT / name
            if source.is_file():
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, place)
                continue

            def skip(folder: str, names: list[str]) -> set[str]:
                within = Path(folder).relative_to(CONTEXT)
                return {n for n in names if _is_ignored(str(within / n), ignored)}

            shutil.copytree(source, place, ignore=skip, dirs_exist_ok=True)


def _is_ignored(path: str, patterns: list[str]) -> bool:
    """Apply .dockerignore: a pattern is for the top unless it begins with ``**/``."""
    name = path.rsplit("/", 1)[-1]
    return any(
        fnmatch(name, pattern[3:]) if pattern.startswith("**/") else fnmatch(path, pattern)
        for pattern in patterns
    )


def read_steps(text: str) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions and their arguments."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", "")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in whole.splitlines()]


def make_base(root: Path, name: str) -> None:
    """Make what the image ``python:VERSION-slim-SUITE`` has: that Python, pip, certificates."""
    found = re.fullmatch(r"python:([\d.]+)-slim-(\w+)", name)
    if found is None:
        raise SystemExit(f"error: FROM must be python:VERSION-slim-SUITE, got {name}")
    version, suite = found.groups()
    wanted = "python3,python3-pip,ca-certificates"
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={wanted}", suite, str(root)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    if not (root / f"usr/bin/python{version}").exists():
        raise SystemExit(f"error: Debian {suite} has another Python than {version}")
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    # The image's Python is not Debian's, which refuses to install beside its own packages.
    (root / f"usr/lib/python{version}/EXTERNALLY-MANAGED").unlink()
    for path in ("/etc/resolv.conf", "/etc/hosts", CERTIFICATES):
        show(root, Path(path))
    for path in ("dev", "proc"):
        (root / path).mkdir(exist_ok=True)
        subprocess.run(["mount", "--rbind", f"/{path}", str(root / path)], check=True)


def pip_settings(root: Path) -> dict[str, str]:
    """Return pip's configuration as variables, and show ``root`` the files that it names."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    settings = {}
    for line in sorted(listed.splitlines(), reverse=True):  # :env: last, since it overrules files
        key, value = line.split("=", 1)
        section, name = key.rsplit(".", 1)
        if section in ("global", ":env:"):
            settings[f"PIP_{name.upper().replace('-', '_')}"] = str(ast.literal_eval(value))
    words = [(name, word) for name, value in settings.items() for word in value.split()]
    for name, word in words:
        path = Path(word.removeprefix("file://"))
        if "INDEX_URL" in name:
            path = path.parent  # the files that an index links to are beside it
        if path.is_absolute() and path.exists():
            show(root, path)
    return settings


def show(root: Path, path: Path) -> None:
    """Let a file or a folder of this machine be seen in ``root`` under its own path."""
    place = root / path.relative_to("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        shutil.copyfile(path, place)
    elif not place.exists():
        place.mkdir()
        subprocess.run(["mount", "--bind", "-o", "ro", str(path), str(place)], check=True)


def build(root: Path) -> None:
    """Execute the steps in ``root``, then train there."""
    started = time.monotonic()
    (_, base), *steps = read_steps((CONTEXT / "Dockerfile").read_text())
    ignored = (CONTEXT / ".dockerignore").read_text().split()

    def say(words: str) -> None:
        print(f"== {time.monotonic() - started:4.0f} s  {words}", flush=True)

    say(f"FROM {base}")
    # In memory: dpkg waits for the disk after every file.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=90%", "tmpfs", str(root)], check=True)
    make_base(root, base)
    image, pip = Image(root), pip_settings(root)
    for instruction, argument in steps:
        say(f"{instruction} {argument}")
        take(image, instruction, argument, ignored, pip)
    say(f"{image.user} trains: {shlex.join([*image.entry, *COMMAND])}")
    printed = image.call([*image.entry, *COMMAND], {})
    print(printed)
    check_run(image, printed)
    say("the Dockerfile's steps work, and its user trains")


def take(
    image: Image, instruction: str, argument: str, ignored: list[str], pip: dict[str, str]
) -> None:
    """Execute one step."""
    match instruction:
        case "COPY":
            image.copy(shlex.split(argument), ignored)
        case "ENTRYPOINT":
            image.entry = json.loads(argument)
        case "ENV":
            image.environment |= dict(word.split("=", 1) for word in shlex.split(argument))
        case "RUN":
            image.call(["sh", "-c", argument], pip)
        case "USER":
            image.user = argument
        case "WORKDIR":
            image.folder = image.folder / argument
            image.inside(image.folder).mkdir(parents=True, exist_ok=True)
        case _:
            raise SystemExit(f"error: scripts/dockerfile_check.py does not know {instruction}")


def check_run(image: Image, printed: str) -> None:
    """Check that three steps were made, by the user, with the kernels that were built before."""
    (record,) = image.inside(image.folder).glob("runs/*/*/seed0/run.json")
    assert json.loads(record.read_text())["steps"] == 3, record.read_text()
    assert record.stat().st_uid == image.uid() != 0, record.stat()
    assert "kernels" not in printed, "the kernels were not ready"


def main() -> None:
    """Make a folder, and build in it where mounts are seen by nobody else."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    root = parser.parse_args().root
    if root is not None:
        try:
            build(root)
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"{error.stdout}\nerror: exit code {error.returncode}") from None
        return
    if os.geteuid() != 0 or not all(map(shutil.which, ("debootstrap", "chroot", "unshare"))):
        raise SystemExit("error: this needs root, debootstrap, chroot and unshare")
    # What is mounted within another namespace is not there when the folder is deleted.
    with tempfile.TemporaryDirectory(prefix="lnrnn-image-") as folder:
        inner = [sys.executable, __file__, "--root", folder]
        code = subprocess.run(["unshare", "--mount", *inner], check=False).returncode
    sys.exit(code)


if __name__ == "__main__":
    main()
