"""Write layers, cells and models with layers in them as ONNX files.

Dimensions: T time steps, B sequences, I input features, L layers, D directions.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lnrnn.nn.cells import GRUCell, LSTMCell, RNNCell
from lnrnn.nn.stack import Stack

EVERYTHING = 2**31  # constants of any size are folded


def onnx(
    module: nn.Module,
    path: str | os.PathLike[str],
    args: tuple[Any, ...] | None = None,
    *,
    initial_state: bool = False,
    step: bool = False,
    dynamic_shapes: Any = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> None:
    """Write a module as an ONNX file whose batch and time are open.

    Layers and cells of `lnrnn` need nothing else. A layer's file takes ``input``, laid out as the
    layer takes it, and returns ``output``, ``h_n`` and, from an LSTM, ``c_n``; a cell's takes
    ``input``, ``h_0`` (and ``c_0``) and returns ``h_1`` (and ``c_1``). Layers without a norm inside
    the step become ONNX's own RNN, LSTM and GRU, norms inside the step a Scan.

    Args:
        module: What to write, in evaluation mode, in float32 or float64.
        path: The file.
        args: Example arguments, of any batch and time above 1; needed for modules that are not
            layers or cells of `lnrnn`.
        initial_state: Whether a layer's file also takes ``h_0`` (and ``c_0``).
        step: Whether a layer's file takes one step, (B, I), and the state before it, and returns
            the output of that step, and the state after it, so that input may arrive a step at a
            time.
        dynamic_shapes: What is open in ``args``, as `torch.onnx.export` takes it; if None, the
            first two axes of the first argument are, as batch and time.
        input_names: What the inputs of other modules are called.
        output_names: What their outputs are called.

    Raises:
        ValueError: If the module is in training mode, a bidirectional layer is to run step by step,
            or an argument is missing or does not belong to this module.
        TypeError: If ``args`` is not a tuple.
        NotImplementedError: If the module computes in a narrower dtype or under autocast; if no
            kernel computes a layer's norm (`CellNorm`); or if a layer is called with packed input,
            lengths or resets.
        ImportError: If a package is missing.

    Example:
        >>> import lnrnn.export
        >>> layer = lnrnn.LSTM(5, 7, norm="cell").eval()
        >>> lnrnn.export.onnx(layer, "lstm.onnx")  # doctest: +SKIP
    """
    if any(part.training for part in module.modules()):
        raise ValueError(
            "an ONNX file is for inference, and the module is in training mode; call module.eval()"
        )
    _check_numbers(module)
    if args is not None and not isinstance(args, tuple):
        raise TypeError(f"args must be a tuple of arguments, (x,), got {type(args).__name__}")
    given = {"args": args, "dynamic_shapes": dynamic_shapes}
    given |= {"input_names": input_names, "output_names": output_names}
    if isinstance(module, Stack | RNNCell | LSTMCell | GRUCell):
        _check_left_out(module, given)
        whole = isinstance(module, Stack)
        if not whole:
            _check_left_out(module, {"initial_state": initial_state or None, "step": step or None})
        call = _of_layer(module, initial_state, step) if whole else _of_cell(module)
    else:
        _check_left_out(module, {"initial_state": initial_state or None, "step": step or None})
        if args is None:
            raise ValueError(
                f"args are needed: example arguments that say how {type(module).__name__} is called"
            )
        if dynamic_shapes is None:
            dynamic = torch.export.Dim.DYNAMIC
            dynamic_shapes = ({0: dynamic, 1: dynamic}, *(None for _ in args[1:]))
        call = given | {"model": module, "args": args, "dynamic_shapes": dynamic_shapes}
    translations = onnx_translations()
    from onnxscript import optimizer

    with warnings.catch_warnings(), _quiet_registry():
        # That input and states share the batch, which torch reads off them, is meant.
        warnings.filterwarnings("ignore", "# The axis name: .* will not be used", UserWarning)
        try:
            program = torch.onnx.export(
                **call, dynamo=True, custom_translation_table=translations, verbose=False
            )
        except Exception as error:
            # What a layer refuses in one sentence is inside of what torch's exporter says.
            if (refusal := _refusal_in(error)) is not None:
                raise refusal from error
            raise
    assert program is not None
    # Weights come in torch's order and are put in ONNX's by nodes, which quantizers do not expect.
    optimizer.fold_constants(
        program.model, input_size_limit=EVERYTHING, output_size_limit=EVERYTHING
    )
    optimizer.optimize(program.model)
    program.save(path, external_data=False)


@contextmanager
def _quiet_registry() -> Iterator[None]:
    """Keep torch from saying at every export that torchvision, which nothing needs, is missing."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return what `torch.onnx.export` needs to know about the operators of `lnrnn`.

    Example:
        >>> import lnrnn.export
        >>> layer, x = lnrnn.GRU(5, 7, norm="cell").eval(), torch.randn(6, 3, 5)
        >>> table = lnrnn.export.onnx_translations()  # doctest: +SKIP
        >>> torch.onnx.export(layer, (x,), "gru.onnx", dynamo=True,
        ...     custom_translation_table=table)  # doctest: +SKIP

    Raises:
        ImportError: If a package is missing.
    """
    try:
        from lnrnn.export import onnx_nodes
    except ImportError as error:
        raise ImportError(
            f"ONNX files need packages of their own ({error}); pip install 'lnrnn[onnx]'"
        ) from error
    return onnx_nodes.translations()


def _check_numbers(module: nn.Module) -> None:
    """Check that a file can compute what the module does: ONNX has float32 and float64 for it."""
    narrow = {p.dtype for p in module.parameters() if p.is_floating_point()}
    narrow -= {torch.float32, torch.float64}
    devices = {p.device.type for p in module.parameters()}
    cells = (Stack, RNNCell, LSTMCell, GRUCell)
    if not any(isinstance(part, cells) for part in module.modules()):
        return
    if narrow or any(map(torch.is_autocast_enabled, devices)):
        got = ", ".join(map(str, narrow)) or "autocast"
        raise NotImplementedError(
            f"an ONNX file of a recurrent layer computes in float32 or float64, got {got}; export "
            "module.float(), outside of autocast"
        )


def _refusal_in(error: BaseException | None) -> NotImplementedError | None:
    """Return what a layer has refused, if that is what an error of torch's exporter is about."""
    while error is not None:
        if isinstance(error, NotImplementedError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _check_left_out(module: nn.Module, given: dict[str, Any]) -> None:
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise ValueError(
            f"{type(module).__name__} does not take {', '.join(wrong)} here: leave it out. "
            "Examples and names of inputs are for other modules than lnrnn's, which know theirs, "
            "and states and steps for its layers"
        )


def _of_layer(layer: Stack, initial_state: bool, step: bool) -> dict[str, Any]:
    """Return how a layer is exported: example inputs, open axes and names."""
    if step and layer.bidirectional:
        raise ValueError(
            "a bidirectional layer reads each sequence from its end too, which is not there yet "
            "when steps arrive one at a time; take bidirectional=False"
        )
    names = ["h", "c"] if layer.mode == "LSTM" else ["h"]
    time, batch = torch.export.Dim("time"), torch.export.Dim("batch")
    weight = layer.weight_hh_l0
    x = weight.new_zeros(3, 2, layer.input_size)
    axes: dict[int, Any] = {0: time, 1: batch}
    if step:
        x, axes = x[0], {0: batch}
    elif layer.batch_first:
        x, axes = x.transpose(0, 1), {0: batch, 1: time}
    state, state_axes = [], []
    if initial_state or step:
        rows = layer.num_layers * (2 if layer.bidirectional else 1)
        sizes = [layer.proj_size or layer.hidden_size, layer.hidden_size]
        state = [weight.new_zeros(rows, 2, size) for size, _ in zip(sizes, names, strict=False)]
        state_axes = [{1: batch} for _ in names]
    return {
        "model": (_Step if step else _Layer)(layer).eval(),
        "args": (x, *state),
        "dynamic_shapes": (axes, tuple(state_axes)) if state else (axes,),
        "input_names": ["input", *(f"{name}_0" for name in names[: len(state)])],
        "output_names": ["output", *(f"{name}_n" for name in names)],
    }


def _of_cell(cell: nn.Module) -> dict[str, Any]:
    """Return how a cell is exported."""
    assert isinstance(cell, RNNCell | LSTMCell | GRUCell)
    names = ["h", "c"] if isinstance(cell, LSTMCell) else ["h"]
    batch = torch.export.Dim("batch")
    x = cell.weight_hh.new_zeros(2, cell.input_size)
    state = [cell.weight_hh.new_zeros(2, cell.hidden_size) for _ in names]
    return {
        "model": _Cell(cell).eval(),
        "args": (x, *state),
        "dynamic_shapes": ({0: batch}, tuple({0: batch} for _ in names)),
        "input_names": ["input", *(f"{name}_0" for name in names)],
        "output_names": [f"{name}_1" for name in names],
    }


class _Layer(nn.Module):
    """A layer with its states side by side."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, input: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        output, final = self.layer(input, _joined(state))
        return output, *_apart(final)


class _Step(_Layer):
    """A layer over one step, (B, I)."""

    def forward(self, input: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        time = 1 if self.layer.batch_first else 0
        output, *final = super().forward(input.unsqueeze(time), *state)
        return output.squeeze(time), *final


class _Cell(_Layer):
    """A cell with its states side by side."""

    def forward(self, input: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return _apart(self.layer(input, _joined(state)))


def _joined(state: tuple[Tensor, ...]) -> Any:
    return None if not state else state[0] if len(state) == 1 else state


def _apart(state: Any) -> tuple[Tensor, ...]:
    return (state,) if isinstance(state, Tensor) else tuple(state)
