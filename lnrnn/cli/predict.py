"""Let a trained model answer new sequences, from files of any size, in their order.

lnrnn predict run=runs/table_files/rnn_ln-reviews/seed0 files=new.csv
lnrnn predict run=runs/table_files/rnn_ln-reviews/seed0 files='new/*.jsonl' out=predictions.parquet

A line a sequence: file, row, the most probable label, the probability of each. Of tables with a row
a step, a line a step, a series, a window, or a step ahead. New files are read and treated as those
of the training were, which the run has kept. What can be set (conf/predict.yaml):
"""

import sys
from pathlib import Path
from typing import Any

from lnrnn.cli.arguments import read_arguments
from lnrnn.config import CONF
from lnrnn.config.errors import ConfigurationError


def main() -> None:
    """Answer what the command line names."""
    if {"-h", "--help"} & set(sys.argv):
        print(f"{__doc__}\n" + (CONF / "predict.yaml").read_text().partition("_self_\n\n")[2])
        return
    try:
        settings = read_arguments(sys.argv[1:], "predict")
        # Here: what reads files takes seconds to import, which a misspelt key need not.
        from lnrnn.inference import load
        from lnrnn.inference.answer_files import Csv, answer_files, writing

        out = None if settings["out"] is None else Path(settings["out"])
        paths = _found(settings["files"])
        if out is not None and any(out.resolve() == path.resolve() for path in paths):
            raise ConfigurationError(f"out={out} is one of the files to be read")
        if not isinstance(settings["batch_size"], int) or settings["batch_size"] < 1:
            raise ConfigurationError(
                f"batch_size must be a whole number from 1 up, got {settings['batch_size']!r}"
            )
        model = load(settings["run"], weights=settings["weights"], trust=settings["trust"])
        model.check_answers()
        how = {key: _text(settings, key) for key in ("separator", "encoding")}
        batches = answer_files(model, paths, settings["column"], settings["batch_size"], **how)
        if out is None:
            writer = Csv(sys.stdout.buffer)
            for lines in batches:
                writer.write(lines)
            writer.close()
            return
        count = 0
        with writing(out) as writer:
            for lines in batches:
                writer.write(lines)
                count += len(lines)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{count:,} {'answers' if model.preparation.row_a_step else 'sequences'}: {out}")


def _text(settings: dict[str, Any], key: str) -> str | None:
    if not isinstance(settings[key], str | None):
        raise ConfigurationError(f"{key} must be a text, got {settings[key]!r}")
    return settings[key]


def _found(patterns: str | list[str]) -> list[Path]:
    """Return the files that ``files`` names; here the key has no ``data.`` before it."""
    from lnrnn.data.files import find_files

    try:
        return find_files(patterns, "files")
    except (OSError, TypeError, ValueError) as error:
        said = str(error).replace("data.files", "files")
        if isinstance(patterns, str) and patterns[:1] == patterns[-1:] in ("'", '"'):
            said += f". Here quotes are part of the name: leave out {patterns[0]}"
        raise ConfigurationError(said) from error
