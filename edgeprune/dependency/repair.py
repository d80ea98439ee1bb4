"""Repairs: what a node itself must change when axes of its tensors lose positions.

Slicing weights is generic; only operators that carry a length, bound or index in an attribute or a constant need a
repair, and it stands beside their rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.dependency.dims import NodeView
from edgeprune.errors import PassError

Kept = Mapping[tuple[str, int], NDArray[np.int64]]
RepairFunction = Callable[["Repair"], None]
_REPAIRS: dict[str, tuple[RepairFunction, bool]] = {}


def repair(*ops: str, always: bool = False) -> Callable[[RepairFunction], RepairFunction]:
    """Register the repair of operators of the default domain.

    Args:
        ops: the operators.
        always: run it on every such node, not only where an axis changes (a length may be computed from one that does).
    """

    def register(function: RepairFunction) -> RepairFunction:
        for op in ops:
            _REPAIRS[op] = (function, always)
        return function

    return register


def repair_of(node: ir.Node, *, changed: bool) -> RepairFunction | None:
    """The repair to run on a node, if any."""
    function, always = _REPAIRS.get(node.op_type, (None, False)) if node.domain in ("", "ai.onnx") else (None, False)
    return function if changed or always else None


class Repair:
    """One node of the model being pruned, and what its axes keep. Shapes and constants are still the dense model's."""

    def __init__(self, node: ir.Node, graph: ir.Graph, kept: Kept) -> None:
        self.node = node
        self.graph = graph
        self.view = NodeView(node, graph.opset_imports.get("", 1))
        self._kept = kept

    def kept(self, operand: int, axis: int) -> NDArray[np.int64] | None:
        """Positions that stay of an operand's axis; None if all do."""
        value = self.node.inputs[operand]
        return None if value is None else self._kept.get((value.name or "", axis))

    def out_kept(self, result: int, axis: int) -> NDArray[np.int64] | None:
        """Positions that stay of a result's axis; None if all do."""
        return self._kept.get((self.node.outputs[result].name or "", axis))

    def old_length(self, operand: int, axis: int) -> int:
        """An operand's length before."""
        return self.view.size(operand, axis)

    def length(self, operand: int, axis: int) -> int:
        """An operand's length after."""
        kept = self.kept(operand, axis)
        return self.view.size(operand, axis) if kept is None else len(kept)

    def out_length(self, result: int, axis: int) -> int:
        """A result's length after."""
        kept = self.out_kept(result, axis)
        if kept is not None:
            return len(kept)
        n = self.view.out_shape(result)[axis]
        if not isinstance(n, int):
            raise PassError(f"{self.node.name}: axis {axis} of its result has no fixed length")
        return n

    def has_input(self, operand: int) -> bool:
        """Whether an operand is given."""
        return self.view.has(operand)

    def set_attr(self, name: str, value: Any) -> None:
        """Set an attribute."""
        self.node.attributes[name] = ir.convenience.convert_attribute(name, value)

    def drop_attr(self, name: str) -> None:
        """Remove an attribute if it is there."""
        self.node.attributes.pop(name, None)

    def set_input(self, operand: int, array: NDArray[Any]) -> None:
        """Give an operand a constant of this node's own."""
        if operand >= len(self.node.inputs):
            self.node.resize_inputs(operand + 1)
        self.node.replace_input_with(operand, self.constant(array))

    def constant(self, array: NDArray[Any]) -> ir.Value:
        """A new initializer."""
        name, k = f"{self.node.name}.repaired", 0
        while name in self.graph.initializers:
            k += 1
            name = f"{self.node.name}.repaired.{k}"
        tensor = ir.Tensor(np.asarray(array, order="C"), name=name)
        value = ir.Value(
            name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        self.graph.register_initializer(value)
        return value

    def replace_elements(self, operand: int, new: Mapping[int, int]) -> None:
        """Let the node read a computed vector of lengths with some elements replaced by constants."""
        source = self.node.inputs[operand]
        if not new or source is None or source.shape is None:
            return
        pieces = []
        for k in range(self.view.size(operand, 0)):
            if k in new:
                pieces.append(self.constant(np.asarray([new[k]], dtype=np.int64)))
                continue
            name = f"{self.node.name}.length{k}"
            pick = ir.node("Gather", [source, self.constant(np.asarray([k], dtype=np.int64))], name=name)
            pieces.append(self._insert(pick, source.type, (1,)))
        joined = ir.node("Concat", pieces, attributes={"axis": 0}, name=f"{self.node.name}.lengths")
        self.node.replace_input_with(operand, self._insert(joined, source.type, (len(pieces),)))

    def _insert(self, node: ir.Node, kind: ir.TypeProtocol | None, shape: tuple[int, ...]) -> ir.Value:
        """Put a node before this one; its result."""
        out = node.outputs[0]
        out.name, out.type, out.shape = f"{node.name}.out", kind, ir.Shape(shape)
        self.graph.insert_before(self.node, node)
        return out

    def gather_before(self, axis: int, positions: NDArray[np.int64]) -> None:
        """Let the first operand pass through a Gather of these positions."""
        source = self.node.inputs[0]
        assert source is not None
        name = f"{self.node.name}.pick{axis}"
        gather = ir.node("Gather", [source, self.constant(positions)], attributes={"axis": axis}, name=name)
        out = gather.outputs[0]
        out.name, out.type, out.shape = f"{name}.out", source.type, source.shape
        self.graph.insert_before(self.node, gather)
        self.node.replace_input_with(0, out)

    def gather_after(self, axis: int, positions: NDArray[np.int64]) -> None:
        """Let the first result pass through a Gather of these positions."""
        out = self.node.outputs[0]
        name = f"{self.node.name}.pick{axis}"
        gather = ir.node("Gather", [out, self.constant(positions)], attributes={"axis": axis}, name=name)
        self._replace_result(gather, "whole")

    def scale_result(self, factor: float) -> None:
        """Multiply the node's first result by a number."""
        out = self.node.outputs[0]
        assert out.dtype is not None
        constant = self.constant(np.asarray(factor, dtype=out.dtype.numpy()))
        self._replace_result(ir.node("Mul", [out, constant], name=f"{self.node.name}.scale"), "unscaled")

    def _replace_result(self, after: ir.Node, suffix: str) -> None:
        """Let a node that reads the first result make it, under its name; what it reads is named with the suffix."""
        out, made = self.node.outputs[0], after.outputs[0]
        name = out.name or ""
        made.type, made.shape = out.type, out.shape
        self.graph.insert_after(self.node, after)
        out.replace_all_uses_with(made, replace_graph_outputs=True)
        after.replace_input_with(0, out)
        out.name, made.name = f"{name}.{suffix}", name

    def repositioned(
        self, positions: NDArray[np.int64], operand: tuple[int, int], result: tuple[int, int] | None
    ) -> NDArray[np.int64]:
        """Where picked positions of an operand's axis lie after pruning, for those that the result keeps.

        Raises:
            PassError: if a picked position that the result keeps has gone.
        """
        stay = self.out_kept(*result) if result is not None else None
        chosen = positions if stay is None else positions[stay]
        kept = self.kept(*operand)
        if kept is None:
            return chosen
        now = np.searchsorted(kept, chosen)
        if chosen.size and (now.max(initial=0) >= len(kept) or (kept[now] != chosen).any()):
            raise PassError(f"{self.node.name} picks a position that was removed")
        return now.astype(np.int64)
