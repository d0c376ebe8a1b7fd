from itertools import chain

import pytest

from lnrnn.data.sampler import GlobalBatches


def shares(size, batch_size, world_size, **kwargs):
    """All ranks' shares, batch by batch."""
    samplers = [
        GlobalBatches(size, batch_size, rank=rank, world_size=world_size, **kwargs)
        for rank in range(world_size)
    ]
    return list(zip(*samplers, strict=True))


@pytest.mark.parametrize("shuffle_seed", [None, 3])
@pytest.mark.parametrize(("size", "batch_size"), [(243, 16), (64, 16), (7, 100), (33, 16)])
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_the_batches_of_one_process(size, batch_size, world_size, shuffle_seed):
    alone = list(GlobalBatches(size, batch_size, shuffle_seed=shuffle_seed, epoch=5))
    together = shares(size, batch_size, world_size, shuffle_seed=shuffle_seed, epoch=5)
    assert [list(chain(*parts)) for parts in together] == alone
    assert sorted(chain(*alone)) == list(range(size))
    for parts in together:
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= 1


def test_all_batches_are_full_but_the_last_two():
    sizes = [len(batch) for batch in GlobalBatches(243, 16, shuffle_seed=None)]
    assert sizes == [16] * 14 + [10, 9]
    assert [len(batch) for batch in GlobalBatches(48, 16, shuffle_seed=None)] == [16] * 3


def test_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        return list(chain(*GlobalBatches(40, 7, shuffle_seed=seed, epoch=epoch)))

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)
    assert order(0, 1) != list(range(40))


def test_start_skips_batches_of_its_own_epoch_only():
    whole = GlobalBatches(50, 8, shuffle_seed=1, epoch=2)
    resumed = GlobalBatches(50, 8, shuffle_seed=1, epoch=2, start=3)
    assert list(resumed) == list(whole)[3:]
    assert list(resumed) == list(whole)[3:], "a second look must not change where it starts"
    assert len(resumed) == len(whole) == 7
    resumed.set_epoch(2)
    assert list(resumed) == list(whole)[3:]
    resumed.set_epoch(3)
    whole.set_epoch(3)
    assert list(resumed) == list(whole)


def test_a_rank_without_examples_is_an_error():
    with pytest.raises(ValueError, match="leave a batch of 3 for 4 processes"):
        GlobalBatches(3, 16, shuffle_seed=None, world_size=4)
    with pytest.raises(ValueError, match="at least 1"):
        GlobalBatches(3, 0, shuffle_seed=None)
