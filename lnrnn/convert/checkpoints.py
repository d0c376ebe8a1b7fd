"""Read another library's parameters into a layer, and write a layer's parameters for it.

Dimensions: I input features, H hidden units, R features of the hidden state.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor

from lnrnn.convert.sources import SOURCES, Source
from lnrnn.convert.translations import Tensors
from lnrnn.nn.direction import Direction, affine_shapes
from lnrnn.nn.norm import CellNorm
from lnrnn.nn.presets import presets
from lnrnn.nn.recurrent import GRU, LSTM, RNN
from lnrnn.ops.gates import GATES
from lnrnn.ops.reference import norm_widths

Layer = RNN | LSTM | GRU
LAYERS: dict[str, type[Layer]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


def load(
    source: str,
    state_dict: Mapping[str, Any],
    *,
    prefix: str = "",
    eps: float | None = None,
    batch_first: bool = False,
    dropout: float = 0.0,
) -> Layer:
    """Build a layer from the parameters of another library's layer-normalized cell.

    Gate orders, transposes and merged biases are taken care of; layers and directions are found by
    the source's own names. What the source lacks is held at zero, as its preset says.

    Args:
        source: Whose they are: "fastrnns", "nemo", "torchaudio", "icefall_lstm", "icefall_gru",
            "haste_lstm", "haste_gru", "tfa_lstm", "tfa_rnn", "tf_contrib", "supercell"
            or "lingvo_simple".
        state_dict: Its parameters by its own names: tensors or NumPy arrays, of one dtype.
        prefix: What the names of this layer's parameters begin with in ``state_dict``; others are
            left alone.
        eps: The eps of its norms, if it is not the source's usual one; a state dict does not say.
        batch_first: Whether the layer takes (B, T, I) rather than (T, B, I).
        dropout: Probability of dropping a value between layers.

    Returns:
        A `lnrnn.RNN`, `lnrnn.LSTM` or `lnrnn.GRU` that computes what the source's does, with the
        dtype and on the device of its parameters.

    Raises:
        KeyError: If the source is unknown.
        ValueError: If a key is missing, unexpected or of another shape, dtypes differ, or the
            source has no usual eps and none is given.
        TypeError: If something in ``state_dict`` is not an array.

    Example:
        >>> from lnrnn import LSTM
        >>> lstm = LSTM.from_preset("haste_lstm", 10, 20)
        >>> state = save("haste_lstm", lstm)
        >>> {name: tuple(value.shape) for name, value in state.items()}["kernel"]
        (10, 80)
        >>> torch.equal(load("haste_lstm", state).weight_hh_l0, lstm.weight_hh_l0)
        True
    """
    form = _form(source)
    if not isinstance(state_dict, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"state_dict must map names to tensors, got {type(state_dict).__name__}; take "
            "module.state_dict(), or torch.load(path, weights_only=True)"
        )
    preset = presets[form.preset]
    if eps is None and form.eps == "unknown":
        raise ValueError(
            f"{source} has no usual eps, and a state dict does not say which was trained with; "
            f"pass eps=..., {preset.eps:g} if its layer was built without one"
        )
    given = {
        name.removeprefix(prefix): _tensor(name, value)
        for name, value in state_dict.items()
        if name.startswith(prefix)
    }
    places, ending = _places(form, given, source, prefix)
    given = {name.removesuffix(ending): value for name, value in given.items()}
    present = _present(form, given, places)
    _check_names(given, places, present, source, prefix)
    directions = len(places[0])
    sizes: dict[str, int] = {}
    parameters: dict[str, Tensor] = {}
    for layer, row in enumerate(places):
        known = {} if layer == 0 else {**sizes, "I": directions * sizes["R"]}
        for place, end in zip(row, ("", "_reverse"), strict=False):
            found = {key: given[place + key] for key in present}
            known = _sizes(form, found, known, prefix + place)
            ours = form.read(found)
            parameters |= {f"{name}_l{layer}{end}": value for name, value in ours.items()}
        sizes = known if layer == 0 else sizes
    options: dict[str, Any] = {"batch_first": batch_first, "dropout": dropout}
    if directions == 2:
        options["bidirectional"] = True
    if "weight_hr_l0" in parameters:
        options["proj_size"] = sizes["R"]
    lacking = ("bias_ih", "bias_hh", "shift_ih")  # what a source may have or not
    zeros = tuple(z for z in lacking if f"{z}_l0" not in parameters and _has(preset, z))
    changed = dataclasses.replace(preset, zeros=zeros, eps=preset.eps if eps is None else eps)
    first = parameters["weight_hh_l0"]
    made = LAYERS[preset.cell].from_preset(
        *(changed, sizes["I"], sizes["H"], len(places)),
        dtype=first.dtype,
        device=first.device,
        **options,
    )
    with torch.no_grad():
        for name, value in parameters.items():
            made.get_parameter(name).copy_(value)
    return made


def save(source: str, layer: Layer, *, prefix: str = "") -> dict[str, Tensor]:
    """Return a layer's parameters as another library's state dict.

    Args:
        source: For whom, as in `load`.
        layer: What to write.
        prefix: Put before every name.

    Returns:
        Copies of the parameters by the source's names, in its order and shape. A bias that the
        layer lacks is written as zeros.

    Raises:
        KeyError: If the source is unknown.
        TypeError: If ``layer`` is none of the three layers.
        ValueError: If the source's cell does not compute what the layer does, or cannot be written.
    """
    form = _form(source)
    if not isinstance(layer, RNN | LSTM | GRU):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"save writes an RNN, LSTM or GRU of lnrnn, got {type(layer).__name__}")
    if isinstance(form.write, str):
        raise ValueError(f"{source} can be read and not be written: {form.write}")
    _check_function(form, layer, source)
    fitting = [
        layout
        for layout in form.layouts
        if (layer.num_layers == 1 or "{layer}" in layout)
        and ("{direction}" in layout) == layer.bidirectional
    ]
    if not fitting:
        raise ValueError(f"{source} has no bidirectional layer, and this one is")
    written: dict[str, Tensor] = {}
    for number in range(layer.num_layers):
        for way, end in enumerate(("", "_reverse")[: 1 + layer.bidirectional]):
            place = prefix + fitting[0].format(layer=number, direction=way)
            theirs = form.write(_ours(layer, f"_l{number}{end}"))
            for key in form.shapes:
                if key in theirs:
                    written[place + key + form.endings[0]] = theirs[key].clone().contiguous()
    return written


def _form(source: str) -> Source:
    if not isinstance(source, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"source must be a name, got {type(source).__name__}: load(name, state_dict)"
        )
    if source not in SOURCES:
        close = difflib.get_close_matches(str(source), SOURCES, cutoff=0.5)
        hint = f"close to it: {', '.join(close)}; " if close else ""
        every = ", ".join(SOURCES)
        raise KeyError(f"no checkpoints are known from {source!r}; {hint}there are: {every}")
    return SOURCES[source]


def _tensor(name: str, value: Any) -> Tensor:
    try:
        return value.detach() if isinstance(value, Tensor) else torch.tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = (
            f"{type(value).__name__} of {value.dtype}"
            if hasattr(value, "dtype")
            else type(value).__name__
        )
        raise TypeError(
            "a state dict holds tensors, or arrays of a dtype and byte order that torch has, got "
            f"{kind} for {name!r}"
        ) from error


def _places(form: Source, given: Tensors, source: str, prefix: str) -> tuple[list[list[str]], str]:
    """Return what is before the keys of each direction of each layer, and what is behind them."""
    first = next(iter(form.shapes))
    for layout, ending in product(form.layouts, form.endings):
        anchor = first + ending
        ways = range(2 if "{direction}" in layout else 1)
        places: list[list[str]] = []
        while layout.format(layer=len(places), direction=0) + anchor in given:
            places.append([layout.format(layer=len(places), direction=way) for way in ways])
            if "{layer}" not in layout:
                break
        if places:
            return places, ending
    looked = ", ".join(
        repr(prefix + layout.format(layer=0, direction=0) + first + form.endings[0])
        for layout in form.layouts
    )
    raise ValueError(
        f"{source}'s state dict has one of {looked}, and none of them is here; prefix says what "
        f"stands before, got {prefix!r}, and the keys {_some(given, prefix)}"
    )


def _present(form: Source, given: Tensors, places: list[list[str]]) -> list[str]:
    """Return the keys that each direction must have: all but the optional ones that are absent."""
    first = places[0][0]
    absent = {
        key
        for group in form.optional
        if not any(first + key in given for key in group)
        for key in group
    }
    return [key for key in form.shapes if key not in absent]


def _check_names(
    given: Tensors,
    places: list[list[str]],
    present: list[str],
    source: str,
    prefix: str,
) -> None:
    """Check that every key is there, none is left over, and all have one floating dtype."""
    expected = [place + key for row in places for place in row for key in present]
    missing = {name: None for name in expected if name not in given}
    unexpected = {name: None for name in given if name not in set(expected)}
    if missing or unexpected:
        parts = [f"missing {_some(missing, prefix)}"] if missing else []
        parts += [f"unexpected {_some(unexpected, prefix)}"] if unexpected else []
        raise ValueError(
            f"the state dict is not one of {source} with {len(places)} layer(s): "
            + "; ".join(parts)
        )
    dtypes = {str(given[name].dtype) for name in expected}
    if len(dtypes) > 1 or not given[expected[0]].is_floating_point():
        raise ValueError(
            f"the parameters need one floating dtype between them, got {', '.join(sorted(dtypes))}"
        )


def _sizes(form: Source, found: Tensors, known: dict[str, int], place: str) -> dict[str, int]:
    """Return I, H and R, learned from the shapes, which must agree with one another."""
    known = dict(known)
    for key, tensor in found.items():
        dims = form.shapes[key].split()
        if len(dims) == tensor.dim():
            for dim, size in zip(dims, tensor.shape, strict=True):
                _learn(dim, size, known)
        wanted = [_size(dim, known) for dim in dims]
        if wanted != list(tensor.shape):
            raise ValueError(
                f"{place}{key} must be ({', '.join(dims)})"
                + (f" = {tuple(wanted)}" if None not in wanted else "")
                + f" with {', '.join(f'{n} = {v}' for n, v in sorted(known.items())) or 'H'}, "
                f"got {tuple(tensor.shape)}"
            )
    known.setdefault("R", known["H"])
    if "weight_hr" not in found and known["R"] != known["H"]:
        raise ValueError(
            f"{place}weight_hh reads {known['R']} features of {known['H']} hidden units, so there "
            "must be a weight_hr, and there is none"
        )
    return known


def _learn(dim: str, size: int, known: dict[str, int]) -> None:
    """Learn the one size in a sum such as "4H" or "I+H" that is not known yet."""
    terms = [(int(factor or 1), name) for factor, name in re.findall(r"(\d*)([A-Z])", dim)]
    unknown = [term for term in terms if term[1] not in known]
    if len(unknown) == 1:
        rest = size - sum(factor * known[name] for factor, name in terms if name in known)
        factor, name = unknown[0]
        if rest > 0 and rest % factor == 0:
            known[name] = rest // factor


def _size(dim: str, known: dict[str, int]) -> int | None:
    """Return what a sum such as "4H", "I+H" or "2" comes to, or None if a size is not known."""
    total = 0
    for term in dim.split("+"):
        name = term.lstrip("0123456789")
        factor = int(term[: len(term) - len(name)] or 1)
        if name and name not in known:
            return None
        total += factor * (known[name] if name else 1)
    return total


def _has(preset: Any, name: str) -> bool:
    """Return whether a preset's layer has a parameter; the biases always are there."""
    return name.startswith("bias") or name in affine_shapes(preset.norm, preset.cell, 1)


