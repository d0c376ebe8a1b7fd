"""norm=None is torch.nn bit for bit; norm="output" is torch.nn followed by nn.LayerNorm."""

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from norm_cases import LAYERS, TORCH_LAYERS, randomized, run, states
from numerics import assert_equal, cotangents
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

INPUT_SIZE, HIDDEN_SIZE, STEPS, LENGTHS = 3, 7, 6, [4, 6, 1]

# A cell and what only it takes.
VARIANTS = {
    "rnn": ("rnn", {}),
    "rnn-relu": ("rnn", {"nonlinearity": "relu"}),
    "lstm": ("lstm", {}),
    "lstm-proj": ("lstm", {"proj_size": 5}),
    "gru": ("gru", {}),
}
FORMS = ("padded", "sorted", "unsorted", "unbatched")

every_variant = pytest.mark.parametrize(("cell", "options"), list(VARIANTS.values()), ids=VARIANTS)


def make_input(form: str, batch_first: bool) -> tuple[Any, Tensor, int | None]:
    """Return the input as the layer takes it, the leaf it was made of, and its batch size."""
    if form == "unbatched":
        leaf = torch.randn(STEPS, INPUT_SIZE, requires_grad=True)
        return leaf, leaf, None
    sizes = (len(LENGTHS), STEPS) if batch_first else (STEPS, len(LENGTHS))
    leaf = torch.randn(*sizes, INPUT_SIZE, requires_grad=True)
    if form == "padded":
        return leaf, leaf, len(LENGTHS)
    lengths = sorted(LENGTHS, reverse=True) if form == "sorted" else LENGTHS
    packed = pack_padded_sequence(
        leaf, torch.tensor(lengths), batch_first, enforce_sorted=form == "sorted"
    )
    return packed, leaf, len(LENGTHS)


def results_and_grads(layer: Any, form: str, given: bool, seed: int) -> list[Tensor]:
    """Return output, states and every gradient of a layer, on input drawn from ``seed``."""
    torch.manual_seed(seed)
    x, leaf, batch = make_input(form, layer.batch_first)
    state = tuple(s.requires_grad_() for s in states(layer, batch)) if given else None
    output, *final = run(layer, x, state)
    if isinstance(output, PackedSequence):
        assert isinstance(x, PackedSequence)
        for ours, theirs in zip(output[1:], x[1:], strict=True):
            assert ours is theirs
        output = output.data
    results = [output, *final]
    leaves = [leaf, *(state or ()), *layer.parameters()]
    return [*results, *torch.autograd.grad(results, leaves, cotangents(results))]


@every_variant
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", [False, True], ids=["zeros", "given"])
def test_without_a_norm_equals_torch(
    cell: str, options: dict[str, Any], form: str, given: bool
) -> None:
    for num_layers, bidirectional, batch_first, bias in product(
        (1, 3), (False, True), (False, True), (True, False)
    ):
        settings = {"bidirectional": bidirectional, "batch_first": batch_first, "bias": bias}
        settings |= options
        ours = randomized(LAYERS[cell](INPUT_SIZE, HIDDEN_SIZE, num_layers, **settings))
        theirs = TORCH_LAYERS[cell](INPUT_SIZE, HIDDEN_SIZE, num_layers, **settings)
        theirs.load_state_dict(ours.state_dict())
        expected = results_and_grads(theirs, form, given, seed=1)
        for value, truth in zip(results_and_grads(ours, form, given, 1), expected, strict=True):
            assert_equal(value, truth, name=str(settings))


@every_variant
def test_dropout_without_a_norm_equals_torch(cell: str, options: dict[str, Any]) -> None:
    ours = LAYERS[cell](INPUT_SIZE, HIDDEN_SIZE, 3, dropout=0.4, **options)
    theirs = TORCH_LAYERS[cell](INPUT_SIZE, HIDDEN_SIZE, 3, dropout=0.4, **options)
    theirs.load_state_dict(ours.state_dict())
    expected = results_and_grads(theirs, "padded", True, seed=1)
    for value, truth in zip(results_and_grads(ours, "padded", True, 1), expected, strict=True):
        assert_equal(value, truth)
    x = torch.randn(STEPS, 2, INPUT_SIZE)
    assert_equal(run(ours.eval(), x)[0], run(theirs.eval(), x)[0])


@every_variant
@pytest.mark.parametrize("norm", [None, "output", "cell"])
def test_equal_seeds_draw_what_torch_draws(
    cell: str, options: dict[str, Any], norm: str | None
) -> None:
    torch.manual_seed(3)
    settings = {"num_layers": 2, "bidirectional": True, **options}
    theirs = TORCH_LAYERS[cell](INPUT_SIZE, HIDDEN_SIZE, **settings)
    after_theirs = torch.rand(1)
    torch.manual_seed(3)
    ours = LAYERS[cell](INPUT_SIZE, HIDDEN_SIZE, **settings, norm=norm)
    assert_equal(torch.rand(1), after_theirs, "the next draw")
    names = [name for name, _ in ours.named_parameters() if name.startswith(("weight", "bias"))]
    assert names == [name for name, _ in theirs.named_parameters()]
    for name, parameter in theirs.named_parameters():
        assert_equal(ours.get_parameter(name), parameter, name)
    for name, parameter in ours.named_parameters():
        if name not in names:
            assert (parameter == (1 if name.startswith("gain") else 0)).all(), name


