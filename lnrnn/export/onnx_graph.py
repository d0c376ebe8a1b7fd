"""Nodes of an ONNX graph in the making, and a norm made of them.

Dimensions: I input features, G gate entries.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir import convenience

Value = ir.Value


class Nodes:
    """Nodes in the making, of a graph or of the body of a loop.

    Args:
        nodes: Where they go.
        dtype: Of the numbers.
        loops: Numbers for the loops of a file, whose bodies need names that differ.
    """

    def __init__(self, nodes: list[ir.Node], dtype: ir.DataType, loops: Iterator[int]) -> None:
        self.nodes = nodes
        self.dtype = dtype
        self.loops = loops

    def add(self, op: str, *inputs: Value | None, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node and return its output, or a list of several."""
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        node = ir.Node(
            "", op, given, convenience.convert_attributes(attributes), num_outputs=outputs
        )
        self.nodes.append(node)
        return node.outputs[0] if outputs == 1 else list(node.outputs)

    def number(self, value: float) -> Value:
        """Add a constant of the numbers' dtype."""
        return self.add("Constant", value=ir.tensor(np.array(value, self.dtype.numpy())))

    def whole(self, *values: int) -> Value:
        """Add a constant list of whole numbers."""
        return self.add("Constant", value=ir.tensor(np.array(values, np.int64)))

    def split(self, value: Value, widths: Sequence[int]) -> list[Value]:
        """Split the last axis."""
        if len(widths) == 1:
            return [value]
        return self.add("Split", value, self.whole(*widths), outputs=len(widths), axis=-1)

    def parts(self, constant: Value, widths: Sequence[int], axis: int = 0) -> list[Value]:
        """Cut a parameter up, each part by a node of its own, which can be computed ahead."""
        if len(widths) == 1:
            return [constant]
        edges = np.cumsum([0, *widths]).tolist()
        return [
            self.add("Slice", constant, self.whole(low), self.whole(high), self.whole(axis))
            for low, high in itertools.pairwise(edges)
        ]

    def joined(self, parts: Sequence[Value], axis: int = -1) -> Value:
        """Concatenate."""
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=axis)

    def product(self, x: Value, weight: Value) -> Value:
        """Return ``x`` times a weight of torch's layout, (G, I)."""
        return self.add("MatMul", x, weight)

    def transposed(self, weight: Value | None) -> Any:
        """Return a weight as `product` takes it, (I, G)."""
        return None if weight is None else self.add("Transpose", weight, perm=[1, 0])

    def sum(self, *values: Value | None) -> Value:
        """Add up what is there."""
        total, *rest = [value for value in values if value is not None]
        for value in rest:
            total = self.add("Add", total, value)
        return total


class Norm(NamedTuple):
    """A norm whose gains and shifts have been split into its spans.

    Attributes:
        widths: Sizes of the spans.
        gains: One a span.
        shifts: One a span, or None.
        centered: Whether the mean is taken away.
        eps: Added inside the root.
    """

    widths: list[int]
    gains: list[Value]
    shifts: list[Value] | None
    centered: bool
    eps: float

    @classmethod
    def of(
        cls, at: Nodes, gain: Value, shift: Value | None, widths: list[int], given: dict[str, Any]
    ) -> "Norm":
        """Split the gain and the shift of a norm."""
        shifts = None if shift is None else at.parts(shift, widths)
        return cls(widths, at.parts(gain, widths), shifts, given["centered"], given["eps"])

    def __call__(self, at: Nodes, value: Value) -> Value:
        """Normalize (..., G)."""
        shifts = self.shifts or [None] * len(self.widths)
        spans = zip(at.split(value, self.widths), self.gains, shifts, strict=True)
        return at.joined([self._span(at, *span) for span in spans])

    def _span(self, at: Nodes, value: Value, gain: Value, shift: Value | None) -> Value:
        if self.centered:
            return at.add("LayerNormalization", value, gain, shift, axis=-1, epsilon=self.eps)
        square = at.add("Mul", value, value)
        mean = at.add("ReduceMean", square, at.whole(-1), keepdims=1)
        root = at.add("Sqrt", at.add("Add", mean, at.number(self.eps)))
        return at.sum(at.add("Mul", at.add("Div", value, root), gain), shift)
