"""What PyTorch's own tests claim of its recurrent layers (`test/test_nn.py`), claimed of ours.

Claims that another file here makes stand there: packed input and padding (test_layers.py), initial
states and every number (test_torch_parity.py), errors (test_drop_in.py, test_norm.py). What does
not hold on purpose is listed in docs/migrating.md, and so are its tests here.
"""

import copy
from typing import Any

import pytest
import torch
from norm_cases import CELLS, LAYERS, TORCH_LAYERS, run
from numerics import assert_close, assert_equal
from torch import Tensor, nn

import lnrnn

every_cell = pytest.mark.parametrize("cell", list(LAYERS))
every_norm = pytest.mark.parametrize("norm", [None, "output", "cell"])


@every_norm
@pytest.mark.parametrize("p", [0.0, 0.276, 1.0])
@pytest.mark.parametrize("train", [True, False])
def test_dropout_scales_what_it_leaves(norm: Any, p: float, train: bool) -> None:
    """Between two layers of ones, every value of the second is a sum of what is left over."""
    rnn = lnrnn.RNN(10, 1000, 2, bias=False, dropout=p, nonlinearity="relu", norm=None)
    for name in ("weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"):
        rnn.get_parameter(name).data.fill_(1.0 if "ih" in name else 0.0)
    rnn.train(train)
    with torch.no_grad():
        output, hx = rnn(torch.ones(1, 1, 10))
    assert_equal(hx[0], torch.full((1, 1000), 10.0))
    left = 1 - p if train else 1.0
    values = output.unique()
    assert len(values) == 1  # all units of the second layer read the same
    assert abs(values.item() - (10_000 if left else 0)) <= (1500 if 0 < p < 1 and train else 0)
    if norm is not None:  # it may be changed between calls, as in torch
        layer = lnrnn.RNN(10, 20, 2, dropout=0.5, norm=norm)
        layer.dropout = p
        layer.train(train)
        torch.manual_seed(0)
        first = layer(torch.ones(3, 2, 10))[0]
        torch.manual_seed(0 if p in (0.0, 1.0) or not train else 1)
        again = layer(torch.ones(3, 2, 10))[0]
        assert torch.equal(first, again) == (p in (0.0, 1.0) or not train)


@every_cell
@every_norm
def test_a_changed_dropout_acts(cell: str, norm: Any) -> None:
    layer, x = LAYERS[cell](3, 7, 2, dropout=0.0, norm=norm), torch.randn(4, 2, 3)
    truth = run(layer, x)[0]
    assert_equal(run(layer, x)[0], truth)
    layer.dropout = 0.5
    assert not torch.equal(run(layer, x)[0], truth)
    layer.dropout = 0.0
    assert_equal(run(layer, x)[0], truth)


def test_nonlinearity() -> None:
    x = torch.rand(2, 2, 10)
    assert lnrnn.RNN(10, 7).nonlinearity == "tanh"
    assert lnrnn.RNN(10, 7).mode == nn.RNN(10, 7).mode == "RNN_TANH"
    assert lnrnn.RNN(10, 7, nonlinearity="relu").mode == "RNN_RELU"
    assert lnrnn.RNN(10, 7, 1, "relu")(x)[0].min() >= 0
    with pytest.raises(ValueError, match="nonlinearity must be one of"):
        lnrnn.RNN(10, 7, nonlinearity="garbage")


