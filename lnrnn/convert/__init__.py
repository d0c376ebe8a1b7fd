"""Checkpoints of other people's layer-normalized cells: in, and out again."""

from lnrnn.convert.checkpoints import load, save
from lnrnn.convert.sources import SOURCES

__all__ = ["SOURCES", "load", "save"]
