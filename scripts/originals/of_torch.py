"""Run torchaudio's and NeMo's own cells and write down what they compute.

A program of an environment that has them, for ``scripts/check_originals.py``.
"""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchaudio.models.rnnt import _CustomLSTM  # pyright: ignore[reportMissingImports]

I, H, T, B = 3, 7, 6, 2


def randomized(module: Any) -> Any:
    """Give every parameter numbers that hide no mistake."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    return module.double()


def write(path: Path, module: Any, x: torch.Tensor, output: torch.Tensor, states: Any) -> None:
    """Write a module's parameters, what it read, and what it computed."""
    arrays = {f"state/{name}": value for name, value in module.state_dict().items()}
    for layer, (h, c) in enumerate(states):
        arrays |= {f"h/{layer}": h, f"c/{layer}": c}
    arrays |= {"x": x, "output": output}
    np.savez(path, **{name: value.detach().numpy() for name, value in arrays.items()})


def from_torchaudio(out: Path) -> None:
    """Stack two of torchaudio's, as its LSTMPredictor does."""
    cells = [_CustomLSTM(i, H, layer_norm=True, layer_norm_epsilon=1e-3) for i in (I, H)]
    stack = randomized(torch.nn.ModuleDict({"lstm_layers": torch.nn.ModuleList(cells)}))
    x = output = torch.randn(T, B, I, dtype=torch.float64)
    states = []
    for cell in cells:
        output, state = cell(output, None)
        states.append(state)
    write(out / "torchaudio.npz", stack, x, output, states)


def from_nemo(out: Path, file: Path) -> None:
    """Run NeMo's stack, whose file needs a logger of all that NeMo is."""
    utils: Any = types.ModuleType("nemo.utils")
    utils.logging = types.SimpleNamespace(warning=lambda *_: None)
    sys.modules["nemo.utils"] = utils
    spec = importlib.util.spec_from_file_location("nemo_rnn", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    scripted = module.rnn(I, H, num_layers=2, norm="layer", forget_gate_bias=1.0, dropout=0.0)
    stack = randomized(scripted)
    x = torch.randn(T, B, I, dtype=torch.float64)
    output, states = stack(x, None)
    write(out / "nemo.npz", stack, x, output, states)


if __name__ == "__main__":
    torch.manual_seed(0)
    folder = Path(sys.argv[1])
    packages = Path(np.__file__).parents[1]
    from_torchaudio(folder)
    from_nemo(folder, packages / "nemo/collections/common/parts/rnn.py")
