"""What code written for torch.nn's layers finds in ours: attributes, checks, errors, dtypes."""

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from norm_cases import CELLS, LAYERS, TORCH_CELLS, TORCH_LAYERS, randomized, run, states
from numerics import BFLOAT16, assert_close, assert_equal
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import lnrnn
from lnrnn import CellNorm

every_cell = pytest.mark.parametrize("cell", list(LAYERS))
every_norm = pytest.mark.parametrize("norm", [None, "output", "cell"])


def twins(cell: str, norm: Any, **options: Any) -> tuple[Any, Any]:
    """Return our layer and torch's."""
    settings = {"num_layers": 2, "bidirectional": True, **options}
    return LAYERS[cell](3, 7, norm=norm, **settings), TORCH_LAYERS[cell](3, 7, **settings)


def outcome(function: Any, *args: Any) -> tuple[str, str]:
    """Return the kind of torch's error and its words."""
    with pytest.raises((ValueError, RuntimeError)) as caught:
        function(*args)
    return type(caught.value).__name__, str(caught.value)


@every_cell
@every_norm
@pytest.mark.parametrize("bias", [True, False])
def test_weights_are_listed_as_torch_lists_them(cell: str, norm: Any, bias: bool) -> None:
    ours, theirs = twins(cell, norm, bias=bias, **({"proj_size": 5} if cell == "lstm" else {}))
    assert ours._flat_weights_names == theirs._flat_weights_names
    assert ours._all_weights == theirs._all_weights
    for mine, other in zip(ours.all_weights, theirs.all_weights, strict=True):
        assert [w.shape for w in mine] == [w.shape for w in other]
    for name, weight in zip(ours._flat_weights_names, ours._flat_weights, strict=True):
        assert weight is ours.get_parameter(name)
    assert ours.flatten_parameters() is None
    with pytest.raises(AttributeError, match=r"replace the parameters themselves"):
        ours._flat_weights = []
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert [len(each) for each in other.all_weights] == [len(e) for e in theirs.all_weights]


@every_cell
@every_norm
def test_a_replaced_weight_is_used(cell: str, norm: Any) -> None:
    """As weight drop does: the parameter goes, a tensor computed from it takes its name."""
    layer, x = randomized(twins(cell, norm)[0]), torch.randn(4, 2, 3)
    other = copy.deepcopy(layer)
    raw = layer.weight_hh_l0
    del layer.weight_hh_l0
    layer.weight_hh_l0 = 0.5 * raw
    with torch.no_grad():
        other.weight_hh_l0.mul_(0.5)
    assert_equal(layer._flat_weights[1], other.weight_hh_l0)
    assert_equal(run(layer, x)[0], run(other, x)[0])


@every_cell
@pytest.mark.parametrize("batch_first", [False, True])
def test_expected_sizes_are_torchs(cell: str, batch_first: bool) -> None:
    ours, theirs = twins(cell, "cell", batch_first=batch_first)
    x = torch.randn(4, 2, 3)
    packed = pack_padded_sequence(x, torch.tensor([4, 2]), enforce_sorted=False)
    for given in ((x, None), (packed.data, packed.batch_sizes)):
        expected = theirs.get_expected_hidden_size(*given)
        assert ours.get_expected_hidden_size(*given) == expected
        state = torch.randn(expected)
        hidden = (state, state) if cell == "lstm" else state
        ours.check_forward_args(given[0], hidden, given[1])
        order = torch.arange(expected[1]).flip(0)
        mine, other = (f.permute_hidden(hidden, order) for f in (ours, theirs))
        for value, truth in zip(mine, other, strict=True):
            assert_equal(value, truth)
        assert ours.permute_hidden(hidden, None) is hidden
    projected, torchs = (f.LSTM(3, 7, 2, proj_size=5) for f in (lnrnn, nn))
    for name in ("get_expected_hidden_size", "get_expected_cell_size"):
        assert getattr(projected, name)(x, None) == getattr(torchs, name)(x, None)


