"""Files of tensors are safetensors to others, and nothing else to us."""

import io
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.tensor_files import DTYPES, read_tensors, write_tensors


def some_tensors() -> dict[str, torch.Tensor]:
    found = {f"of {name}": torch.arange(6).reshape(2, 3).to(d) for name, d in DTYPES.items()}
    return {**found, "scalar": torch.tensor(2.5), "empty": torch.empty(0, 4), "x": torch.randn(5)}


def test_others_read_what_we_write(tmp_path):
    tensors, path = some_tensors(), tmp_path / "w.safetensors"
    tensors["transposed"] = torch.randn(3, 4).t()
    with path.open("wb") as file:
        write_tensors(file, tensors, {"format": "pt"})
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name
    ours, metadata = read_tensors(path)
    assert metadata == {"format": "pt"}
    assert all(torch.equal(ours[name], value) for name, value in tensors.items())


def test_we_read_what_others_write(tmp_path):
    tensors = some_tensors()
    save_file(tensors, tmp_path / "w.safetensors", {"made": "by others"})
    found, metadata = read_tensors(tmp_path / "w.safetensors")
    assert metadata == {"made": "by others"}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
    found["x"] += 1  # memory of its own


def test_the_same_numbers_are_the_same_bytes():
    first, second = io.BytesIO(), io.BytesIO()
    tensors = some_tensors()
    write_tensors(first, tensors, {})
    write_tensors(second, dict(reversed(tensors.items())), {})
    assert first.getvalue() == second.getvalue()


def test_a_dtype_that_the_format_lacks_is_refused():
    with pytest.raises(TypeError, match=r"z: safetensors has no torch\.complex128"):
        write_tensors(io.BytesIO(), {"z": torch.zeros(2, dtype=torch.complex128)}, {})


def file_of(header: object, content: bytes, length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + content


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
BROKEN = {
    "empty": b"",
    "header longer than the file": file_of({"x": GOOD}, bytes(8), 2**40),
    "no table": file_of([GOOD], bytes(8)),
    "not JSON": (9).to_bytes(8, "little") + b"{'x': 1} " + bytes(8),
    "an entry that is no table": file_of({"x": 1}, bytes(8)),
    "unknown dtype": file_of({"x": {**GOOD, "dtype": "C64"}}, bytes(8)),
    "dtype of another type": file_of({"x": {**GOOD, "dtype": ["F32"]}}, bytes(8)),
    "negative size": file_of({"x": {**GOOD, "shape": [-2]}}, bytes(8)),
    "a shape of booleans": file_of({"x": {**GOOD, "shape": [True, 2]}}, bytes(8)),
    "larger than its place": file_of({"x": {**GOOD, "shape": [10**12]}}, bytes(8)),
    "two in one place": file_of({"x": GOOD, "y": GOOD}, bytes(8)),
    "a hole": file_of({"x": {**GOOD, "data_offsets": [8, 16]}}, bytes(16)),
    "cut short": file_of({"x": GOOD}, bytes(7)),
    "more behind": file_of({"x": GOOD}, bytes(9)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_anything_else_is_refused(name, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(BROKEN[name])
    with pytest.raises(ConfigurationError, match="damaged or not in safetensors"):
        read_tensors(path)


def test_a_good_one_of_the_same_kind_is_read(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(file_of({"x": GOOD}, bytes(8)))
    assert torch.equal(read_tensors(path)[0]["x"], torch.zeros(2))


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(file_of({"x": GOOD}, bytes(8)))
    (tmp_path / "w.safetensors").symlink_to(tmp_path / "secret")
    with pytest.raises(ConfigurationError, match="is a link"):
        read_tensors(tmp_path / "w.safetensors")
