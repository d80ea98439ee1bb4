"""Which axes of a reshape's input and output correspond, symbolic sizes included, and the reshape's target."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from edgeprune.graph.edit import Names, int64_initializer
from edgeprune.lengths import Dim, product

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Operators whose output is their first input in another shape."""


def aligned_groups(source: Sequence[Dim], target: Sequence[Dim]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Pair the axes of two shapes of a tensor: the finest groups with equal products, without axes of size 1.

    ``(2, 6, 5)`` and ``(2, 3, 2, 5)`` give ``[((0,), (0,)), ((1,), (1, 2)), ((2,), (3,))]``. Axes that follow the first
    unknown size, or do not match, are in no group.
    """
    groups = []
    left = _prefixes(source)
    right = {whole: index for index, (whole, _) in enumerate(_prefixes(target))}
    axes = [axis for _, axis in _prefixes(target)]
    own: list[int] = []
    start = 0
    for whole, axis in left:
        own.append(axis)
        end = right.get(whole)
        if end is not None and end + 1 > start:
            groups.append((tuple(own), tuple(axes[start : end + 1])))
            own, start = [], end + 1
    return groups


def _prefixes(dims: Sequence[Dim]) -> list[tuple[Dim, int]]:
    """For each axis before the first unknown size, except size 1: the product of all sizes up to it, and the axis."""
    result: list[tuple[Dim, int]] = []
    for axis, dim in enumerate(dims):
        whole = product(dims[: axis + 1])
        if whole is None or dim == 0:
            break
        if dim != 1:
            result.append((whole, axis))
    return result


def constant_target(source: Sequence[Dim], wanted: Sequence[Dim]) -> tuple[int, ...] | None:
    """A constant Reshape target (``allowzero`` unset): 0 keeps an axis, at most one -1 takes the rest.

    None if there is none: two unknown sizes that are not kept in place, or a size that is zero.
    """
    result = []
    for axis, dim in enumerate(wanted):
        if isinstance(dim, int):
            result.append(dim)
        elif dim is not None and axis < len(source) and source[axis] == dim:
            result.append(0)
        else:
            result.append(-1)
    return None if result.count(-1) > 1 or 0 in wanted else tuple(result)


def turn_into_reshape(node: ir.Node, source: ir.Value | None, target: Sequence[int], names: Names) -> None:
    """Make a node, in place, the Reshape of ``source`` to a constant target."""
    shape = int64_initializer(node, f"{node.name}_target", target, names)
    node.op_type = "Reshape"
    node.attributes.clear()
    node.resize_inputs(2)
    node.replace_input_with(0, source)
    node.replace_input_with(1, shape)
