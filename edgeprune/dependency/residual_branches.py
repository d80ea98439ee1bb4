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

from edgeprune.dependency.groups import Group, Member
from edgeprune.graph import Linear, find_linears, is_op, only_use, read_names, weights_read_once


@dataclass(frozen=True)
class Branch:
    """A residual branch: names of the layer at its end, of the Add behind it, and of the skip connection.

    Attributes:
        end: a convolution, or a MatMul.
        sum: the Add.
        skip: the value that is added.
        before: the MatMul at the end of the branch before, whose sum is the skip connection; empty for a convolution.
        nodes: the nodes that nothing needs without the branch, besides the Add.
    """

    end: str
    sum: str
    skip: str
    before: str
    nodes: frozenset[str]


def bypassed(model: ir.Model, groups: Sequence[Group]) -> frozenset[str]:
    """Ids of the groups whose readers all end in an Add with a value that does not come from the group."""
    nodes = {str(n.name): n for n in model.graph}
    linears = find_linears(model)
    readers: dict[str, list[ir.Value]] = {}
    for linear in linears.values():
        readers.setdefault(linear.weight, []).append(_result(linear, nodes))
    found = set()
    for group in groups:
        inside = {m.value for m in group.members}
        ends = [end for m in _consumers(group, linears) for end in readers.get(m.value, [None])]
        if ends and all(end is not None and _is_summed(end, inside) for end in ends):
            found.add(group.id)
    return frozenset(found)


def _consumers(group: Group, linears: Mapping[str, Linear]) -> list[Member]:
    """The weights that sum over a group's units.

    Not those that make units and count as consumers, because zeros in them have the effect of a removal: those of keys.
    """
    made = {x.weight for x in linears.values()} - {x.weight for x in linears.values() if x.groups != 1}
    summed = {(x.weight, x.channel_axis) for x in linears.values()}
    consumers = [m for m in group.members if m.role == "consumer"]
    return [m for m in consumers if m.value not in made or (m.value, m.axis) in summed]


def droppable(model: ir.Model, groups: Sequence[Group]) -> Mapping[str, Branch]:
    """Group id -> the branch that is a constant without the group; one group for each branch.

    A single layer reads only the group's channels, and its output is added to a value of the same shape. Of a MatMul
    also the skip connection must be a sum with a MatMul, which nothing needs besides: the input of that MatMul replaces
    the branch (`edgeprune.passes.prune.drop_branches`).
    """
    linears = find_linears(model)
    once = weights_read_once(model, linears.values())
    nodes = {str(n.name): n for n in model.graph}
    inside = bypassed(model, groups)
    found: dict[str, Branch] = {}
    for group in sorted(groups, key=lambda g: g.kind == "dim"):
        members = _consumers(group, linears)
        end = _end_of(members[0].value, members[0].axis, linears) if len(members) == 1 else None
        if group.id not in inside or end is None:
            continue
        value = _result(end, nodes)
        use = next(iter(value.uses()))
        skip, total = use.node.inputs[1 - use.idx], use.node.outputs[0]
        shapes = {str(v.shape) for v in (skip, value, total) if v is not None and v.shape is not None}
        if skip is None or skip.shape is None or len(shapes) != 1 or total.is_graph_output():
            continue
        read = _read_without(model, use.node, value)
        if (members[0].unit < 0).any() or any(m.value in read for m in group.members if m.role == "activation"):
            continue
        dead = frozenset(str(n.name) for n in model.graph if not any(str(o.name) in read for o in n.outputs))
        before = _before(skip, linears, nodes) if end.op == "MatMul" else None
        if end.op == "MatMul" and (
            before is None
            or not {end.weight, before.weight} <= once
            or not end.bias.value
            or before.outputs != end.outputs
            or skip.is_graph_output()
            or any(n is not use.node and str(n.name) not in dead for n in skip.consumers())
        ):
            continue
        if all(branch.end != end.node for branch in found.values()):
            name = "" if before is None else before.node
            found[group.id] = Branch(end.node, str(use.node.name), str(skip.name), name, dead)
    return found


def _end_of(weight: str, axis: int, linears: Mapping[str, Linear]) -> Linear | None:
    """The only reader of a weight, if the axis is its input channels: a convolution with one group, or a MatMul."""
    readers = [x for x in linears.values() if x.weight == weight]
    if len(readers) != 1 or readers[0].channel_axis != axis or readers[0].groups != 1:
        return None
    return readers[0] if readers[0].op == "Conv" or _is_plain(readers[0]) else None


def _is_plain(linear: Linear) -> bool:
    """Whether it is a MatMul of rows with a matrix."""
    return linear.op == "MatMul" and linear.channel_axis == 0


def _result(linear: Linear, nodes: Mapping[str, ir.Node]) -> ir.Value:
    """The output of a layer, with its bias."""
    name = linear.bias.node if linear.op == "MatMul" and linear.bias.value else linear.node
    return nodes[name].outputs[0]


def _before(skip: ir.Value, linears: Mapping[str, Linear], nodes: Mapping[str, ir.Node]) -> Linear | None:
    """The MatMul with a bias whose result a sum adds last to a skip connection, if only that sum reads it."""
    total = skip.producer()
    if not is_op(total, "Add") or total is None:
        return None
    results = {_result(x, nodes): x for x in linears.values() if _is_plain(x) and x.bias.value}
    found = [v for v in total.inputs if v in results and only_use(v) is not None]
    return results[found[-1]] if found and found[-1] is not None else None


def _read_without(model: ir.Model, total: ir.Node, end: ir.Value) -> set[str]:
    """Names of all values that the outputs depend on if the Add does not read the branch's result."""
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
            waiting += [read for read in read_names(node) if node is not total or read != end.name]
    return seen


def _is_summed(end: ir.Value, inside: set[str]) -> bool:
    """Whether the only reader of a value is an Add with a computed value that the group does not touch."""
    uses = tuple(end.uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add" or end.is_graph_output():
        return False
    other = uses[0].node.inputs[1 - uses[0].idx]
    return other is not None and other is not end and other.const_value is None and other.name not in inside
