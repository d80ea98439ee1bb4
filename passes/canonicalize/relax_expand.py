"""Reduce the target of an Expand to the axes that it repeats.

``Expand(token[1, 1, 192], [batch, 1, 192])`` has a size that a later cut of the token would contradict. ``[batch, 1,
1]`` gives the same result, since an Expand broadcasts in both directions.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.graph import LengthMemo, Names, add_node, dim_keys, int64_initializer, is_op
from edgeprune.passes.canonicalize.propagate_shapes import facts_of


def relax_expand(node: ir.Node, facts: LengthMemo, names: Names) -> int:
    """Replace by 1 every size of an Expand's target that its input already has; returns the number of changes."""
    if not is_op(node, "Expand") or node.inputs[0] is None or node.inputs[1] is None:
        return 0
    source, target = dim_keys(node.inputs[0]), facts_of(node.inputs[1], facts)
    if source is None or target is None or len(target) < len(source):
        return 0
    padded = (1,) * (len(target) - len(source)) + source
    needed = [1 if e is not None and e == dim else e for e, dim in zip(target, padded, strict=True)]
    if needed == list(target):
        return 0
    node.replace_input_with(1, lengths(node, needed, node.inputs[1], f"{node.name}_target", names))
    return 1


def lengths(node: ir.Node, elements: list[int | str | None], source: ir.Value, name: str, names: Names) -> ir.Value:
    """A vector of lengths for a node to read: integers as constants, the others gathered from ``source``."""
    if all(isinstance(element, int) for element in elements):
        return int64_initializer(node, name, [element for element in elements if isinstance(element, int)], names)
    pieces: list[ir.Value | None] = []
    for index, element in enumerate(elements):
        piece = int64_initializer(node, name, [element if isinstance(element, int) else index], names)
        if not isinstance(element, int):
            piece = add_node(node, "Gather", [source, piece], names, name=f"{name}_{index}", like=piece)
        pieces.append(piece)
    axis = [ir.AttrInt64("axis", 0)]
    length = [len(elements)]
    return add_node(node, "Concat", pieces, names, attributes=axis, name=name, like=pieces[0], shape=length)
