"""Write the known lengths of a Resize as constants if it computes its lengths at run time.

``Resize(x, Concat(Shape(x)[:2], size))`` reads the number of channels from the tensor at run time, although it is
known. As a constant it ties no axes together, and a cut of the channels rewrites it.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.graph import LengthMemo, Names, input_at, is_op
from edgeprune.passes.canonicalize.propagate_shapes import facts_of
from edgeprune.passes.canonicalize.relax_expand import lengths


def relax_resize(node: ir.Node, facts: LengthMemo, names: Names) -> int:
    """Write the known elements of a Resize's computed sizes as constants; returns the number of changes."""
    sizes = input_at(node, 3)
    if not is_op(node, "Resize") or sizes is None or sizes.is_initializer():
        return 0
    known = facts_of(sizes, facts)
    if known is None or _constants(sizes) >= sum(isinstance(element, int) for element in known):
        return 0
    node.replace_input_with(3, lengths(node, list(known), sizes, f"{node.name}_sizes", names))
    return 1


def _constants(sizes: ir.Value) -> int:
    """Number of elements that already are constants."""
    producer = sizes.producer()
    if not is_op(producer, "Concat") or producer is None:
        return 0
    constants = (value.const_value for value in producer.inputs if value is not None)
    return sum(tensor.size for tensor in constants if tensor is not None)
