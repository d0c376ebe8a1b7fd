"""`make aot-table` prints what the kernels take."""

import pytest
from aot.compiled import KERNELS, SHARED
from aot.table import row


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_row_has_four_numbers_a_gpu(kernel: str) -> None:
    name, dtype, hidden, *cells = (
        cell.strip() for cell in row(kernel, "bf16", 512)[1:-1].split("|")
    )
    assert (name, dtype, hidden) == (kernel, "bf16", "512")
    assert len(cells) == len(SHARED)
    for cell in cells:
        registers, shared, instructions, _barriers = map(int, cell.split())
        assert 16 <= registers <= 255
        assert shared < 1024
        assert instructions > registers
