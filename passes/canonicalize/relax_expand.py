"""Let an Expand name only the axes that it really repeats.

``Expand(token[1, 1, 192], [batch, 1, 192])`` names a size that a later cut of the token would contradict; ``[batch, 1,
1]`` gives the same result, for an Expand broadcasts both ways.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.graph import Names, add_initializer, add_node, dim_keys, is_op
from edgeprune.passes.canonicalize.propagate_shapes import Facts, facts_of


def relax_expand(node: ir.Node, facts: Facts, names: Names) -> int:
    """Replace by 1 every size of an Expand's target that its input has anyway; returns the number of changes."""
    if not is_op(node, "Expand") or node.inputs[0] is None or node.inputs[1] is None:
        return 0
    source, target = dim_keys(node.inputs[0]), facts_of(node.inputs[1], facts)
    if source is None or target is None or len(target) < len(source):
        return 0
    padded = (1,) * (len(target) - len(source)) + source
    needed = [
        1 if element is not None and element == dim else element for element, dim in zip(target, padded, strict=True)
    ]
    if needed == list(target):
        return 0
    node.replace_input_with(1, lengths(node, needed, node.inputs[1], f"{node.name}_target", names))
    return 1


def lengths(node: ir.Node, elements: list[int | str | None], source: ir.Value, name: str, names: Names) -> ir.Value:
    """A vector of lengths for a node to read: integers as constants, the others picked from ``source``."""
    assert node.graph is not None
    graph = node.graph

    def store(values: list[int]) -> ir.Value:
        return add_initializer(graph, names.fresh(name), np.asarray(values, np.int64))

    if all(isinstance(element, int) for element in elements):
        return store([element for element in elements if isinstance(element, int)])
    pieces: list[ir.Value | None] = []
    for index, element in enumerate(elements):
        if isinstance(element, int):
            pieces.append(store([element]))
        else:
            taken = add_node(node, "Gather", [source, store([index])], names, name=f"{name}_{index}").outputs[0]
            taken.type, taken.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([1])
            pieces.append(taken)
    joined = add_node(node, "Concat", pieces, names, attributes=[ir.AttrInt64("axis", 0)], name=name).outputs[0]
    joined.type, joined.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([len(elements)])
    return joined
