"""When cuDNN is asked to lay the weights out, and with what, on machines without it too."""

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
import torch.backends.cudnn.rnn as cudnn_rnn
from norm_cases import LAYERS, TORCH_LAYERS
from torch import Tensor
from torch.backends import cudnn

import lnrnn
from lnrnn.ops import torch_layers

Call = tuple[list[tuple[int, ...]], *tuple[Any, ...]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Let every tensor pass for one that cuDNN takes, and note what cuDNN would be given."""
    noted: list[Call] = []

    def note(weights: list[Tensor], *settings: Any) -> None:
        noted.append(([tuple(weight.shape) for weight in weights], *settings))

    monkeypatch.setattr(Tensor, "is_cuda", True)
    monkeypatch.setattr(cudnn, "is_acceptable", lambda tensor: tensor.dtype == torch.float32)
    monkeypatch.setattr(cudnn_rnn, "get_cudnn_mode", ["RNN_TANH", "RNN_RELU", "LSTM", "GRU"].index)
    for owner in (torch, torch._VF):  # torch's layers call the one, ours the other
        monkeypatch.setattr(owner, "_use_cudnn_rnn_flatten_weight", lambda: True)
        monkeypatch.setattr(owner, "_cudnn_rnn_flatten_weight", note)
    return noted


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("rnn", {"nonlinearity": "relu"}),
        ("lstm", {"proj_size": 5, "num_layers": 3}),
        ("gru", {"bias": False, "bidirectional": True, "num_layers": 2}),
    ],
)
def test_cudnn_is_given_what_torch_gives_it(cell: str, options: Any, calls: list[Call]) -> None:
    TORCH_LAYERS[cell](3, 7, **options)
    (expected,) = calls
    calls.clear()
    LAYERS[cell](3, 7, **options)
    assert calls == [expected]


def test_weights_are_laid_out_again_whenever_they_move(calls: list[Call]) -> None:
    layer = LAYERS["lstm"](3, 7, 2)
    moves = [
        layer.flatten_parameters,
        lambda: layer.to("cpu"),
        lambda: copy.deepcopy(layer),
        lambda: pickle.loads(pickle.dumps(layer)),
    ]
    for move in moves:
        calls.clear()
        move()
        assert len(calls) == 1


def test_an_output_norm_runs_each_layer_by_itself(calls: list[Call]) -> None:
    LAYERS["gru"](3, 7, 2, norm="output")
    assert [call[0] for call in calls] == [
        [(21, 3), (21, 7), (21,), (21,)],
        [(21, 7), (21, 7), (21,), (21,)],
    ]


def test_what_cudnn_does_not_run_stays_as_it_is(calls: list[Call]) -> None:
    LAYERS["gru"](3, 7, norm="cell")
    LAYERS["gru"](3, 7, dtype=torch.float64)
    layer = LAYERS["gru"](3, 7)
    calls.clear()
    layer.bias_hh_l0 = layer.bias_ih_l0  # two names for one memory
    layer.flatten_parameters()
    assert not calls


@pytest.mark.parametrize("norm", [None, "output"])
def test_no_advice_on_weights_with_zeroed_entries(
    norm: Any, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    run = torch_layers.RECURRENCES["GRU"]

    def advise(*args: Any) -> Any:
        message = "RNN module weights are not part of single contiguous chunk of memory."
        warnings.warn(message, stacklevel=1)
        return run(*args)

    monkeypatch.setitem(torch_layers.RECURRENCES, "GRU", advise)
    layer = lnrnn.GRU(3, 7, norm=norm, weight_drop=0.5)
    monkeypatch.setattr(Tensor, "is_cuda", True)
    layer(torch.randn(4, 2, 3))
    assert not recwarn.list
    layer.eval()(torch.randn(4, 2, 3))
    assert len(recwarn.list) == 1
