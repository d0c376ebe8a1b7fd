"""norm="cell" against the equations: every variant, and layers and directions stacked."""

import pytest
import torch
from norm_cases import FEW, Case, every_case, states
from twin_layers import assert_equals_twin

CASES = list(every_case())


def test_no_variant_is_missing() -> None:
    # inputs * span * kind * bias: RNN twice (cell) and twice (nonlinearity), LSTM three times
    # (cell) and twice (projection), GRU twice (cell) and never joint.
    assert len(CASES) == 3 * 3 * 2 * 2 * 4 + 3 * 3 * 2 * 2 * 6 + 2 * 3 * 2 * 2 * 2


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_variant_equals_the_twin(case: Case) -> None:
    layer = case.layer()
    x = torch.randn(4, 2, layer.input_size, dtype=torch.float64)
    assert_equals_twin(case, layer, x, states(layer, 2))


@pytest.mark.parametrize("case", FEW, ids=str)
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "both-ways"])
def test_stacks_equal_the_twin(case: Case, bidirectional: bool) -> None:
    layer = case.layer(num_layers=3, bidirectional=bidirectional)
    x = torch.randn(5, 2, layer.input_size, dtype=torch.float64)
    assert_equals_twin(case, layer, x, states(layer, 2))


@pytest.mark.parametrize("case", FEW, ids=str)
@pytest.mark.parametrize("eps", [1e-8, 1e-1])
def test_eps_counts_where_the_variance_is_small(case: Case, eps: float) -> None:
    layer = case.layer(eps=eps)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.startswith(("weight", "bias")):
                parameter.mul_(1e-2)
    x = torch.randn(4, 2, layer.input_size, dtype=torch.float64)
    assert_equals_twin(case, layer, x, states(layer, 2))