@every_cell
@every_norm
def test_a_retained_graph_gives_the_same_gradients_again(cell: str, norm: Any) -> None:
    layer, x = LAYERS[cell](3, 7, 2, norm=norm), torch.randn(4, 2, 3, requires_grad=True)
    loss = run(layer, x)[0].square().sum()
    loss.backward(retain_graph=True)
    grads = [p.grad.clone() for p in layer.parameters()]
    for _ in range(4):
        layer.zero_grad()
        loss.backward(retain_graph=True)
        for parameter, truth in zip(layer.parameters(), grads, strict=True):
            assert_equal(parameter.grad, truth)
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@every_cell
@every_norm
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_and_their_gradients(cell: str, norm: Any, bias: bool) -> None:
    layer = LAYERS[cell](3, 5, bias=bias, norm=norm, dtype=torch.float64)
    x = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip((n for n, _ in layer.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(layer, named, x)[0]

    assert torch.autograd.gradcheck(function, (x, *layer.parameters()), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x, *layer.parameters()), fast_mode=True)


@every_cell
@every_norm
def test_weight_norm_and_its_removal(cell: str, norm: Any) -> None:
    layer, x = LAYERS[cell](3, 7, norm=norm), torch.randn(4, 2, 3)
    truth = run(layer, x)[0]
    nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    assert_close(run(layer, x)[0], truth, 1e-6)
    with torch.no_grad():
        layer.parametrizations.weight_hh_l0.original0.mul_(2)
    assert not torch.allclose(run(layer, x)[0], truth)
    with torch.no_grad():
        layer.parametrizations.weight_hh_l0.original0.div_(2)
    nn.utils.parametrize.remove_parametrizations(layer, "weight_hh_l0")
    assert_close(run(layer, x)[0], truth, 1e-6)


@every_cell
@every_norm
def test_tied_directions_share_a_gradient(cell: str, norm: Any) -> None:
    layer, x = LAYERS[cell](3, 7, bidirectional=True, norm=norm), torch.randn(4, 2, 3)
    for name, _ in list(layer.named_parameters()):
        if name.endswith("_reverse"):
            setattr(layer, name, layer.get_parameter(name.removesuffix("_reverse")))
    output = run(layer, x)[0]
    run(layer, x)[0].square().sum().backward()
    assert all(not name.endswith("_reverse") for name, _ in layer.named_parameters())
    mirrored = run(layer, x.flip(0))[0].flip(0)
    if norm != "output":
        assert_close(output[..., 7:], mirrored[..., :7], 1e-6)
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    assert layer.weight_hh_l0_reverse is layer.weight_hh_l0
    assert not torch.equal(run(layer, x)[0], output)


@every_cell
def test_dtypes_follow_to_and_double(cell: str) -> None:
    for norm in (None, "output", "cell"):
        layer = LAYERS[cell](3, 7, norm=norm).double()
        assert run(layer, torch.randn(4, 2, 3).double())[0].dtype == torch.float64
        other = copy.deepcopy(layer).to(torch.float32)
        assert run(other, torch.randn(4, 2, 3))[0].dtype == torch.float32


@every_cell
def test_state_that_a_call_puts_out_goes_in_again(cell: str) -> None:
    theirs = TORCH_LAYERS[cell](3, 7, 2, bidirectional=True)
    for norm in (None, "output", "cell"):
        layer = LAYERS[cell](3, 7, 2, bidirectional=True, norm=norm)
        _, hx = layer(torch.randn(4, 2, 3))
        layer(torch.randn(1, 2, 3), hx)
        theirs(torch.randn(1, 2, 3), hx)


@every_cell
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("strided", [True, False])
def test_the_grid_of_torchs_own_comparison(
    cell: str, bias: bool, bidirectional: bool, batch_first: bool, packed: bool, strided: bool
) -> None:
    """Two layers, padded or packed, in one piece or every second value of something larger."""
    settings: dict[str, Any] = {"bias": bias, "bidirectional": bidirectional}
    theirs = TORCH_LAYERS[cell](10, 6, 2, batch_first=batch_first, **settings).double()
    ours = LAYERS[cell](10, 6, 2, batch_first=batch_first, **settings).double()
    ours.load_state_dict(theirs.state_dict())
    directions = 1 + bidirectional
    shape = (6, 7) if batch_first else (7, 6)
    shapes = [(*shape, 10), (2 * directions, 6, 6), (*shape, 6 * directions)]
    x, h, grad = (torch.randn(*shape, 2, dtype=torch.float64)[..., 1] for shape in shapes)
    x, h, grad = (v if strided else v.contiguous() for v in (x, h, grad))
    lengths = torch.tensor([7, 5, 5, 2, 1, 1])

    def results(layer: nn.Module) -> list[Tensor]:
        inputs = [v.detach().requires_grad_() for v in (x, h)]
        given, wanted = inputs[0], grad
        if packed:
            given = nn.utils.rnn.pack_padded_sequence(given, lengths, batch_first)
            wanted = nn.utils.rnn.pack_padded_sequence(grad, lengths, batch_first).data
        hx = (inputs[1], inputs[1] + 1) if cell == "lstm" else inputs[1]
        output, hx = layer(given, hx)
        output = output.data if packed else output
        states = list(hx) if cell == "lstm" else [hx]
        layer.zero_grad()
        weights = [torch.arange(s.numel(), dtype=s.dtype).view_as(s).cos() for s in states]
        torch.autograd.backward([output, *states], [wanted, *weights])
        grads = [p.grad for p in layer.parameters()]
        return [output, *states, *(v.grad for v in inputs if v.grad is not None), *grads]  # pyright: ignore[reportReturnType]

    for found, truth in zip(results(ours), results(theirs), strict=True):
        assert_close(found, truth, 1e-12)


def test_what_docs_migrating_lists_as_different() -> None:
    for cell in ("rnn", "gru"):  # torch: a ValueError, since it takes what comes
        with pytest.raises(TypeError, match="proj_size"):
            LAYERS[cell](3, 7, proj_size=5)
    for sizes in ((0, 7), (3, 0)):
        with pytest.raises(ValueError, match="must be at least 1"):
            lnrnn.LSTM(*sizes)
    for kind in CELLS.values():  # torch's cells take 0 hidden units
        with pytest.raises(ValueError, match="hidden_size must be at least 1"):
            kind(3, 0)
    with pytest.raises(TypeError, match="bias must be True or False, got 0"):
        lnrnn.GRU(3, 7, bias=0)  # pyright: ignore[reportArgumentType]
    assert not isinstance(lnrnn.LSTM(3, 7), nn.LSTM)
    assert not isinstance(CELLS["gru"](3, 7), nn.GRUCell)
