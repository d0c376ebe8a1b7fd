"""Tensors by name in one file, in the format of safetensors: nothing in it can be code.

Eight bytes with the header's length, a header in JSON that says each tensor's dtype, shape and
place, then the numbers. Nothing is compressed, so no file grows when it is read.

Reference:
    https://huggingface.co/docs/safetensors
"""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import torch
from torch import Tensor

from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.files import open_own
from lnrnn.runs.record import RecordError, parse_json

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
LARGEST_HEADER = 100_000_000  # bytes, as the format's own reader has it
METADATA = "__metadata__"


def write_tensors(
    file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write tensors, the same bytes for the same numbers.

    Args:
        file: Where to.
        tensors: By name. Two that share their numbers are written twice.
        metadata: What else the header says, texts by name.

    Raises:
        TypeError: If a tensor has a dtype that the format does not know.
        OSError: If the file cannot be written.
    """
    header: dict[str, Any] = {METADATA: dict(metadata)}
    end = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        if tensor.dtype not in _NAMES:
            raise TypeError(f"{name}: safetensors has no {tensor.dtype}")
        begin, end = end, end + tensor.numel() * tensor.element_size()
        entry = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape)}
        header[name] = {**entry, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in sorted(tensors):
        plain = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        file.write(plain.numpy().tobytes())


def unwritable(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors with a dtype that the format does not know, each with it."""
    unknown = {name: t.dtype for name, t in tensors.items() if t.dtype not in _NAMES}
    return [f"{name} ({dtype})" for name, dtype in unknown.items()]


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file of tensors.

    Args:
        path: The file; a link is not followed.

    Returns:
        The tensors by name, each with memory of its own, and the texts of the header.

    Raises:
        ConfigurationError: If there is no such file, or it is not what the format allows: its
            tensors must fill it, one after the other, and nothing else.
    """
    try:
        with open_own(path) as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(size - 8, LARGEST_HEADER):
                raise RecordError("its header has no length that fits")
            header = parse_json(file.read(length), path.name)
            places = dict(_places(header, size - 8 - length))
            tensors = {name: _read(file, *place) for name, place in places.items()}
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path}: there is no such file of weights") from error
    except (OSError, RecordError) as error:
        raise ConfigurationError(f"{path} is damaged or not in safetensors: {error}") from error
    return tensors, _texts(header)


def _places(header: Any, size: int) -> Iterator[tuple[str, tuple[torch.dtype, list[int], int]]]:
    """Yield each tensor's name, and its dtype, shape and bytes, in the order of the file."""
    if not isinstance(header, dict):
        raise RecordError("its header is no table")
    entries = {name: entry for name, entry in header.items() if name != METADATA}
    found = []
    for name, entry in entries.items():
        entry = entry if isinstance(entry, dict) else {}
        dtype, shape, place = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise RecordError(f"{name!r} has the dtype {dtype!r}")
        if not _are_sizes(shape) or not _are_sizes(place) or len(place) != 2:
            raise RecordError(f"{name!r} has no shape and place")
        if place[1] - place[0] != math.prod(shape) * DTYPES[dtype].itemsize:
            raise RecordError(f"{name!r} has another size than its shape says")
        found.append((place, name, dtype, shape))
    end = 0
    for place, name, dtype, shape in sorted(found):
        if place[0] != end:
            raise RecordError(f"{name!r} does not begin where the one before it ends")
        end = place[1]
        yield name, (DTYPES[dtype], shape, place[1] - place[0])
    if end != size:
        raise RecordError(f"its tensors are {end} bytes, and the file has {size} for them")


def _are_sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(n) is int and 0 <= n <= sys.maxsize for n in value)


def _read(file: BinaryIO, dtype: torch.dtype, shape: list[int], size: int) -> Tensor:
    content = bytearray(file.read(size))
    if len(content) != size:
        raise RecordError("it was cut short")
    plain = torch.frombuffer(content, dtype=torch.uint8) if size else torch.empty(0).byte()
    return plain.view(dtype).reshape(shape)


def _texts(header: Any) -> dict[str, str]:
    content = header.get(METADATA) or {}
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, str)}
