"""Run the comparisons of an experiment, and print their tables as docs/results.md has them.

python scripts/results.py lstm_norms                     the runs that are missing, then the tables
python scripts/results.py sizes --only '1 layer'         of one comparison, or of several
python scripts/results.py                                which experiments there are

An experiment is a file in experiments/: a question, what was decided before its first run, and the
arguments of each comparison. Stop it any way you like: the same command resumes.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
Cells = Sequence[str]


def load(name: str) -> dict[str, Any]:
    """Return the experiment ``name``; end with the names there are if there is none."""
    path = EXPERIMENTS / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(path.stem for path in EXPERIMENTS.glob("*.yaml")))
        sys.exit(f"error: there is no experiment {name}. There are: {known}")
    return yaml.safe_load(path.read_text())


def arguments_of(comparison: Mapping[str, Any]) -> list[str]:
    """Return what ``lnrnn compare`` takes, with the models of experiments/conf."""
    return [*comparison["arguments"], f"hydra.searchpath=[file://{EXPERIMENTS / 'conf'}]"]


def result_of(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the ``compare.json`` that a comparison wrote, below the current folder."""
    from lnrnn.study.plan import compared_runs, result_folder
    from lnrnn.study.settings import read_settings

    settings = read_settings(arguments)
    first = next(iter(compared_runs(replace(settings, seeds=1), {}).values()))[0]
    return json.loads((result_folder(settings, first) / "compare.json").read_text())


def table(result: Mapping[str, Any]) -> str:
    """Return a comparison as a Markdown table; bold marks what is supported."""
    metric = result["metric"].replace("_", " ")
    columns = ["arm", "rate", f"test {metric}", "minus the first [95 %]", "Holm p"]
    columns += [f"mean validation {metric} over training", "minus the first [95 %]", "Holm p"]
    columns += ["speed-up to 90 %", "octaves of rates"]
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in _rows(result)]
    return "\n".join(lines)


def _rows(result: Mapping[str, Any]) -> Iterator[Cells]:
    rates = {arm["name"]: arm for arm in (result["tuning"] or {"arms": []})["arms"]}
    for arm, pair in zip(result["arms"], [None, *result["pairs"]], strict=True):
        rate = rates.get(arm["name"])
        octaves = rate and rate["octaves_within_5_percent"]
        yield [
            f"`{arm['name']}`",
            f"{rate['best']:g}" if rate and rate["best"] is not None else "",
            *_outcome(arm, pair),
            *_outcome(arm["validation_mean"], pair and pair["validation_difference"]),
            _speed_up(pair),
            "" if octaves is None else f"{octaves:.1f}",
        ]


def _outcome(spread: Mapping[str, Any], pair: Mapping[str, Any] | None) -> Cells:
    """Return the mean with its standard deviation, the difference, and its p-value."""
    if spread["mean"] is None:
        return ["-", "", ""]
    digits = 4
    deviation = "" if spread["sd"] is None else f" ± {spread['sd']:.{digits}f}"
    mean = f"{spread['mean']:.{digits}f}"
    if pair is None or pair["difference"] is None:
        return [f"{mean}{deviation}", "", ""]
    mean = f"**{mean}**" if pair["supported"] else mean
    low, high = pair["interval"] or (None, None)
    interval = "" if low is None else f" [{low:+.{digits}f}, {high:+.{digits}f}]"
    p = "" if pair["p_holm"] is None else f"{pair['p_holm']:.4f}"
    return [f"{mean}{deviation}", f"{pair['difference']:+.{digits}f}{interval}", p]


def _speed_up(pair: Mapping[str, Any] | None) -> str:
    """Return the speed-up in steps to 90 % of the baseline's improvement."""
    rung = next((rung for rung in pair["speed"] if rung["share"] == 0.9), None) if pair else None
    if rung is None:
        return ""
    entry = rung["steps"]
    if entry["ratio"] is None:
        return "-"
    low, high = entry["interval"] or (None, None)
    bounds = [f"{end:.2f}" if end is not None else open for end, open in ((low, "0"), (high, "∞"))]
    ratio = f"{entry['ratio']:.2f}{'*' if entry['censored'] else ''}"
    return f"{f'**{ratio}**' if entry['supported'] else ratio} [{', '.join(bounds)}]"


def chosen(experiment: Mapping[str, Any], titles: Sequence[str]) -> list[dict[str, Any]]:
    """Return the comparisons with ``titles``, or all; end with a list if there is none such."""
    comparisons = {comparison["title"]: comparison for comparison in experiment["comparisons"]}
    if unknown := sorted(set(titles) - comparisons.keys()):
        known = "; ".join(comparisons)
        sys.exit(f"error: there is no comparison {', '.join(unknown)}. There are: {known}")
    return [comparisons[title] for title in titles or comparisons]


def run(comparison: Mapping[str, Any]) -> None:
    """Make the runs of a comparison that are missing, and print its table."""
    arguments = arguments_of(comparison)
    command = [sys.executable, "-m", "lnrnn", "compare", *arguments]
    code = subprocess.run(command, stdout=sys.stderr, check=False).returncode
    if code:
        sys.exit(code)
    print(f"\n## {comparison['title']}\n\n{table(result_of(arguments))}\n", flush=True)


def main() -> None:
    """Run and print the experiments that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="an experiment")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TITLE",
        help="one comparison of it, again for more",
    )
    options = parser.parse_args()
    if options.only and len(options.names) != 1:
        parser.error(f"--only chooses from one experiment, and {len(options.names)} are named")
    if not options.names:
        parser.print_usage()
        for path in sorted(EXPERIMENTS.glob("*.yaml")):
            print(f"{path.stem}: {load(path.stem)['question']}")
    for name in options.names:
        for comparison in chosen(load(name), options.only):
            run(comparison)


if __name__ == "__main__":
    main()
