"""Replace an If with a constant condition by its branch.

Exporters write such an If for every squeeze of an axis whose length they do not know; after shape inference its
condition is a constant.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.graph import Names, add_node, constant, detach, is_op, move_body, replace_value


def inline_if(node: ir.Node, names: Names) -> int:
    """Replace an If whose condition is constant by the nodes of its branch, in place; returns 1 if it was one."""
    condition = constant(node.inputs[0]) if is_op(node, "If") else None
    if condition is None or condition.size != 1 or node.graph is None:
        return 0
    attribute = node.attributes["then_branch" if condition.reshape(-1)[0] else "else_branch"]
    if attribute.is_ref():
        return 0
    graph, branch = node.graph, attribute.as_graph()
    results = list(branch.outputs)
    move_body(branch, node, names, f"{node.name}_")
    for old, new in zip(node.outputs, results, strict=True):
        if not replace_value(old, new):
            replace_value(old, add_node(node, "Identity", [new], names, name=f"{node.name}_same", like=new))
    detach(node)
    graph.remove(node, safe=True)
    return 1
