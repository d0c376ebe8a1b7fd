"""Suggest a learning rate: train a model that is thrown away while the rate rises.

lnrnn find-lr model=lstm_lncell data=mnist1d
lnrnn find-lr model=gru_ln data=japanese_vowels steps=400 highest=0.3 out=rates.png

It takes what lnrnn train takes, and the run that follows is the same with and without it: no run's
folder is made or read. optimizer.lr, schedule, warmup_steps and the budget do not matter, so a
whole command for training can be given. What is suggested is where the loss falls fastest, one
seed's guess: lnrnn tune and lnrnn compare 'lr=[...]' measure. What can be set (conf/find_lr.yaml):
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from lnrnn.config import CONF
from lnrnn.config.compose import compose_config, compose_experiment
from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.processes import is_only_process

if TYPE_CHECKING:
    from lnrnn.training.rate_finder import RateCurve

OWN = ("lowest", "highest", "steps", "out")
SHOWN = 12  # rates in the table


def main() -> None:
    """Make the test that the command line names, and print what it suggests."""
    if {"-h", "--help"} & set(sys.argv):
        print(f"{__doc__}\n" + (CONF / "find_lr.yaml").read_text().partition("_self_\n\n")[2])
        return
    try:
        own, passed = split_words(sys.argv[1:])
        settings = compose_config(own, "find_lr")
        if not is_only_process():
            raise ConfigurationError("find-lr is done by one process: start it without torchrun")
        out = None if settings.out is None else Path(str(settings.out))
        if out is not None:
            check_out(out)
        experiment = compose_experiment(passed)
        if experiment.own_files:
            print(f"files of your own: {', '.join(map(str, experiment.own_files))}")
        # Here: Lightning takes seconds to import, and a mistake needs none of it.
        from lnrnn.training.rate_finder import find_rate, plot_rates

        curve = find_rate(
            experiment.config,
            lowest=settings.lowest,
            highest=settings.highest,
            steps=settings.steps,
        )
        problem = print_curve(curve)
        if out is not None:
            plot_rates(curve, out)
            print(f"picture: {out}")
    except (ConfigurationError, OSError) as error:
        sys.exit(f"error: {error}")
    if problem is not None:
        sys.exit(f"error: {problem}")


def check_out(out: Path) -> None:
    """Check before the test, which may take minutes, that its picture can be written.

    Raises:
        ConfigurationError: If it cannot.
    """
    if out.suffix != ".png":
        raise ConfigurationError(f"out={out} must be a png file")
    if not out.parent.is_dir():
        raise ConfigurationError(f"out={out}: there is no folder {out.parent}, make it first")
    if out.is_dir():
        raise ConfigurationError(f"out={out} is a folder, and must be a png file")


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words that are this command's own, and those that are the training's.

    Raises:
        ConfigurationError: If one is a flag.
    """
    if flags := [word for word in words if word.startswith("-")]:
        raise ConfigurationError(
            f"find-lr has no flag {flags[0]}: it makes one test, and takes words such as model=lstm"
        )
    own = [word for word in words if word.partition("=")[0] in OWN]
    return own, [word for word in words if word not in own]


def print_curve(curve: "RateCurve") -> str | None:
    """Print the smoothed loss at some rates, then what is suggested; return why nothing is."""
    losses, last = curve.smoothed, len(curve.rates) - 1
    table = Table("learning rate", "training loss")
    for place in sorted({round(n * last / (SHOWN - 1)) for n in range(SHOWN)} if last > 0 else {0}):
        table.add_row(f"{curve.rates[place]:.2g}", f"{losses[place]:.4f}")
    Console().print(table)
    end = f"; it diverges by {curve.rates[-1]:.2g}" if curve.diverged else ""
    rate = curve.suggestion()
    if rate is None:
        return f"the loss does not fall at any of these rates{end}: try others, or more steps"
    print(f"the loss falls fastest at {rate:.2g} and is lowest at {curve.lowest:.2g}{end}")
    print(f"suggested: optimizer.lr={rate:.2g}")
    return None
