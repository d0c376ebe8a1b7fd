"""Test a trained model again, in a new process, from its run's folder. Nothing is written there.

lnrnn evaluate run=runs/japanese_vowels/rnn_ln/seed0
lnrnn evaluate run=runs/japanese_vowels/rnn_ln/seed0 weights=best    the best validation's weights
lnrnn evaluate run=runs/table_files/gru_ln/seed0 data.files=other.csv    on data of the same shape

Of other files every row is tested, and what the model learned from decides what numbers are scaled
by and which label is which. Generated data: data.data_seed=1, data.num_test=5000, data.length=200.
data.batch_size and data.num_workers can be given too.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lnrnn.cli.arguments import check_run
from lnrnn.config.compose import compose_config
from lnrnn.config.errors import ConfigurationError
from lnrnn.config.other_data import split_changes

IN_A_TABLE = 10  # classes
LISTED = 10  # mistakes, of more classes

if TYPE_CHECKING:
    from lnrnn.runs.confusion import ConfusionTable
    from lnrnn.training import Evaluation


def main() -> None:
    """Evaluate the run that the command line names, and print what came out beside the record."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    try:
        overrides, changes = split_changes(sys.argv[1:])
        config = compose_config(overrides, "evaluate")
        check_run(config.run)
        from lnrnn.training import evaluate  # takes seconds, which a misspelt key need not

        evaluation = evaluate(
            Path(str(config.run)), list(config.trust), config.weights, data=changes
        )
    except (ConfigurationError, OSError) as error:
        sys.exit(f"error: {error}")
    print_evaluation(evaluation)


def print_evaluation(evaluation: "Evaluation") -> None:
    """Print the metrics, and beside them what training recorded."""
    table = Table("metric", "now", "recorded", title=escape(str(evaluation.checkpoint)))
    for name, value in evaluation.metrics.items():
        recorded = evaluation.recorded.get(name)
        table.add_row(name, f"{value:.6f}", "-" if recorded is None else f"{recorded:.6f}")
    Console().print(table)
    if evaluation.confusion is not None:
        print_confusion(evaluation.confusion)
    if evaluation.changes:
        said = ", ".join(f"data.{key}={value}" for key, value in evaluation.changes.items())
        words = f"now: {said}; recorded: the run's own test"
        Console().print(words, soft_wrap=True, markup=False, highlight=False)
    if not evaluation.same_data:
        Console().print("warning: the run's data have changed since it was trained")


def print_confusion(table: "ConfusionTable") -> None:
    """Print which class was taken for which: all of it, or of many classes the worst mistakes."""
    mistakes = table.mistakes()
    if len(table.classes) <= IN_A_TABLE:
        names = [escape(name) for name in table.classes]
        shown = Table("right \\ predicted", *names, title="test examples")
        for name, counts in zip(names, table.counts, strict=True):
            shown.add_row(name, *(str(count) if count else "." for count in counts))
        Console().print(shown)
    elif mistakes:
        shown = Table("examples", "right", "predicted", title="the most frequent mistakes")
        for count, right, predicted in mistakes[:LISTED]:
            shown.add_row(str(count), escape(right), escape(predicted))
        Console().print(shown)
