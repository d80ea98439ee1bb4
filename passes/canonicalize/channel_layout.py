"""The position of a projection's output channels in the tensors after it, as a product of factors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import (
    VIEWS,
    aligned_groups,
    constant,
    constant_tensor,
    dim_keys,
    input_at,
    ints_attribute,
    is_op,
)
from edgeprune.lengths import Dim

WITH_CONSTANT = ("Add", "Sub", "Mul", "Div")


@dataclass(frozen=True)
class Layout:
    """The axes of a tensor that are channels.

    ``dims`` is its shape. ``labels`` gives for each axis the index of its factor, or -1 if the axis is not part of the
    channels. ``sizes`` are the sizes of the factors, outermost first: the channel is the row-major index over them.
    """

    dims: tuple[Dim, ...]
    labels: tuple[int, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Selection:
    """Some indices of one factor of the finest layout."""

    sizes: tuple[int, ...]
    factor: int
    indices: tuple[int, ...]

    def along(self, layout: Layout, label: int) -> NDArray[np.int64]:
        """The selected indices along a factor of a coarser layout, which is a product of adjacent finest factors."""
        before = math.prod(layout.sizes[:label])
        ends = range(len(self.sizes) + 1)
        first = next(i for i in ends if math.prod(self.sizes[:i]) == before)
        last = next(i for i in ends[first:] if math.prod(self.sizes[first:i]) == layout.sizes[label])
        positions = np.arange(layout.sizes[label]).reshape(self.sizes[first:last])
        if first <= self.factor < last:
            positions = positions.take(self.indices, axis=self.factor - first)
        return positions.reshape(-1)

    def dims(self, layout: Layout) -> tuple[Dim, ...]:
        """The shape of a tensor after only the selection is kept."""
        return tuple(
            d if label < 0 else len(self.along(layout, label))
            for d, label in zip(layout.dims, layout.labels, strict=True)
        )


def projection_layout(node: ir.Node) -> Layout | None:
    """The layout of the output of a MatMul, Gemm or ungrouped Conv with constant weights; None for other nodes."""
    if not is_op(node, "MatMul", "Gemm", "Conv"):
        return None
    weight, dims = constant_rank(input_at(node, 1)), dim_keys(node.outputs[0])
    if weight is None or dims is None or (input_at(node, 2) is not None and constant_rank(input_at(node, 2)) is None):
        return None
    if (is_op(node, "MatMul") and weight != 2) or (is_op(node, "Conv") and node.attributes.get_int("group", 1) != 1):
        return None
    axis = channel_axis(node, len(dims))
    size = dims[axis]
    if not isinstance(size, int) or size < 2:
        return None
    return Layout(dims, tuple(0 if a == axis else -1 for a in range(len(dims))), (size,))


def constant_rank(value: ir.Value | None) -> int | None:
    """The rank of a constant initializer, or None."""
    tensor = constant_tensor(value)
    return None if tensor is None else len(tensor.shape)


def channel_axis(node: ir.Node, rank: int) -> int:
    """The channel axis of a projection's output."""
    return 1 if is_op(node, "Conv", "Gemm") else rank - 1


def follow(node: ir.Node, index: int, layout: Layout) -> Layout | None:
    """The layout after a node that only moves elements or combines them with constants; None for other nodes.

    Args:
        node: a reader of the tensor.
        index: the node's input that is the tensor.
        layout: the tensor's layout.
    """
    after = dim_keys(node.outputs[0]) if len(node.outputs) == 1 else None
    if after is None or node.outputs[0].is_graph_output():
        return None
    if is_op(node, "Transpose"):
        perm = ints_attribute(node, "perm") or tuple(reversed(range(len(layout.labels))))
        return Layout(after, tuple(layout.labels[p] for p in perm), layout.sizes)
    if is_op(node, *VIEWS) and index == 0:
        return _after_view(node, after, layout)
    if is_op(node, *WITH_CONSTANT) and constant_rank(input_at(node, 1 - index)) is not None:
        return Layout(after, layout.labels, layout.sizes) if after == layout.dims else None
    return None


def _after_view(node: ir.Node, after: tuple[Dim, ...], layout: Layout) -> Layout | None:
    """Each factor may become several factors; it must not be merged with another factor or axis."""
    if any(constant(value) is None for value in node.inputs[1:]):
        return None
    if is_op(node, "Squeeze") and len(node.inputs) < 2 and "axes" not in node.attributes:
        return None  # it would also drop an axis with one kept element
    groups = [g for g in aligned_groups(layout.dims, after) if any(layout.labels[a] >= 0 for a in g[0])]
    if sum(layout.labels[a] >= 0 for source, _ in groups for a in source) != len(layout.sizes):
        return None
    labels, pieces = [-1] * len(after), {}
    for source, target in groups:
        sizes: list[int] = [d for a in target if isinstance(d := after[a], int)]
        if len(source) != 1 or len(sizes) != len(target):
            return None
        pieces[layout.labels[source[0]]] = (target, sizes)
    refined: list[int] = []
    for factor in range(len(layout.sizes)):
        target, sizes = pieces[factor]
        for axis, size in zip(target, sizes, strict=True):
            labels[axis] = len(refined)
            refined.append(size)
    return Layout(after, tuple(labels), tuple(refined))


def take(array: NDArray[Any], indices: NDArray[np.int64], axis: int) -> NDArray[Any]:
    """Indices along an axis: a view if they are consecutive, so that a mapped weight is not copied."""
    if len(indices) and (np.diff(indices) == 1).all():
        run = slice(int(indices[0]), int(indices[-1]) + 1)
        return array[(slice(None),) * axis + (run,)]
    return array.take(indices, axis=axis)