class TorchThenNorm(nn.Module):
    """What a user writes by hand: torch's layer, nn.LayerNorm, dropout, and the next."""

    def __init__(self, cell: str, layer: Any, options: dict[str, Any]) -> None:
        super().__init__()
        self.layer, self.dropout = layer, layer.dropout
        directions = 2 if layer.bidirectional else 1
        width = directions * (layer.proj_size or HIDDEN_SIZE)
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        for k in range(layer.num_layers):
            one = TORCH_LAYERS[cell](
                width if k else INPUT_SIZE,
                HIDDEN_SIZE,
                bidirectional=layer.bidirectional,
                **options,
            )
            for name, parameter in one.named_parameters():
                parameter.data.copy_(layer.get_parameter(name.replace("_l0", f"_l{k}")))
            norm = nn.LayerNorm(width, eps=layer.eps)
            norm.weight.data.copy_(layer.get_parameter(f"gain_out_l{k}"))
            norm.bias.data.copy_(layer.get_parameter(f"shift_out_l{k}"))
            self.layers.append(one)
            self.norms.append(norm)

    def forward(self, x: Any, state: tuple[Tensor, ...]) -> tuple[Any, list[Tensor]]:
        if not isinstance(x, PackedSequence) or x.sorted_indices is None:
            return self._sorted(x, state)
        # Sorted once for all layers, as torch's own stack does it: a state that is sorted by itself
        # lies elsewhere in memory, and on some CPUs products round by how their rows are aligned.
        plain = PackedSequence(x.data, x.batch_sizes)
        output, final = self._sorted(plain, tuple(s[:, x.sorted_indices] for s in state))
        return PackedSequence(output.data, *x[1:]), [s[:, x.unsorted_indices] for s in final]

    def _sorted(self, x: Any, state: tuple[Tensor, ...]) -> tuple[Any, list[Tensor]]:
        rows, final = len(state[0]) // len(self.layers), []
        for k, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            if k:
                x = on_data(lambda v: F.dropout(v, self.dropout), x)
            x, *last = run(layer, x, tuple(s[k * rows : (k + 1) * rows] for s in state))
            x = on_data(norm, x)
            final.append(last)
        return x, [torch.cat(s) for s in zip(*final, strict=True)]


def on_data(function: Any, x: Any) -> Any:
    """Apply a function to a tensor or to what a packed sequence holds."""
    if isinstance(x, PackedSequence):
        return PackedSequence(function(x.data), *x[1:])
    return function(x)


@every_variant
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "both-ways"])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_output_norm_equals_torch_then_layer_norm(
    cell: str, options: dict[str, Any], form: str, bidirectional: bool, num_layers: int
) -> None:
    dropout = 0.4 if num_layers > 1 else 0.0
    ours = LAYERS[cell](
        INPUT_SIZE,
        HIDDEN_SIZE,
        num_layers,
        bidirectional=bidirectional,
        dropout=dropout,
        norm="output",
        eps=1e-3,
        **options,
    )
    theirs = TorchThenNorm(cell, randomized(ours), options)
    x, leaf, batch = make_input(form, batch_first=False)
    state = states(ours, batch)
    torch.manual_seed(2)
    output, *final = run(ours, x, state)
    torch.manual_seed(2)
    expected, expected_final = theirs(x, state)
    if isinstance(output, PackedSequence):
        output, expected = output.data, expected.data
    assert_equal(output, expected, "output")
    for value, truth in zip(final, expected_final, strict=True):
        assert_equal(value, truth, "final state")
    (cotangent,) = cotangents([output])
    # Both graphs begin with the packing, which therefore has to be kept.
    (grad,) = torch.autograd.grad(output, leaf, cotangent, retain_graph=True)
    assert_equal(grad, torch.autograd.grad(expected, leaf, cotangent)[0], "gradient")


@pytest.mark.parametrize("cell", LAYERS)
def test_state_dicts_go_to_torch_and_back(cell: str) -> None:
    ours = LAYERS[cell](INPUT_SIZE, HIDDEN_SIZE, 2, bidirectional=True)
    theirs = TORCH_LAYERS[cell](INPUT_SIZE, HIDDEN_SIZE, 2, bidirectional=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize("norm", ["output", "cell"])
def test_torch_state_dicts_lack_gains_and_shifts_only(cell: str, norm: str) -> None:
    ours = LAYERS[cell](INPUT_SIZE, HIDDEN_SIZE, 2, bidirectional=True, norm=norm)
    theirs = TORCH_LAYERS[cell](INPUT_SIZE, HIDDEN_SIZE, 2, bidirectional=True)
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not unexpected
    assert missing
    assert all(name.startswith(("gain_", "shift_")) for name in missing)
    for name, parameter in theirs.named_parameters():
        assert_equal(ours.get_parameter(name), parameter, name)


def test_parameter_names_are_those_of_the_design() -> None:
    def affine(cell: str, **options: Any) -> list[str]:
        layer = LAYERS[cell](INPUT_SIZE, HIDDEN_SIZE, **options)
        names = (name for name, _ in layer.named_parameters())
        return [name for name in names if name.startswith(("gain", "shift"))]

    assert affine("rnn", norm="cell") == ["gain_l0"]
    assert affine("gru", norm="cell") == ["gain_ih_l0", "shift_ih_l0", "gain_hh_l0"]
    assert affine("lstm", norm="cell")[3:] == ["gain_c_l0", "shift_c_l0"]
    assert affine("lstm", norm="output", num_layers=2, bidirectional=True) == [
        "gain_out_l0",
        "shift_out_l0",
        "gain_out_l1",
        "shift_out_l1",
    ]
