"""What tests of ops get: uninitialized memory that shows, and a choice of products."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from chosen_products import choose
from torch import Tensor


@pytest.fixture(autouse=True)
def nan_filled_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill what torch.empty and its kin return with NaN, so that no unwritten value passes.

    Fresh memory is often zero by luck.
    """

    def filled(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def make_filled(*args: object, **kwargs: object) -> Tensor:
            tensor = make(*args, **kwargs)
            return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor

        return make_filled

    for owner, name in [
        (torch, "empty"),
        (torch, "empty_like"),
        (torch, "empty_strided"),
        (Tensor, "new_empty"),
        (Tensor, "new_empty_strided"),
    ]:
        monkeypatch.setattr(owner, name, filled(getattr(owner, name)))


@pytest.fixture
def nan_filled_memory() -> Iterator[None]:
    """Make C++ too fill what it allocates with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Return what tells kernels which products to take; None leaves it to them."""
    return partial(choose, put=monkeypatch.setattr)


@pytest.fixture
def narrow(products: Callable[[str | None], None]) -> Callable[[str | None], None]:
    """Return the same where torch has products of bfloat16, which are taken at first."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("torch multiplies bfloat16 with sums in float32 on AVX-512 and AMX alone")
    products("bfloat16")
    return products
