"""Lengths that the graph reads at run time with ``Shape``, and the operands that use them.

A length that is only used by an operand that a repair rewrites (a Reshape target) ties nothing. A length that becomes a
value, such as the square root of a head's width, would change with pruning: its axis is frozen.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.dependency.dims import NodeView
from edgeprune.dependency.groups import Freeze
from edgeprune.dependency.relations import Relations
from edgeprune.errors import RuleError
from edgeprune.graph import ONNX_DOMAINS, constant_target, dim_keys, static_shape

Source = frozenset[int]
"""The factors that one element of a small integer tensor was computed from."""

_NOTHING: Source = frozenset()
_ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Min", "Max", "Mod", "Neg", "Abs", "Floor", "Ceil", "Round", "Identity", "Cast"}
    | {"Where", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Not", "And", "Or"}
)
_LIMIT = 64
"""Longer tensors are not shapes."""


class ShapeFlow:
    """Follows run-time lengths element by element through shape arithmetic."""

    def __init__(self, rels: Relations) -> None:
        self.rels = rels
        self.sources: dict[str, np.ndarray] = {}

    def visit(self, node: ir.Node) -> bool:
        """Follow a node of pure shape arithmetic; False for other nodes."""
        if node.domain not in ONNX_DOMAINS:
            return False
        try:
            found = self._shape(node) if node.op_type in ("Shape", "Size") else self._arithmetic(node)
        except (RuleError, ValueError, IndexError):
            return False
        if found is None or found.size > _LIMIT:
            return False
        value = node.outputs[0]
        if value.shape is not None and list(found.shape) != [d if isinstance(d, int) else -1 for d in value.shape.dims]:
            return False
        self.sources[value.name or ""] = found
        for taken in (value, *(v for v in node.inputs if v is not None and v.const_value is not None)):
            self.rels.freeze_value(taken, Freeze("run-time lengths", node.name))
        return True

    def consume(self, index: int, node: ir.Node) -> None:
        """Freeze the axes of the lengths that a node reads, except in operands that its repair rewrites."""
        rel = self.rels.rels.get(index)
        rewritten = rel.shape_inputs if rel is not None else ()
        why = Freeze(f"its length is used by {node.op_type}", node.name)
        for k, value in enumerate(node.inputs):
            if k not in rewritten:
                self.read(value, why)
            elif node.op_type in ("Reshape", "Expand"):
                self._read_computed(value, node, why)

    def _read_computed(self, value: ir.Value | None, node: ir.Node, why: Freeze) -> None:
        """Freeze the axes of the lengths in elements of a target that the repair does not write down."""
        dims = dim_keys(node.outputs[0])
        if value is None or value.name not in self.sources or dims is None:
            return
        if node.op_type == "Reshape" and constant_target(dim_keys(node.inputs[0]) or (), dims) is not None:
            return
        elements = self.sources[value.name].reshape(-1)
        offset = len(dims) - len(elements)
        for k, element in enumerate(elements):
            if not isinstance(dims[k + offset], int):
                for factor in element:
                    self.rels.freeze(factor, why)

    def read(self, value: ir.Value | None, why: Freeze) -> None:
        """Freeze the axes of the lengths in a value."""
        if value is not None and value.name in self.sources:
            for source in self.sources[value.name].reshape(-1):
                for factor in source:
                    self.rels.freeze(factor, why)

    def _shape(self, node: ir.Node) -> np.ndarray | None:
        value = node.inputs[0]
        axes = self.rels.axes.get(value.name or "") if value is not None else None
        if axes is None:
            return None
        if node.op_type == "Size":
            return _array([frozenset(axes)], ())
        view = NodeView(node, 0)
        chosen = axes[slice(view.attr("start", 0), view.attr("end"))]
        return _array([frozenset((f,)) for f in chosen], (len(chosen),))

    def _arithmetic(self, node: ir.Node) -> np.ndarray | None:
        if len(node.outputs) != 1 or not any(v is not None and v.name in self.sources for v in node.inputs):
            return None
        view = NodeView(node, 0)
        if node.op_type in _ELEMENTWISE:
            operands = [self._of(v) for v in node.inputs if v is not None]
            result = np.broadcast_arrays(*operands)
            out: np.ndarray = result[0].copy()
            for other in result[1:]:
                out = _merge(out, other)
            return out
        data = self._of(node.inputs[0])
        if node.op_type == "Concat":
            parts = [self._of(v) for v in node.inputs if v is not None]
            joined: np.ndarray = np.concatenate(parts, axis=view.attr("axis", 0))
            return joined
        if node.op_type == "Gather":
            index = view.const(1)
            return None if index is None else np.asarray(np.take(data, index, axis=view.attr("axis", 0)), dtype=object)
        if node.op_type == "Slice":
            starts, ends = view.attr("starts") or view.ints(1), view.attr("ends") or view.ints(2)
            step = view.ints(4) if view.has(4) else [1]
            single = len(starts) == 1 and data.ndim == 1
            return np.asarray(data[starts[0] : ends[0] : step[0]], dtype=object) if single else None
        shape = static_shape(node.outputs[0])
        if shape is not None and node.op_type in ("Squeeze", "Unsqueeze", "Reshape"):
            return data.reshape(shape)
        if shape is not None and node.op_type in ("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin"):
            every = frozenset().union(*data.reshape(-1))
            return _array([every] * int(np.prod(shape)), shape)
        return None

    def _of(self, value: ir.Value | None) -> np.ndarray:
        """The sources of a value's elements; none for constants. Raises RuleError if it is neither."""
        if value is None:
            raise RuleError("left-out operand")
        if value.name in self.sources:
            return self.sources[value.name]
        if value.const_value is None or value.const_value.size > _LIMIT:
            raise RuleError("not a length")
        return _array([_NOTHING] * value.const_value.size, tuple(value.const_value.shape.numpy()))


def _array(items: list[Source], shape: tuple[int, ...]) -> np.ndarray:
    out = np.empty(len(items), dtype=object)
    for k, item in enumerate(items):
        out[k] = item
    return out.reshape(shape)


def _merge(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _array([x | y for x, y in zip(a.reshape(-1), b.reshape(-1), strict=False)], a.shape)
