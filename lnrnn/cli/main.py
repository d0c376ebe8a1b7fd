"""Train, test and compare sequence models with and without a layer norm.

lnrnn train model=rnn_ln data=mnist1d      train one model, or resume an interrupted run
lnrnn evaluate run=FOLDER                  test a trained model again
lnrnn compare 'arms=[rnn,rnn_ln]'          train and compare models over paired seeds
lnrnn tune 'optimizer.lr=log(1e-4,1e-1)'   choose settings by trials, each an ordinary run
lnrnn find-lr model=rnn_ln data=mnist1d    suggest a learning rate for a training
lnrnn predict run=FOLDER files=new.csv     let a trained model answer new sequences
lnrnn generate run=FOLDER prompt="To be"   let a trained language model continue a text
lnrnn export run=FOLDER format=onnx out=X  write a trained model for other programs
lnrnn push run=FOLDER repo=user/name       put a trained model on the Hugging Face hub
lnrnn info                                 what is installed, and which kernels are used

lnrnn COMMAND --help says more.
"""

import os
import signal
import sys
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from typing import NoReturn

from lnrnn.runs.interruption import STOPPING, Interrupted, listen_from_the_start, was_pressed
from lnrnn.runs.processes import is_first_process

USING = ("predict", "generate", "export", "push")  # a trained model
COMMANDS = ("train", "evaluate", "compare", "tune", "find-lr", *USING, "info")
# What the commands import beside torch, by the names that pip and Python know.
NEEDED = {
    "lightning": "lightning",
    "hydra-core": "hydra",
    "torchmetrics": "torchmetrics",
    "datasets": "datasets",
    "matplotlib": "matplotlib",
    "scipy": "scipy",
    "rich": "rich",
    "jinja2": "jinja2",
}
MISUSED, INTERRUPTED = 2, 128 + signal.SIGINT  # exit codes


def main() -> None:
    """Run the command that the first argument names."""
    words = sys.argv[1:]
    if len(words) > 1 and words[0] == "help":
        words = [words[1], "--help"]
    try:
        _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        if {"-h", "--help"}.isdisjoint(words):
            raise
        # Who reads has read enough, such as head. Python would write the rest as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        print((__doc__ or "").strip())
        return
    if words[0] == "--version":
        from lnrnn import __version__

        print(f"lnrnn {__version__}")
        return
    if words[0] not in COMMANDS:
        close = get_close_matches(words[0], COMMANDS, n=1)
        meant = f". Did you mean {close[0]}? There are" if close else ""
        _refuse(f"there is no command {words[0]}{meant}: lnrnn {' | '.join(COMMANDS)}")
    sys.argv = [f"lnrnn {words[0]}", *words[1:]]
    run(words[0])


def run(command: str) -> None:
    """Run a command on the arguments in ``sys.argv``.

    Args:
        command: One of ``COMMANDS``.
    """
    missing = [name for name, module in NEEDED.items() if find_spec(module) is None]
    if missing and command != "info":
        _refuse(
            f"lnrnn {command} needs {', '.join(missing)}: pip install lnrnn. Only the layers "
            "(import lnrnn) do without."
        )
    listen_from_the_start()
    try:
        import_module(f"lnrnn.cli.{command.replace('-', '_')}").main()
    except BaseException as error:
        said = isinstance(error, SystemExit) and error.code == INTERRUPTED
        if said or isinstance(error, Interrupted) or not was_pressed():
            raise
    finally:  # what is left is Python's own end, whose tracebacks would say nothing
        for number in STOPPING:
            signal.signal(number, signal.SIG_DFL)
    if was_pressed():  # whatever it came out as
        if is_first_process():
            print("interrupted; no run was under way that had to be saved")
        sys.exit(INTERRUPTED)


def _refuse(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(MISUSED)
