"""Adds the nodes of a step to a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import add_initializer, fresh_name

REDUCE_AXES_INPUT = {"ReduceMax": 18, "ReduceMean": 18, "ReduceSum": 13}
"""The opset from which the axes of a reduction are an operand."""


class Writer:
    """Adds nodes before an anchor; names begin with a prefix.

    Args:
        graph: to add to.
        before: the node before which nodes are inserted; None for the end of the graph.
        prefix: of their names.
    """

    def __init__(self, graph: ir.Graph, before: ir.Node | None, prefix: str) -> None:
        self.graph, self.before, self.prefix = graph, before, prefix
        self.opset = graph.opset_imports.get("", 1)

    def constant(self, array: NDArray[Any] | Sequence[int]) -> ir.Value:
        """A new initializer; a list is INT64."""
        found = np.asarray(array) if isinstance(array, np.ndarray) else np.asarray(array, np.int64)
        return add_initializer(self.graph, fresh_name(self.graph, f"{self.prefix}/constant"), found)

    def several(
        self, op: str, inputs: Sequence[ir.Value], types: Sequence[ir.DataType], **attributes: Any
    ) -> tuple[ir.Value, ...]:
        """The results of a new node, with these types."""
        name = fresh_name(self.graph, f"{self.prefix}/{op}")
        node = ir.node(op, inputs, attributes, num_outputs=len(types), name=name)
        for k, (value, dtype) in enumerate(zip(node.outputs, types, strict=True)):
            value.name, value.dtype = fresh_name(self.graph, f"{name}_output_{k}"), dtype
        if self.before is None:
            self.graph.append(node)
        else:
            self.graph.insert_before(self.before, node)
        return tuple(node.outputs)

    def op(self, op: str, *inputs: ir.Value, dtype: ir.DataType | None = None, **attributes: Any) -> ir.Value:
        """The result of a new node, of the type of its first operand by default."""
        kind = dtype or inputs[0].dtype
        assert kind is not None
        return self.several(op, inputs, [kind], **attributes)[0]

    def reduce(self, op: str, value: ir.Value, axis: int, *, keepdims: bool) -> ir.Value:
        """A reduction along one axis."""
        keep = int(keepdims)
        if self.opset >= REDUCE_AXES_INPUT[op]:
            return self.op(op, value, self.constant([axis]), keepdims=keep)
        return self.op(op, value, axes=[axis], keepdims=keep)

    def reshape(self, value: ir.Value, *shape: int) -> ir.Value:
        """A Reshape; 0 keeps a length, -1 is what is left."""
        return self.op("Reshape", value, self.constant(list(shape)))

    def rows(self, value: ir.Value, positions: NDArray[np.int64]) -> ir.Value:
        """Fixed positions of the token axis."""
        return self.op("Gather", value, self.constant(positions), axis=1)

    def part(self, value: ir.Value, start: int, end: int) -> ir.Value:
        """Positions from ``start`` to before ``end`` of the token axis."""
        return self.op("Slice", value, *map(self.constant, ([start], [end], [1])))

    def pick(self, value: ir.Value, positions: ir.Value) -> ir.Value:
        """Of every sample the tokens at ``positions``, shape (batch, tokens, 1)."""
        return self.op("GatherND", value, positions, batch_dims=1)
