"""docs/cuda.md shows what the kernels take now."""

from pathlib import Path

import pytest
from aot.compiled import KERNELS
from aot.table import row

PAGE = Path(__file__).parents[2] / "docs" / "cuda.md"


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_page_is_up_to_date(kernel: str, dtype: str) -> None:
    expected = row(kernel, dtype, 512)
    assert expected in PAGE.read_text(encoding="utf-8"), "make aot-table makes the table anew"