@every_cell
@every_norm
def test_checks_fail_in_torchs_words(cell: str, norm: Any) -> None:
    ours, theirs = twins(cell, norm)
    x, good, bad = torch.randn(4, 2, 3), torch.randn(4, 2, 7), torch.randn(3, 2, 7)

    def hidden(*parts: Tensor) -> Any:
        return parts if cell == "lstm" else parts[0]

    calls: list[tuple[str, Any]] = [
        ("check_input", (torch.randn(4, 2, 5), None)),
        ("check_input", (x.double(), None)),
        ("check_forward_args", (x, hidden(bad, good), None)),
        ("check_hidden_size", (bad, (4, 2, 7))),
    ]
    if cell == "lstm":
        calls.append(("check_forward_args", (x, (good, bad), None)))
    for name, args in calls:
        kind, words = outcome(getattr(theirs, name), *args)
        mine, found = outcome(getattr(ours, name), *args)
        assert words in found, name
        assert mine in ("ShapeError", kind)


@every_cell
@every_norm
def test_wrong_sizes_raise_what_torch_raises(cell: str, norm: Any) -> None:
    """In torch's words, and so that code that catches either kind of error goes on."""
    ours, theirs = twins(cell, norm)
    x, bad = torch.randn(4, 2, 3), torch.randn(4, 1, 7)
    packed = pack_padded_sequence(torch.randn(4, 2, 5), torch.tensor([4, 2]))
    state = torch.randn(4, 2, 7)
    checked = cell != "lstm"  # torch's LSTM leaves a packed input to the product that fails
    for args in [
        (torch.randn(4, 2, 5),),
        (packed, (state, state) if cell == "lstm" else state),
        (torch.randn(0, 2, 3),),
        (x, (bad, bad) if cell == "lstm" else bad),
    ]:
        kind, words = outcome(theirs, *args)
        assert kind == "RuntimeError"
        for expected in (ValueError, RuntimeError):
            with pytest.raises(expected) as caught:
                ours(*args)
            assert words in str(caught.value) or (args[0] is packed and not checked)
    kind, words = outcome(theirs, torch.randn(3))
    mine, found = outcome(ours, torch.randn(3))
    assert kind == "ValueError"
    assert words.partition(": ")[2].removesuffix(" instead").removesuffix(" tensor") in found
    assert mine == "ShapeError"
    assert outcome(theirs, x.double()) == outcome(ours, x.double())


@every_cell
def test_cells_raise_both_kinds_too(cell: str) -> None:
    bad = torch.randn(1, 7)
    for args in [(torch.randn(2, 5),), (torch.randn(2, 3), (bad, bad) if cell == "lstm" else bad)]:
        for module in (TORCH_CELLS[cell](3, 7), CELLS[cell](3, 7), CELLS[cell](3, 7, norm="cell")):
            with pytest.raises(RuntimeError):
                module(*args)
        with pytest.raises(ValueError, match=r"got"):
            CELLS[cell](3, 7, norm="cell")(*args)


@pytest.mark.parametrize("norm", [None, "output", "cell", CellNorm(cell="state")], ids=str)
def test_states_of_a_narrow_layer_are_narrow(norm: Any) -> None:
    """So an encoder's final states start any decoder."""
    x = torch.randn(5, 2, 3).bfloat16()
    encoder = lnrnn.LSTM(3, 7, norm=norm, dtype=torch.bfloat16)
    output, (h, c) = encoder(x)
    assert {output.dtype, h.dtype, c.dtype} == {torch.bfloat16}
    for decoder in (
        nn.LSTM(3, 7, dtype=torch.bfloat16),
        lnrnn.LSTM(3, 7, dtype=torch.bfloat16),
        lnrnn.LSTM(3, 7, norm="output", dtype=torch.bfloat16),
        lnrnn.LSTM(3, 7, norm="cell", dtype=torch.bfloat16),
    ):
        _, (h_n, c_n) = decoder(x, (h, c))
        assert {h_n.dtype, c_n.dtype} == {torch.bfloat16}
    torch.stack([h, c]).sum().backward()
    bridge = nn.Linear(7, 7, dtype=torch.bfloat16)
    assert bridge(c).dtype == torch.bfloat16
    if norm != "output":
        cell = lnrnn.LSTMCell(3, 7, norm=norm, dtype=torch.bfloat16)
        assert {s.dtype for s in cell(x[0])} == {torch.bfloat16}
        assert {s.dtype for s in cell(x[0], (h[0], c[0]))} == {torch.bfloat16}


