"""Batches of recorded, generated and user-supplied sequences.

Generated, recorded and hub data are objects of Hugging Face's `datasets`; the user's tables are
read by pandas and pyarrow, as `datasets` does. All three are imported when data are first read.
"""

from lnrnn.data.batch import IGNORED, NOTHING, Batch
from lnrnn.data.counting import count_classes
from lnrnn.data.datamodule import DataModule, sequence_data, stream_data
from lnrnn.data.embedded import digits, japanese_vowels, shakespeare, sunspots
from lnrnn.data.generated import adding, copying, mnist1d
from lnrnn.data.hub import hub_table, hub_text
from lnrnn.data.mnist import mnist
from lnrnn.data.sequences import Claims
from lnrnn.data.splits import SplitSeed
from lnrnn.data.tables import table_files
from lnrnn.data.text import text_files

__all__ = [
    "IGNORED",
    "NOTHING",
    "Batch",
    "Claims",
    "DataModule",
    "SplitSeed",
    "adding",
    "copying",
    "count_classes",
    "digits",
    "hub_table",
    "hub_text",
    "japanese_vowels",
    "mnist",
    "mnist1d",
    "sequence_data",
    "shakespeare",
    "stream_data",
    "sunspots",
    "table_files",
    "text_files",
]
