"""Language modeling on the user's own text files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from lnrnn.data.checks import check_share
from lnrnn.data.datamodule import DataModule, stream_data
from lnrnn.data.files import find_splits
from lnrnn.data.sequences import Claims
from lnrnn.data.streams import NUM_SYMBOLS

if TYPE_CHECKING:
    import datasets


def text_files(
    *,
    files: str | Sequence[str],
    validation_files: str | Sequence[str] | None = None,
    test_files: str | Sequence[str] | None = None,
    validation: float = 0.05,
    test: float = 0.05,
    num_features: int | None = None,
    num_tokens: int | None = NUM_SYMBOLS,
    num_classes: int | None = NUM_SYMBOLS,
    length: int | None = None,
    batch_size: int = 32,
    window: int = 128,
    num_workers: int = 0,
) -> DataModule:
    """Predict the next byte of your own files, in any encoding.

    Files are documents, read in the order of their names and laid end to end, byte for byte. Where
    validation or test has no file of its own, it is the end of the text: its last part is the test,
    the part before that validation.

    Args:
        files: A path or glob, or a list of them, to learn from.
        validation_files: Files to follow training; None takes a share of the text.
        test_files: Files for the final test; None takes a share of the text.
        validation: That share for validation, of the bytes of ``files``.
        test: That share for the test, of the bytes of ``files``.
        num_features: None; these are symbols.
        num_tokens: 257: the bytes and the padding symbol.
        num_classes: 257; padding is never a target.
        length: None; windows are cut by ``window``.
        batch_size: Streams read side by side, all processes together.
        window: Bytes per stream and batch, through which gradients flow.
        num_workers: Loader processes.

    Raises:
        ValueError: When read: if a file is empty, in two splits, or too short. When constructed: if
            a share is outside (0, 1).
        TypeError: When constructed, if a size is not a whole number or a share is not a
            number. When read, if ``files`` is not a path, a glob or a list of them.
        FileNotFoundError: When read, if a path or glob names no file.
    """
    check_share(validation, "validation")
    check_share(test, "test")
    check_share(validation + test, "validation and test")
    return stream_data(
        partial(_read_text_files, files, validation_files, test_files, validation, test),
        Claims("language_modeling", num_features, num_tokens, num_classes, length),
        batch_size=batch_size,
        window=window,
        num_workers=num_workers,
    )


def _read_text_files(
    files: str | Sequence[str],
    validation_files: str | Sequence[str] | None,
    test_files: str | Sequence[str] | None,
    validation: float,
    test: float,
) -> datasets.DatasetDict:
    import datasets

    # As bytes: the `text` builder of `datasets` would decode, and turn \r\n into \n.
    found = find_splits(files, validation_files, test_files)
    documents = {split: [path.read_bytes() for path in paths] for split, paths in found.items()}
    text = b"".join(documents["train"])
    end = len(text)
    for split, share in (("test", test), ("validation", validation)):
        if split not in documents:
            begin = end - round(share * len(text))
            documents[split], end = [text[begin:end]], begin
    if end < len(text):
        documents["train"] = [text[:end]]
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict({"text": documents[split]})
            for split in ("train", "validation", "test")
        }
    )
