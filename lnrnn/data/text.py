"""Language modeling on the user's own text files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from lnrnn.data.checks import check_share
from lnrnn.data.datamodule import DataModule, check_streams
from lnrnn.data.files import find_splits
from lnrnn.data.long_text import read_bytes
from lnrnn.data.opening import known_encoding
from lnrnn.data.sequences import Claims
from lnrnn.data.streams import NUM_SYMBOLS, Streams


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
    encoding: str | None = None,
    batch_size: int = 32,
    window: int = 128,
    num_workers: int = 0,
) -> DataModule:
    """Predict the next byte of your own files; packed ones (gz, bz2, xz, zip) are unpacked.

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
        encoding: What the files are in, to be read as UTF-8; None takes their bytes as they are.
        batch_size: Streams read side by side, all processes together.
        window: Bytes per stream and batch, through which gradients flow.
        num_workers: Loader processes.

    Raises:
        ValueError: When read: if a file is empty, in two splits, too short, or no text. When
            constructed: if a share is outside (0, 1).
        TypeError: When constructed, if a size is not a whole number or a share is not a
            number. When read, if ``files`` is not a path, a glob or a list of them.
        FileNotFoundError: When read, if a path or glob names no file.
    """
    check_share(validation, "validation")
    check_share(test, "test")
    check_share(validation + test, "validation and test")
    if encoding is not None:
        known_encoding(str(encoding))
    claims = Claims("language_modeling", num_features, num_tokens, num_classes, length)
    check_streams(claims, window)
    given = (files, validation_files, test_files, validation, test, encoding)
    read = partial(_read_text_files, *given, batch_size, window)
    return DataModule(
        read,
        claims,
        batch_size=batch_size,
        num_workers=num_workers,
        split="the end of the text, or data.test_files, is the test",
    )


def _read_text_files(
    files: str | Sequence[str],
    validation_files: str | Sequence[str] | None,
    test_files: str | Sequence[str] | None,
    validation: float,
    test: float,
    encoding: str | None,
    batch_size: int,
    window: int,
) -> dict[str, Streams]:
    # As bytes: the `text` builder of `datasets` would decode, and turn \r\n into \n.
    found = find_splits(files, validation_files, test_files)
    given = {split: read_bytes(paths, encoding) for split, paths in found.items()}
    texts = {
        split: text if isinstance(text, Tensor) else text.tensor for split, text in given.items()
    }
    whole = texts["train"]
    end = len(whole)
    for split, share in (("test", test), ("validation", validation)):
        if split not in texts:
            begin = end - round(share * len(whole))
            texts[split], end = whole[begin:end], begin
    texts["train"] = whole[:end]
    streams: dict[str, Streams] = {}
    for split in ("train", "validation", "test"):
        source = given.get(split, given["train"])
        release = None if isinstance(source, Tensor) else source.release
        streams[split] = Streams(
            split, texts[split], batch_size, window, whole=split != "train", release=release
        )
    return streams
