"""New constants and small nodes for the channels-first form of a node; a constant that is shared stays shared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.graph import Names, add_initializer, add_node, constant, input_at, int64_initializer, is_op
from edgeprune.passes.layout.order import Order


class Edits:
    """Edits of one graph for one order of axes."""

    def __init__(self, order: Order, names: Names) -> None:
        self.order, self.names = order, names
        self._turned: dict[ir.Value, ir.Value] = {}
        self._kernels: dict[ir.Value, ir.Value] = {}

    def constant(self, node: ir.Node, index: int) -> None:
        """Replace a constant input that is broadcast or joined by its channels-first form."""
        value = node.inputs[index]
        assert value is not None
        assert node.graph is not None
        if value not in self._turned:
            array = constant(value)
            assert array is not None
            turned = np.ascontiguousarray(self.order.array(array))
            self._turned[value] = add_initializer(node.graph, self.names.fresh(f"{value.name}__nchw"), turned)
        node.replace_input_with(index, self._turned[value])

    def kernel(self, node: ir.Node, index: int) -> None:
        """Replace a constant matrix (inputs, outputs) by the kernel (outputs, inputs, 1, ...) of a convolution."""
        value = node.inputs[index]
        array = constant(value)
        assert value is not None
        assert array is not None
        assert node.graph is not None
        if value not in self._kernels:
            kernel = np.ascontiguousarray(array.T).reshape(*array.T.shape, *[1] * (self.order.rank - 2))
            self._kernels[value] = add_initializer(node.graph, self.names.fresh(f"{value.name}__kernel"), kernel)
        node.replace_input_with(index, self._kernels[value])

    def integers(self, node: ir.Node, index: int, entries: Sequence[int] | int, what: str) -> None:
        """Give a node new integers, such as axes, of the type of the old ones; an input that was absent is added."""
        assert node.graph is not None
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        # The axes of a Slice have the type of its starts.
        old = node.inputs[index] or (node.inputs[1] if is_op(node, "Slice") else None)
        dtype = ir.DataType.INT64 if old is None or old.dtype is None else old.dtype
        array = np.asarray(entries, dtype.numpy())
        node.replace_input_with(index, add_initializer(node.graph, self.names.fresh(f"{node.name}_{what}"), array))

    def vector(self, node: ir.Node, index: int) -> None:
        """Reorder an input with one entry for each axis, constant or computed, or with two: all starts, all ends."""
        value = input_at(node, index)
        array = constant(value)
        assert value is not None
        assert node.graph is not None
        if array is not None:
            turned = np.concatenate([half[list(self.order.to_first)] for half in array.reshape(-1, self.order.rank)])
            name = self.names.fresh(f"{node.name}_by_axis")
            node.replace_input_with(index, add_initializer(node.graph, name, turned))
            return
        order = int64_initializer(node, f"{node.name}_order", self.order.to_first, self.names)
        turned_value = add_node(node, "Gather", [value, order], self.names, name=f"{node.name}_by_axis", like=value)
        node.replace_input_with(index, turned_value)