def _check_function(form: Source, layer: Layer, source: str) -> None:
    """Check that the source's cell computes what the layer does.

    Raises:
        ValueError: If it does not, with the first difference.
    """
    preset = presets[form.preset]
    norm = layer.norm if isinstance(layer.norm, CellNorm) else CellNorm()
    mine = f"{type(layer).__name__} with norm={layer.norm!r}"
    if layer._cell != preset.cell or layer.norm in (None, "output"):
        raise ValueError(f"{source} is {_described(preset)}, got {mine}")
    if _settings(norm, preset.cell) != _settings(preset.norm, preset.cell):
        raise ValueError(f"{source} is {_described(preset)}, got {mine}")
    if form.eps == "constant" and layer.eps != preset.eps:
        raise ValueError(f"{source}'s eps is always {preset.eps:g}, and the layer's is {layer.eps}")
    if layer.proj_size and "weight_hr" not in form.shapes:
        raise ValueError(f"{source} projects no hidden state, got proj_size={layer.proj_size}")
    if getattr(layer, "nonlinearity", "tanh") != "tanh":
        raise ValueError(f"{source} applies tanh, got nonlinearity={layer.nonlinearity!r}")
    _check_zoneout(form, layer, source)
    for name, value in layer.named_parameters():
        if name.split("_l")[0] in preset.zeros and value.detach().any():
            raise ValueError(
                f"{source} has nothing for {name}, which would have to be zero; build the layer "
                f"with from_preset({preset.name!r}, ...), which holds it there"
            )


