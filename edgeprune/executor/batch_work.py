"""Where the samples of every value are, while the batch of a graph is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import onnx_ir as ir

from edgeprune.errors import ModelError
from edgeprune.graph import Names, add_node, int64_initializer, static_shape

Axis: TypeAlias = int | None
"""The axis of the samples of a value; None if it does not depend on them."""


class RebatchError(ModelError):
    """The batch cannot be opened; the text says why."""


@dataclass
class BatchWork:
    """The axis of the samples of every value so far; edits the graph where a batch of one is baked in.

    Attributes:
        model: the model.
        axes: value -> the axis of the samples.
        outside: value -> what counts outside of the samples on that axis: 7 for 7 steps of which each has all samples.
    """

    model: ir.Model
    axes: dict[ir.Value, Axis] = field(default_factory=dict)
    outside: dict[ir.Value, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = Names(self.model)

    def axis(self, value: ir.Value | None) -> Axis:
        """The axis of the samples of a value."""
        return None if value is None else self.axes.get(value)

    def refuse(self, node: ir.Node, why: str) -> RebatchError:
        """The error for a node."""
        return RebatchError(f"{node.op_type} {node.name!r} {why}")

    def shape(self, node: ir.Node, value: ir.Value | None) -> tuple[int, ...]:
        """The shape of a value for one sample."""
        found = static_shape(value) if value is not None else None
        if found is None:
            raise self.refuse(node, "has a tensor whose shape is not known")
        return found

    def data(self, node: ir.Node) -> tuple[ir.Value, int, tuple[int, ...]]:
        """The first input, its axis of the samples and its shape. Refuses if another input depends on samples."""
        value = node.inputs[0]
        axis = self.axis(value)
        if value is None or axis is None or any(self.axis(v) is not None for v in node.inputs[1:]):
            raise self.refuse(node, "reads samples where it expects a constant")
        return value, axis, self.shape(node, value)

    def sized(self, node: ir.Node, like: ir.Value, axis: int, lengths: Sequence[int], place: int) -> ir.Value:
        """A vector of lengths in which one is the length of an axis of another value."""
        start = [ir.AttrInt64("start", axis), ir.AttrInt64("end", axis + 1)]
        if self.model.opset_imports.get("", 1) >= 15:
            length = add_node(node, "Shape", [like], self.names, attributes=start, name=f"{node.name}_batch", shape=[1])
        else:
            whole = add_node(
                node, "Shape", [like], self.names, name=f"{node.name}_shape", shape=[len(like.shape or ())]
            )
            place_value = int64_initializer(node, f"{node.name}_axis", [axis], self.names)
            length = add_node(node, "Gather", [whole, place_value], self.names, name=f"{node.name}_batch", shape=[1])
        parts = [int64_initializer(node, f"{node.name}_before", lengths[:place], self.names) if place else None, length]
        if lengths[place + 1 :]:
            parts.append(int64_initializer(node, f"{node.name}_after", lengths[place + 1 :], self.names))
        given = [p for p in parts if p is not None]
        return add_node(node, "Concat", given, self.names, attributes=[ir.AttrInt64("axis", 0)],
                        name=f"{node.name}_lengths", shape=[len(lengths)])  # fmt: skip
