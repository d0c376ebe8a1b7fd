"""Masks from counters: Philox by its published answers and once more in NumPy, and what is kept."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from lnrnn import ops
from lnrnn.ops import noise
from lnrnn.ops.noise import keep_mask, philox

# The known answers of the authors' library (Random123, kat_vectors): counter, key, result.
ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), ANSWERS)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], answer: object) -> None:
    words = philox(tuple(torch.tensor([word]) for word in counter), key)
    assert tuple(int(word) for word in words) == answer


def philox_in_numpy(counter: list[NDArray[np.uint64]], seed: int) -> list[NDArray[np.uint64]]:
    """The same in unsigned numbers, whose products are whole."""
    mask, c = np.uint64(0xFFFFFFFF), [np.asarray(word, np.uint64) for word in counter]
    k = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        shift = np.uint64(32)
        c = [
            (p1 >> shift) ^ c[1] ^ np.uint64(k[0]),
            p1 & mask,
            (p0 >> shift) ^ c[3] ^ np.uint64(k[1]),
            p0 & mask,
        ]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


@pytest.mark.parametrize("seed", [0, 1, 2**40 + 12345, 2**63 - 1])
def test_a_mask_is_what_its_definition_says(seed: int) -> None:
    steps, rows, units, purpose = 5, 3, 10, 6
    step, row = torch.arange(steps).unsqueeze(1), torch.tensor([4, 0, 2**31])
    mask = keep_mask(0.3, seed, purpose, step, row, units)
    assert mask.shape == (steps, rows, units)
    for t in range(steps):
        for b in range(rows):
            for u in range(units):
                counter = [np.array([v]) for v in (u // 4, int(row[b]), t, purpose)]
                word = int(philox_in_numpy(counter, seed)[u % 4][0])
                assert bool(mask[t, b, u]) == (word >= round(0.3 * 2**32))


def test_masks_of_other_counters_are_independent() -> None:
    step, row = torch.zeros(1, dtype=torch.int64), torch.arange(1000)
    first = keep_mask(0.25, 7, 0, step, row, 100).float()
    assert first.mean() == pytest.approx(0.75, abs=0.005)  # 100,000 bits: sd 0.0014
    others = [
        keep_mask(0.25, 8, 0, step, row, 100),
        keep_mask(0.25, 7, 1, step, row, 100),
        keep_mask(0.25, 7, 0, step + 1, row, 100),
        keep_mask(0.25, 7, 0, step, row + 1000, 100),
    ]
    for other in others:
        both = torch.stack([first.flatten(), other.float().flatten()])
        assert torch.corrcoef(both)[0, 1].abs() < 0.015  # sd 0.003


def test_what_masks_are_for_has_numbers_of_its_own() -> None:
    purposes = {noise.ZONEOUT, noise.ZONEOUT_C, noise.CANDIDATE, noise.SEEN_STATE}
    assert purposes == {0, 1, 2, 3}


class Largest(TorchDispatchMode):
    """The most bytes that one result of an operation has."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.int64:
            self.size = max(self.size, result.untyped_storage().nbytes())
        return result


def test_chunks_give_the_same_bits_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    step, row = torch.arange(50).unsqueeze(1), torch.arange(8)
    whole = keep_mask(0.4, 5, 3, step, row, 30)
    monkeypatch.setattr(noise, "CHUNK", 900)
    with Largest() as largest:
        assert torch.equal(keep_mask(0.4, 5, 3, step, row, 30), whole)
        assert largest.size <= 8 * 32 * 30
    monkeypatch.setattr(noise, "CHUNK", 1)
    assert torch.equal(keep_mask(0.4, 5, 3, step, row, 30), whole)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"seed": -1}, ValueError, r"seed must be in \[0, 2\*\*63\), got -1"),
        ({"seed": 2**63}, ValueError, r"seed must be in \[0, 2\*\*63\)"),
        ({"seed": 1.0}, TypeError, r"seed must be a whole number, or None, got 1\.0"),
        ({"order": torch.arange(3)}, ValueError, r"order must be \(2,\) of torch.int64, .*\(3,\)"),
        ({"order": torch.zeros(2)}, ValueError, r"got \(2,\) of torch.float32"),
    ],
)
def test_ops_refuse_what_makes_no_masks(given: Any, error: Any, message: str) -> None:
    x, h, w = torch.zeros(4, 2, 28), torch.zeros(2, 7), torch.zeros(28, 7)
    what = noise.Noise(zoneout=0.1, **({"seed": 1} | given))
    for call in (
        lambda: ops.ln_rnn(x[..., :7], h, w[:7], None, joint=False, noise=what),
        lambda: ops.ln_gru(x[..., :21], h, w[:21], None, noise=what),
        lambda: ops.ln_lstm(x, h, h, w, None, noise=what, cell=None),
    ):
        with pytest.raises(error, match=message):
            call()