def test_a_wide_cell_state_stays_wide() -> None:
    """One that comes in float32 goes out in float32: nothing is lost between two calls."""
    x, c = torch.randn(5, 2, 3).bfloat16(), torch.zeros(1, 2, 7)
    for norm in ("cell", CellNorm(cell=None)):
        layer = lnrnn.LSTM(3, 7, norm=norm, dtype=torch.bfloat16)
        assert layer(x, (c.bfloat16(), c))[1][1].dtype == torch.float32
        cell = lnrnn.LSTMCell(3, 7, norm=norm, dtype=torch.bfloat16)
        assert cell(x[0], (c[0].bfloat16(), c[0]))[1].dtype == torch.float32
        narrow = layer(x)[1][1]
        assert_close(narrow, layer(x, (c.bfloat16(), c))[1][1].bfloat16(), BFLOAT16)


@every_cell
def test_is_recurrent(cell: str) -> None:
    found = [lnrnn.is_recurrent(f(3, 7), cell) for f in (*LAYERS.values(), *TORCH_LAYERS.values())]
    assert found == 2 * [name == cell for name in LAYERS]
    assert lnrnn.is_recurrent(LAYERS[cell](3, 7, norm="cell"))
    assert not isinstance(LAYERS[cell](3, 7), nn.RNNBase)
    for module in (nn.Linear(2, 2), CELLS[cell](3, 7)):
        assert not lnrnn.is_recurrent(module)
    with pytest.raises(ValueError, match="cell must be 'rnn', 'lstm', 'gru' or None, got 'LSTM'"):
        lnrnn.is_recurrent(nn.LSTM(3, 7), "LSTM")


def xavier_else_zeros(module: nn.Module) -> None:
    """Initialize as much code does."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)


@every_cell
@pytest.mark.parametrize("norm", ["output", "cell", CellNorm(inputs="separate")], ids=str)
def test_gains_of_zero_are_warned_of_once(cell: str, norm: Any) -> None:
    layer, x = LAYERS[cell](3, 7, 2, norm=norm), torch.randn(4, 2, 3)
    xavier_else_zeros(layer)
    name = {"output": "gain_out_l0"}.get(norm, "gain_l0" if cell == "rnn" else "gain_ih_l0")
    name = name if isinstance(norm, str) else "gain_ih_l0"
    with pytest.warns(UserWarning, match=rf"every value of {name}, .* is 0") as caught:
        output = layer(x)[0]
    assert caught[0].filename == __file__
    assert (output == 0).all() or cell == "gru"
    layer(x)  # a second warning would be an error
    layer.reset_parameters()
    fresh = copy.deepcopy(layer)
    fresh._gains_seen = False
    fresh(x)
    if norm != "output":
        module = CELLS[cell](3, 7, norm=norm)
        xavier_else_zeros(module)
        with pytest.warns(UserWarning, match="every value of") as caught:
            module(x[0])
        assert caught[0].filename == __file__


def test_gains_of_zero_that_are_meant_are_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lnrnn.LSTM(3, 7, norm=CellNorm(gain_init=0.0))(torch.randn(4, 2, 3))
        layer = lnrnn.LSTM(3, 7, norm="cell")
        xavier_else_zeros(layer)
        with torch.no_grad():
            for name in ("gain_ih_l0", "gain_hh_l0", "gain_c_l0"):
                layer.get_parameter(name)[3] = 1.0  # some are not
        layer(torch.randn(4, 2, 3))
        plain = lnrnn.LSTM(3, 7)
        xavier_else_zeros(plain)
        plain(torch.randn(4, 2, 3))


def test_the_look_at_gains_leaves_no_trace_where_there_are_no_data() -> None:
    layer, x = lnrnn.LSTM(3, 7, norm="cell"), torch.randn(4, 2, 3)
    xavier_else_zeros(layer)
    torch.compile(layer, fullgraph=True, backend="eager")(x)
    torch.func.functional_call(
        layer, {n: torch.ones_like(p) for n, p in layer.named_parameters()}, x
    )
    with pytest.warns(UserWarning, match="every value of"):
        layer(x)
    assert states(layer, 2)[0].shape == (1, 2, 7)


@pytest.mark.parametrize(
    ("state", "got"),
    [
        (torch.zeros(1, 2, 7), "Tensor"),
        ((None, None), "tuple of NoneType, NoneType"),
        ([torch.zeros(1, 2, 7)], "list of Tensor"),
        ((), "an empty tuple"),
    ],
)
def test_a_state_that_is_no_pair_is_described(state, got) -> None:
    with pytest.raises(TypeError, match=rf"pair of tensors \(h_0, c_0\), got {got}$"):
        lnrnn.LSTM(3, 7)(torch.randn(4, 2, 3), state)
