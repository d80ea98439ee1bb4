"""Groups inside residual branches: what a sum bypasses can be all but dropped.

A residual branch whose inner width shrinks to a single step is the cheapest form of leaving the block out: what is left
of it is a narrow map that is fitted to what the block did, beside the connection that goes around it. Anywhere else so
narrow a layer would be a bottleneck for all that the network knows.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from edgeprune.groups import Group
from edgeprune.linear import find_linears


def bypassed(model: ir.Model, groups: Sequence[Group]) -> frozenset[str]:
    """Ids of the groups all of whose readers end in a sum with what does not come from the group."""
    readers: dict[str, list[ir.Value]] = {}
    outputs = {str(o.name): o for node in model.graph for o in node.outputs}
    for linear in find_linears(model).values():
        end = outputs[linear.output]
        if linear.op == "MatMul" and linear.bias.value:
            end = next(n for n in model.graph if n.name == linear.bias.node).outputs[0]
        readers.setdefault(linear.weight, []).append(end)
    found = set()
    for group in groups:
        inside = {m.value for m in group.members}
        ends = [end for m in group.members if m.role == "consumer" for end in readers.get(m.value, [None])]
        if ends and all(end is not None and _is_summed(end, inside) for end in ends):
            found.add(group.id)
    return frozenset(found)


def _is_summed(end: ir.Value, inside: set[str]) -> bool:
    """Whether all that reads a value is a sum with a computed value that the group does not touch."""
    uses = tuple(end.uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add" or end.is_graph_output():
        return False
    other = uses[0].node.inputs[1 - uses[0].idx]
    return other is not None and other is not end and other.const_value is None and other.name not in inside
