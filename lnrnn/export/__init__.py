"""Trained modules as files for other programs.

`onnx` needs the packages of ``pip install 'lnrnn[onnx]'``, which it imports when called.
"""

from lnrnn.export.onnx_file import onnx, onnx_translations

__all__ = ["onnx", "onnx_translations"]
