"""Known elements of integer tensors that contain shapes, and the shapes and targets that follow from them.

An exporter writes ``Reshape(x, Concat(Gather(Shape(x), 0), 196, 3, 6, 64))``. If all dimensions are static, this is a
constant. If some are symbolic, the target can still be the constant ``[0, 196, 3, 6, 64]``, where 0 means *keep this
axis* and -1 means *the rest*. A pass that changes sizes can then repair it.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import LengthMemo, constant_target, dim_keys, elements_of, input_at
from edgeprune.lengths import Dim

Elements: TypeAlias = tuple[Dim, ...]
"""Elements of an integer tensor: a known integer, a length as text, or None if unknown."""

_TYPES = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL})


def facts_of(value: ir.Value | None, facts: LengthMemo) -> Elements | None:
    """The elements of a small integer tensor of rank 0 or 1, constant or derived; None if nothing is known."""
    found = elements_of(value, facts)
    if value is None or found is None or found.ndim > 1 or value.dtype not in _TYPES:
        return None
    return tuple(found.reshape(-1))


def derived_constant(node: ir.Node, facts: LengthMemo) -> NDArray[np.generic] | None:
    """The output of a node of shape arithmetic if all its elements are known numbers."""
    if len(node.outputs) != 1:
        return None
    found, dtype = elements_of(node.outputs[0], facts), node.outputs[0].dtype
    if found is None or dtype is None or not all(isinstance(e, int) for e in found.reshape(-1)):
        return None
    array: NDArray[np.generic] = found.astype(dtype.numpy())
    return array


def reshape_target(node: ir.Node, facts: LengthMemo) -> tuple[int, ...] | None:
    """A constant for a Reshape's computed target: 0 for an axis that is kept, at most one -1; None if there is none."""
    target = facts_of(input_at(node, 1), facts)
    if target is None or (0 in target and node.attributes.get_int("allowzero")):
        return None
    source = dim_keys(node.inputs[0]) or ()
    if 0 not in target:
        return constant_target(source, target)
    # A 0 in the old target means the same in the new one.
    written = constant_target(source, tuple(1 if element == 0 else element for element in target))
    if written is None:
        return None
    return tuple(0 if element == 0 else size for element, size in zip(target, written, strict=True))


def shape_from_facts(node: ir.Node, facts: LengthMemo) -> Elements | None:
    """The output shape of an Expand, ConstantOfShape or Resize, from the known elements of its target."""
    if node.op_type == "ConstantOfShape":
        return facts_of(node.inputs[0], facts)
    if node.op_type == "Resize" and len(node.inputs) == 4 and "axes" not in node.attributes:
        return facts_of(node.inputs[3], facts)
    if node.op_type != "Expand":
        return None
    target, source = facts_of(node.inputs[1], facts), dim_keys(node.inputs[0])
    if target is None or source is None:
        return None
    rank = max(len(target), len(source))
    left, right = (1,) * (rank - len(source)) + source, (1,) * (rank - len(target)) + target
    return tuple(a if b == 1 or (isinstance(a, int) and a > 1) else b for a, b in zip(left, right, strict=True))
