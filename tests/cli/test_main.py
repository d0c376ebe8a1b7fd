"""The command ``lnrnn``: what it answers, and that it answers before anything heavy is imported."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lnrnn.cli import main as command

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("lightning", "datasets", "torchmetrics", "matplotlib", "scipy", "torch._dynamo")


@pytest.fixture(autouse=True)
def kept_handler():
    """A command leaves Ctrl-C to the system as it ends."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def call(monkeypatch, capsys):
    """Call the command in this process; return its exit code, output and errors."""

    def call(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["lnrnn", *arguments])
        code: object = 0
        try:
            command.main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call


def answer(folder: Path, *arguments: str) -> tuple[str, list[str]]:
    """Return what the command says in a process of its own, and what that had imported of HEAVY."""
    code = (
        "import sys\n"
        "from lnrnn.cli.main import main\n"
        f"sys.argv = ['lnrnn', *{list(arguments)!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    print(end.code)\n"
        f"print('imported:', *[name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    *lines, last = (process.stdout + process.stderr).splitlines()
    imported = next(line for line in (last, *reversed(lines)) if line.startswith("imported:"))
    return process.stdout + process.stderr, imported.split()[1:]


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",), ("help",)])
def test_help_lists_the_commands(call, arguments):
    code, printed, _ = call(*arguments)
    assert code == 0
    assert all(f"lnrnn {name} " in printed for name in command.COMMANDS)


def test_the_version_is_that_of_the_package(call):
    import lnrnn

    assert call("--version")[1] == f"lnrnn {lnrnn.__version__}\n"


def test_an_unknown_command_is_refused_with_the_list(call):
    code, _, errors = call("trian")
    assert code == command.MISUSED
    assert "there is no command trian. Did you mean train? There are: lnrnn train | " in errors
    assert "evaluate | compare | tune | find-lr | " in errors


def test_what_a_command_lacks_is_named_in_one_line(call, monkeypatch):
    found = command.find_spec
    absent = ("hydra", "lightning")
    monkeypatch.setattr(command, "find_spec", lambda name: None if name in absent else found(name))
    code, _, errors = call("train")
    assert code == command.MISUSED
    assert errors.startswith("error: lnrnn train needs lightning, hydra-core: pip install lnrnn.")
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--help",), "lnrnn train"),
        (("train", "--cfg", "job"), "default_epochs: 20"),
        (("train", "model.epz=1"), "there is no key model.epz. Did you mean eps?"),
        (("train", "+trainer.epz=1"), "there is no key trainer.epz."),
        (
            ("train", "--hlep"),
            "arguments: --hlep. Did you mean --help? Settings have no dashes",
        ),
        (
            ("train", "--model", "lstm"),
            "arguments: --model. Settings have no dashes: model=lstm",
        ),
        (("train", "seed=1", "-m", "model=lstm"), "Settings stand together: write flags before or"),
        (("train", "--cfg", "jobs"), "invalid choice: 'jobs'"),
        (("predict", "--hlep"), "'--hlep' is not a flag of this command: everything is written"),
        (("train", "model.zoneout=0.1"), "add it with a plus: +model.zoneout=..."),
        (("train", "+model.zoneuot=1"), "there is no key model.zoneuot. Did you mean zoneout?"),
        (("train", "data.lenght=3"), "there is no key data.lenght. Did you mean length?"),
        (("train", "model=rnn_nl"), "there is no model=rnn_nl. Did you mean rnn_ln?"),
        (("compare", "--help"), "require_speedup"),
        (("compare", "sedes=3"), "there is no key sedes. Did you mean seeds?"),
        (("evaluate", "rnu=x"), "there is no key rnu. Did you mean run?"),
        (("predict", "run=x", "flies=y"), "there is no key flies. Did you mean files?"),
        (("generate", "rnu=x"), "there is no key rnu. Did you mean run?"),
        (("help", "export"), "lnrnn export run="),
        (("export", "run=x"), "format, out must be given"),
    ],
)
def test_a_mistake_is_named_before_anything_heavy_is_imported(tmp_path, arguments, words):
    said, imported = answer(tmp_path, *arguments)
    assert words in said
    assert imported == []


@pytest.mark.parametrize("name", ["train", "evaluate", "compare"])
def test_a_script_only_calls_its_command(name):
    lines = (ROOT / "scripts" / f"{name}.py").read_text().splitlines()
    assert len(lines) <= 15
    assert f'run("{name}")' in lines[-1]


def test_ctrl_c_as_python_ends_prints_no_traceback():
    code = (
        "import atexit, os, signal, sys\n"
        "from lnrnn.cli.main import main\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
        "sys.argv = ['lnrnn', 'compare', '--help']\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize("words", [["train", "--help"], ["help", "compare"]])
def test_help_may_be_read_in_part(words):
    """As head does; here nobody reads at all."""
    command = [sys.executable, "-m", "lnrnn", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
