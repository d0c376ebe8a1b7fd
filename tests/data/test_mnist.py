"""MNIST from a folder of IDX files or an archive, made here: the images are not the project's."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lnrnn.data import mnist

PIXELS: dict[str, Any] = {"num_features": 1, "length": 784}


def made() -> dict[str, np.ndarray]:
    """Thirty images to learn from and ten to test, every class in proportion."""
    random = np.random.RandomState(0)
    return {
        "x_train": random.randint(0, 256, (30, 28, 28)).astype(np.uint8),
        "y_train": np.arange(30, dtype=np.uint8) % 10,
        "x_test": random.randint(0, 256, (10, 28, 28)).astype(np.uint8),
        "y_test": np.arange(10, dtype=np.uint8),
    }


def idx(array: np.ndarray) -> bytes:
    header = np.array([0x800 + array.ndim, *array.shape], dtype=">i4").tobytes()
    return header + array.tobytes()


def write_folder(folder: Path, *, dot: str = "-", zipped: bool = False) -> Path:
    arrays = made()
    for name, part in (("train", "train"), ("t10k", "test")):
        for kind, key, axes in (("images", "x", 3), ("labels", "y", 1)):
            path = folder / f"{name}-{kind}{dot}idx{axes}-ubyte{'.gz' if zipped else ''}"
            content = idx(arrays[f"{key}_{part}"])
            path.write_bytes(gzip.compress(content) if zipped else content)
    return folder


def write_archive(path: Path) -> Path:
    np.savez_compressed(path, **made())  # pyright: ignore[reportArgumentType]
    return path


def pixels(split: Any) -> torch.Tensor:
    return (split.values.reshape(len(split), 784) * 255).round().to(torch.uint8)


@pytest.mark.parametrize("way", ["folder", "gz", "dots", "npz"])
def test_every_way_it_is_packed_is_read(way: str, tmp_path: Path) -> None:
    if way == "npz":
        file = write_archive(tmp_path / "mnist.npz")
    else:
        file = write_folder(tmp_path, dot="." if way == "dots" else "-", zipped=way == "gz")
    splits: Any = mnist(file=str(file)).splits
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [25, 5, 10]
    truth = made()
    assert torch.equal(pixels(splits["test"]), torch.from_numpy(truth["x_test"].reshape(10, 784)))
    assert splits["test"].targets.tolist() == truth["y_test"].tolist()
    learned = [*pixels(splits["train"]), *pixels(splits["validation"])]
    everything = sorted(image.numpy().tobytes() for image in learned)
    assert everything == sorted(image.tobytes() for image in truth["x_train"])


def test_the_orders_are_those_of_the_other_digits(tmp_path: Path) -> None:
    file = str(write_archive(tmp_path / "mnist.npz"))
    rows: Any = mnist(file=file).splits["test"]
    one: Any = mnist(file=file, order="pixels", **PIXELS).splits["test"]
    shuffled: Any = mnist(file=file, order="permuted", **PIXELS).splits["test"]
    assert rows.values.shape == (10 * 28, 28)
    assert one.values.shape == shuffled.values.shape == (10 * 784, 1)
    order = torch.from_numpy(np.random.RandomState(0).permutation(784))
    assert torch.equal(pixels(one), pixels(rows))
    assert torch.equal(pixels(shuffled), pixels(rows)[:, order])
    scaling = mnist(file=file).preparation.scaling
    assert scaling is not None
    assert (scaling.mean, scaling.std) == ((0.0,) * 28, (255.0,) * 28)


def test_another_validation_set_is_chosen_by_its_own_seed(tmp_path: Path) -> None:
    file = str(write_archive(tmp_path / "mnist.npz"))
    held: list[Any] = [mnist(file=file, split_seed=s).splits["validation"] for s in (0, 1)]
    assert not torch.equal(pixels(held[0]), pixels(held[1]))
    assert mnist(file=file).fingerprint == mnist(file=file, seed=1).fingerprint


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-labels-idx1-ubyte", b"", "not an IDX file of bytes with 1 axes: it does not begin"),
        ("train-labels-idx1-ubyte", idx(np.zeros((30, 1, 1), np.uint8)), "does not begin as one"),
        ("train-images-idx3-ubyte", idx(made()["x_train"])[:-1], "hold 23520 bytes .* holds 23519"),
        ("train-images-idx3-ubyte", idx(made()["x_train"]) + b"x", "23520 bytes .* holds more"),
        ("t10k-images-idx3-ubyte", idx(made()["x_test"][:9]), r"\(9, 28, 28\) uint8 and \(10,\)"),
        ("t10k-images-idx3-ubyte", idx(np.zeros((10, 8, 8), np.uint8)), r"28 by 28 .*\(10, 8, 8\)"),
        (
            "t10k-images-idx3-ubyte",
            np.array([0x803, 2**30, 2**30, 28], dtype=">i4").tobytes(),
            "its header says",
        ),
    ],
)
def test_files_that_are_not_what_their_names_say(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (write_folder(tmp_path) / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        mnist(file=str(tmp_path)).splits  # noqa: B018


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"needs the four files .* no train-images-idx3"):
        mnist(file=str(tmp_path)).splits  # noqa: B018
    with pytest.raises(FileNotFoundError, match=r"no none.npz in .* data=digits"):
        mnist(file="none.npz").splits  # noqa: B018
    arrays = made()
    del arrays["y_test"]
    np.savez(tmp_path / "part.npz", **arrays)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"npz with the arrays x_train, .*y_test"):
        mnist(file=str(tmp_path / "part.npz")).splits  # noqa: B018
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(ValueError, match=r"must be an .npz"):
        mnist(file=str(tmp_path / "text.npz")).splits  # noqa: B018
    broken = write_folder(tmp_path, zipped=True) / "t10k-labels-idx1-ubyte.gz"
    broken.write_bytes(broken.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte.gz is not an IDX file"):
        mnist(file=str(tmp_path)).splits  # noqa: B018


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": "pixels"}, "784 steps of 1: .* as data=mnist_pixels sets them; got 28 and 28"),
        ({"order": "columns"}, "must be one of rows, pixels, permuted, got 'columns'"),
        ({"validation": 1.0}, "validation share must be between 0 and 1"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mnist(file="none", **settings)