def _check_zoneout(form: Source, layer: Layer, source: str) -> None:
    """Check that what a layer does in evaluation too is there in the source's cell."""
    has = ("zoneout",) if form.zoneout else ()
    for name in ("zoneout", "zoneout_c"):
        value = getattr(layer.regularizers, name)
        if value and name not in has:
            raise ValueError(
                f"{source} has no {name}, which acts in evaluation too, got {name}={value}; if its "
                "parameters are wanted without it, load the layer's state dict into one without "
                f"{name} and save that"
            )


def _described(preset: Any) -> str:
    return f"{preset.cell.upper()} with norm={preset.norm!r} (preset {preset.name!r})"


def _settings(norm: CellNorm, cell: str) -> tuple[Any, ...]:
    """Return what a norm does in a cell, whatever words it was asked for in."""
    spans = norm_widths(norm.span, len(GATES[cell]), 1)
    of_lstm = (norm.cell, norm.cell_clip) if cell == "lstm" else None
    return norm.is_joint(cell), norm.sides(cell), spans, of_lstm, norm.kind


def _ours(layer: Layer, suffix: str) -> dict[str, Tensor]:
    """Return one direction's parameters by name, biases that it lacks as zeros."""
    named = Direction.of(layer, suffix)._asdict()
    zeros = torch.zeros_like(named["weight_ih"][:, 0])
    for bias in ("bias_ih", "bias_hh"):
        if named[bias] is None:
            named[bias] = zeros
    return {name: value.detach() for name, value in named.items() if value is not None}


def _some(names: Mapping[str, Any], prefix: str, most: int = 8) -> str:
    """Return names for a message, and how many more there are."""
    shown = ", ".join(repr(prefix + name) for name in list(names)[:most])
    more = len(names) - most
    return (shown or "none") + (f" and {more} more" if more > 0 else "")
