"""Groups inside residual branches, which a skip connection bypasses: such a branch can be dropped.

If the inner width of a residual branch shrinks to a single step, a narrow map remains, which is fitted to the block's
old output, beside the skip connection. In other places so narrow a layer would be a bottleneck for the whole network.
If no inner channel remains, the branch is a constant and is removed with all its layers
(`edgeprune.passes.prune.drop_branches`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.dependency.groups import Group
from edgeprune.graph import Linear, find_linears, read_names


@dataclass(frozen=True)
class Branch:
    """A residual branch: names of the convolution at its end, of the Add behind it, and of the skip connection."""

    end: str
    sum: str
    skip: str


def bypassed(model: ir.Model, groups: Sequence[Group]) -> frozenset[str]:
    """Ids of the groups whose readers all end in an Add with a value that does not come from the group."""
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


def droppable(model: ir.Model, groups: Sequence[Group]) -> Mapping[str, Branch]:
    """Group id -> the branch that is a constant without the group.

    A single convolution with one group reads only the group's channels, and its output is added to a value of the same
    shape.
    """
    linears = find_linears(model)
    nodes = {str(n.name): n for n in model.graph}
    inside = bypassed(model, groups)
    found = {}
    for group in groups:
        ends = [_end_of(m.value, m.axis, linears) for m in group.members if m.role == "consumer"]
        if group.id not in inside or len(ends) != 1 or ends[0] is None:
            continue
        member = next(m for m in group.members if m.role == "consumer")
        node = nodes[ends[0].node]
        use = next(iter(node.outputs[0].uses()))
        skip, total = use.node.inputs[1 - use.idx], use.node.outputs[0]
        shapes = {str(v.shape) for v in (skip, node.outputs[0], total) if v is not None and v.shape is not None}
        if skip is None or skip.shape is None or len(shapes) != 1 or total.is_graph_output():
            continue
        read = _read_without(model, use.node, node)
        if (member.unit >= 0).all() and not any(m.value in read for m in group.members if m.role == "activation"):
            found[group.id] = Branch(ends[0].node, str(use.node.name), str(skip.name))
    return found


def _end_of(weight: str, axis: int, linears: Mapping[str, Linear]) -> Linear | None:
    """The only reader of a weight, if it is a convolution with one group and the axis is its input channels."""
    readers = [x for x in linears.values() if x.weight == weight]
    if len(readers) != 1 or readers[0].channel_axis != axis:
        return None
    return readers[0] if readers[0].op == "Conv" and readers[0].groups == 1 else None


def _read_without(model: ir.Model, total: ir.Node, end: ir.Node) -> set[str]:
    """Names of all values that the outputs depend on if the Add does not read the branch's end."""
    makers = {str(o.name): node for node in model.graph for o in node.outputs}
    waiting = [str(o.name) for o in model.graph.outputs]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        node = makers.get(name)
        if node is not None:
            waiting += [read for read in read_names(node) if node is not total or read != end.outputs[0].name]
    return seen


def _is_summed(end: ir.Value, inside: set[str]) -> bool:
    """Whether the only reader of a value is an Add with a computed value that the group does not touch."""
    uses = tuple(end.uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add" or end.is_graph_output():
        return False
    other = uses[0].node.inputs[1 - uses[0].idx]
    return other is not None and other is not end and other.const_value is None and other.name not in inside
