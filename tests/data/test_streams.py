import pytest
import torch

from lnrnn.data.batch import IGNORED
from lnrnn.data.streams import PADDING, Streams


def windows(streams):
    """Every window as one batch."""
    rows = range(len(streams))
    size = streams.batch_size
    return [streams[list(rows[i : i + size])] for i in range(0, len(streams), size)]


def text(symbols):
    return (torch.arange(symbols) % 251).to(torch.uint8)


@pytest.mark.parametrize("symbols", [25, 26, 31, 60, 97])
def test_training_windows_laid_end_to_end_are_the_text(symbols):
    streams = Streams("train", text(symbols), batch_size=3, window=8, whole=False)
    batches = windows(streams)
    assert all(batch.inputs.shape == batch.targets.shape == (3, 8) for batch in batches)
    assert batches[0].inputs.dtype == batches[0].targets.dtype == torch.int64
    read = torch.cat([batch.inputs for batch in batches], dim=1).flatten()
    targets = torch.cat([batch.targets for batch in batches], dim=1).flatten()
    assert torch.equal(read, text(symbols)[: len(read)].long())
    assert torch.equal(targets, text(symbols)[1 : len(read) + 1].long())
    assert symbols - 1 - len(read) < 3 * 8, "fewer than a batch of windows are dropped"


@pytest.mark.parametrize("symbols", [4, 7, 25, 26, 31, 60, 97])
def test_evaluation_predicts_every_symbol_but_the_first_once(symbols):
    batches = windows(Streams("test", text(symbols), batch_size=3, window=8, whole=True))
    inputs = torch.cat([batch.inputs for batch in batches], dim=1)
    targets = torch.cat([batch.targets for batch in batches], dim=1)
    predicted = targets != IGNORED
    assert torch.equal(targets[predicted], text(symbols)[1:].long())
    assert torch.equal(inputs[predicted], text(symbols)[:-1].long())
    assert (inputs[~predicted] == PADDING).all()
    per_stream = predicted.sum(dim=1)
    assert per_stream.max() - per_stream.min() <= 1
    assert all(batch.targets.ne(IGNORED).any() for batch in batches)


def test_rows_of_a_rank_are_rows_of_the_batch():
    streams = Streams("train", text(100), batch_size=4, window=6, whole=False)
    whole, part = streams[[8, 9, 10, 11]], streams[[10, 11]]
    assert torch.equal(part.inputs, whole.inputs[2:])
    assert torch.equal(part.targets, whole.targets[2:])


@pytest.mark.parametrize(
    ("symbols", "whole", "message"),
    [
        (24, False, r"at least 25: the largest that fits is data.window=7"),
        (3, False, r"largest that fits is data.batch_size=2 data.window=1"),
        (3, True, r"largest that fits is data.batch_size=2 data.window=1"),
        (1, True, r"give a longer text"),
    ],
)
def test_a_text_too_short_says_what_fits(symbols, whole, message):
    with pytest.raises(ValueError, match=message):
        Streams("train", text(symbols), batch_size=3, window=8, whole=whole)


def test_what_is_said_to_fit_fits():
    Streams("train", text(24), batch_size=3, window=7, whole=False)
    Streams("train", text(3), batch_size=2, window=1, whole=False)


@pytest.mark.parametrize(("batch_size", "window"), [(0, 8), (3, 0)])
def test_bad_sizes(batch_size, window):
    with pytest.raises(ValueError, match="at least 1"):
        Streams("train", text(100), batch_size, window, whole=False)
