"""Comparing runs by their records: what differs, by how much, and how sure one can be.

This package reads the files that runs leave behind. It knows no model and trains nothing.
"""

from lnrnn.comparison.files import write
from lnrnn.comparison.records import RecordError, Run, Unreadable, read_run, read_runs
from lnrnn.comparison.report import compare
from lnrnn.comparison.terminal import print_table
from lnrnn.comparison.tuning import choose_rates

__all__ = [
    "RecordError",
    "Run",
    "Unreadable",
    "choose_rates",
    "compare",
    "print_table",
    "read_run",
    "read_runs",
    "write",
]
