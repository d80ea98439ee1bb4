"""The body of an If, a Loop or a Scan in the place of its node."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.graph.edit import Names


def move_body(body: ir.Graph, node: ir.Node, names: Names, prefix: str) -> None:
    """Put the weights and the nodes of a body before the node that has it; the body is empty then.

    The caller connects the body's inputs and outputs: those of ``body`` have to be read before.

    Args:
        body: of the node.
        node: in a graph.
        names: of the model.
        prefix: of all names that come from the body.
    """
    graph = node.graph
    assert graph is not None
    body.outputs.clear()
    for name, value in list(body.initializers.items()):
        del body.initializers[name]
        value.name = names.fresh(f"{prefix}{name}")
        graph.register_initializer(value)
    for member in list(body):
        body.remove(member)
        member.name = names.fresh(f"{prefix}{member.name or member.op_type}")
        for output in member.outputs:
            if output.name:
                output.name = names.fresh(f"{prefix}{output.name}")
        graph.insert_before(node, member)
