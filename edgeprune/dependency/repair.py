"""Repairs: the changes of a node itself when axes of its tensors lose positions.

Slicing weights is generic. Only operators with a length, bound or index in an attribute or a constant need a repair,
which is beside their rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.dependency.dims import NodeView
from edgeprune.errors import PassError
from edgeprune.graph import ONNX_DOMAINS, add_initializer

Kept = Mapping[tuple[str, int], NDArray[np.int64]]
RepairFunction = Callable[["Repair"], None]
_REPAIRS: dict[str, tuple[RepairFunction, bool]] = {}


def repair(*ops: str, always: bool = False) -> Callable[[RepairFunction], RepairFunction]:
    """Register the repair of operators of the default domain.

    Args:
        ops: the operators.
        always: run it on every such node, even if none of its axes changes (a length may be computed from another).
    """

    def register(function: RepairFunction) -> RepairFunction:
        for op in ops:
            _REPAIRS[op] = (function, always)
        return function

    return register


def repair_of(node: ir.Node, *, changed: bool) -> RepairFunction | None:
    """The repair to run on a node, if any."""
    function, always = _REPAIRS.get(node.op_type, (None, False))
    return function if node.domain in ONNX_DOMAINS and (changed or always) else None


class Repair:
    """One node of the model to prune, and what its axes keep. Shapes and constants are those of the dense model."""

    def __init__(
        self, node: ir.Node, graph: ir.Graph, kept: Kept, wholes: Mapping[tuple[str, int], int] | None = None
    ) -> None:
        self.node = node
        self._wholes = wholes or {}
        self.graph = graph
        self.view = NodeView(node, graph.opset_imports.get("", 1))
        self._kept = kept

    def kept(self, operand: int, axis: int) -> NDArray[np.int64] | None:
        """Positions of an operand's axis that are kept; None if all are."""
        value = self.node.inputs[operand]
        return None if value is None else self._kept.get((value.name or "", axis))

    def out_kept(self, result: int, axis: int) -> NDArray[np.int64] | None:
        """Positions of a result's axis that are kept; None if all are."""
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
        n = self.view.out_shape(result)[axis]
        if not isinstance(n, int):
            raise PassError(f"{self.node.name}: axis {axis} of its result has no fixed length")
        kept = self.out_kept(result, axis)
        return n if kept is None else len(kept)

    def has_input(self, operand: int) -> bool:
        """Whether an operand is given."""
        return self.view.has(operand)

    def set_attr(self, name: str, value: Any) -> None:
        """Set an attribute."""
        self.node.attributes[name] = ir.convenience.convert_attribute(name, value)

    def drop_attr(self, name: str) -> None:
        """Remove an attribute if the node has it."""
        self.node.attributes.pop(name, None)

    def set_input(self, operand: int, array: NDArray[Any]) -> None:
        """Replace an operand by a new constant."""
        if operand >= len(self.node.inputs):
            self.node.resize_inputs(operand + 1)
        self.node.replace_input_with(operand, self.constant(array))

    def set_elements(self, operand: int, new: Mapping[int, int]) -> None:
        """Replace some elements of a vector of integers, which may be a constant or computed."""
        old = self.view.const(operand)
        if old is None:
            self.replace_elements(operand, new)
            return
        array = np.array(old)
        for k, value in new.items():
            array[k] = value
        self.set_input(operand, array)

    def constant(self, array: NDArray[Any]) -> ir.Value:
        """A new initializer."""
        name, k = f"{self.node.name}.repaired", 0
        while name in self.graph.initializers:
            k += 1
            name = f"{self.node.name}.repaired.{k}"
        return add_initializer(self.graph, name, np.asarray(array, order="C"))

    def out_whole(self, result: int, axis: int) -> int:
        """The number of positions that :meth:`out_kept` counts from; for an open length, that of its stand-in."""
        return self._wholes[self.node.outputs[result].name or "", axis]

    def replace_elements(
        self, operand: int, new: Mapping[int, int], shares: Mapping[int, tuple[int, int]] | None = None
    ) -> None:
        """Replace some elements of a computed vector of lengths, which the node reads.

        Args:
            operand: the vector.
            new: element -> constant.
            shares: element -> (part, whole): the element that is computed, times part, divided by whole.
        """
        source = self.node.inputs[operand]
        shares = shares or {}
        if not (new or shares) or source is None or source.shape is None:
            return
        pieces = []
        kind = np.dtype(np.int64) if source.dtype is None else source.dtype.numpy()
        for k in range(self.view.size(operand, 0)):
            if k in new:
                pieces.append(self.constant(np.asarray([new[k]], dtype=kind)))
                continue
            name = f"{self.node.name}.length{k}"
            gather = ir.node("Gather", [source, self.constant(np.asarray([k], dtype=np.int64))], name=name)
            piece = self._insert(gather, source.type, ir.Shape((1,)))
            if k in shares:
                for op, number in (("Mul", shares[k][0]), ("Div", shares[k][1])):
                    scaled = ir.node(op, [piece, self.constant(np.asarray([number], kind))], name=f"{name}.{op}")
                    piece = self._insert(scaled, source.type, ir.Shape((1,)))
            pieces.append(piece)
        joined = ir.node("Concat", pieces, attributes={"axis": 0}, name=f"{self.node.name}.lengths")
        self.node.replace_input_with(operand, self._insert(joined, source.type, ir.Shape((len(pieces),))))

    def _insert(self, node: ir.Node, kind: ir.TypeProtocol | None, shape: ir.Shape | None) -> ir.Value:
        """Insert a node before this one; returns its result."""
        out = node.outputs[0]
        out.name, out.type, out.shape = f"{node.name}.out", kind, shape
        self.graph.insert_before(self.node, node)
        return out

    def gather_before(self, axis: int, positions: NDArray[np.int64]) -> None:
        """Insert a Gather of these positions before the first operand."""
        source = self.node.inputs[0]
        assert source is not None
        self.node.replace_input_with(0, self._insert(self._gather(source, axis, positions), source.type, source.shape))

    def gather_after(self, axis: int, positions: NDArray[np.int64]) -> None:
        """Insert a Gather of these positions after the first result."""
        self._replace_result(self._gather(self.node.outputs[0], axis, positions), "whole")

    def _gather(self, value: ir.Value, axis: int, positions: NDArray[np.int64]) -> ir.Node:
        inputs, name = [value, self.constant(positions)], f"{self.node.name}.pick{axis}"
        return ir.node("Gather", inputs, attributes={"axis": axis}, name=name)

    def scale_result(self, factor: float) -> None:
        """Multiply the node's first result by a number."""
        out = self.node.outputs[0]
        assert out.dtype is not None
        constant = self.constant(np.asarray(factor, dtype=out.dtype.numpy()))
        self._replace_result(ir.node("Mul", [out, constant], name=f"{self.node.name}.scale"), "unscaled")

    def _replace_result(self, after: ir.Node, suffix: str) -> None:
        """Insert a node after the first result. It takes over the result's name; the old result gets the suffix."""
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
        """The new positions of selected positions of an operand's axis, for those that the result keeps.

        Raises:
            PassError: if a selected position that the result keeps was removed.
        """
        stay = self.out_kept(*result) if result is not None else None
        chosen = positions if stay is None else positions[stay]
        kept = self.kept(*operand)
        if kept is None:
            return chosen
        now = np.searchsorted(kept, chosen)
        if chosen.size and (now.max(initial=0) >= len(kept) or (kept[now] != chosen).any()):
            raise PassError(f"{self.node.name} reads a position that was removed")
        return now.astype(np.int64)
