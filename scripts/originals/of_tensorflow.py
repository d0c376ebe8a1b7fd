"""Run TensorFlow Addons' own cells and write down what they compute.

A program of an environment that has them, for ``scripts/check_originals.py``.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf  # pyright: ignore[reportMissingImports, reportMissingModuleSource]
import tensorflow_addons as tfa  # pyright: ignore[reportMissingImports]

I, H, T, B = 3, 7, 6, 2


def run(cells: Any, out: Path, folder: Path) -> None:
    """Run cells on top of one another; their parameters go through a checkpoint."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(T, B, I))
    layer = tf.keras.layers.RNN(cells, return_sequences=True, time_major=True, dtype="float64")
    layer(x)
    layer.set_weights([0.5 * draw.normal(size=w.shape) for w in layer.weights])
    path = tf.train.Checkpoint(layer).save(str(folder / "checkpoint"))
    reader = tf.train.load_checkpoint(path)
    arrays = {
        f"state/{name}": reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if "cell" in name
    }
    np.savez(out, x=x, output=layer(x).numpy(), **arrays)


if __name__ == "__main__":
    tf.keras.backend.set_floatx("float64")
    folder = Path(sys.argv[1])
    lstms = [tfa.rnn.LayerNormLSTMCell(H, dtype="float64") for _ in range(2)]
    run(lstms, folder / "tfa_lstm.npz", folder)
    simple = tfa.rnn.LayerNormSimpleRNNCell(H, dtype="float64")
    run(simple, folder / "tfa_rnn.npz", folder)
