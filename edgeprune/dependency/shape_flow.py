"""Which lengths the graph reads at run time, by ``Shape``, and where they end up.

A length that only ends in an operand that a repair rewrites (a Reshape target) binds nothing. One that ends in a
value, such as the square root of a head's width, would change with pruning: the axis it was read from is frozen.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.dependency.dims import NodeView
from edgeprune.dependency.groups import Freeze
from edgeprune.dependency.relations import Relations
from edgeprune.errors import RuleError

Source = frozenset[int]
"""The factors that one element of a small integer tensor was computed from."""

_NOTHING: Source = frozenset()
_ELEMENTWISE = frozenset(
    [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Min",
        "Max",
        "Mod",
        "Neg",
        "Abs",
        "Floor",
        "Ceil",
        "Round",
        "Identity",
        "Cast",
        "Where",
        "Equal",
        "Greater",
        "Less",
        "GreaterOrEqual",
        "LessOrEqual",
        "Not",
        "And",
        "Or",
    ]
)
_LIMIT = 64
"""Longer tensors are no shapes."""


class ShapeFlow:
    """Follows run-time lengths, element by element, through shape arithmetic."""

    def __init__(self, rels: Relations) -> None:
        self.rels = rels
        self.sources: dict[str, np.ndarray] = {}

    def visit(self, index: int, node: ir.Node) -> bool:
        """Handle a node of pure shape arithmetic; False if it is none."""
        del index
        if node.domain not in ("", "ai.onnx"):
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
        """Freeze what the lengths that a node reads were taken from, but for operands that its repair rewrites."""
        rel = self.rels.rels.get(index)
        rewritten = rel.shape_inputs if rel is not None else ()
        for k, value in enumerate(node.inputs):
            if k not in rewritten:
                self.read(value, Freeze(f"its length is used by {node.op_type}", node.name))

    def read(self, value: ir.Value | None, why: Freeze) -> None:
        """Freeze what the lengths in a value were taken from."""
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
            joined: np.ndarray = np.concatenate(
                [self._of(v) for v in node.inputs if v is not None], axis=view.attr("axis", 0)
            )
            return joined
        if node.op_type == "Gather":
            index = view.const(1)
            return None if index is None else np.asarray(np.take(data, index, axis=view.attr("axis", 0)), dtype=object)
        if node.op_type == "Slice":
            starts, ends = view.attr("starts") or view.ints(1), view.attr("ends") or view.ints(2)
            step = view.ints(4) if view.has(4) else [1]
            return (
                np.asarray(data[starts[0] : ends[0] : step[0]], dtype=object)
                if len(starts) == 1 and data.ndim == 1
                else None
            )
        if node.op_type in ("Squeeze", "Unsqueeze", "Reshape"):
            shape = node.outputs[0].shape
            return None if shape is None or not shape.is_static() else data.reshape([int(d) for d in shape.dims])  # type: ignore[arg-type]
        if node.op_type in ("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin"):
            shape = node.outputs[0].shape
            every = frozenset().union(*data.reshape(-1))
            return (
                None
                if shape is None or not shape.is_static()
                else _array([every] * int(np.prod(shape.numpy())), shape.numpy())
            )
        return None

    def _of(self, value: ir.Value | None) -> np.ndarray:
        """The sources of a value's elements; nothing, for constants. Raises RuleError if it is neither."""
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
