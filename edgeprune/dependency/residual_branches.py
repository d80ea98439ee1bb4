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
from edgeprune.graph import Linear, constant, find_linears, is_op, only_use, read_names, weights_read_once

_CHANNELWISE = frozenset({
    "Add", "Celu", "Clip", "Div", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Mul", "PRelu",
    "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sub", "Tanh", "ThresholdedRelu",
})  # fmt: skip


@dataclass(frozen=True)
class Branch:
    """A residual branch: names of the layer at its end, of the Add behind it, and of the skip connection.

    Attributes:
        end: a convolution, or a MatMul.
        sum: the Add.
        skip: the value that is added.
        before: the MatMul at the end of the branch before, whose sum is the skip connection; empty for a convolution.
        nodes: the nodes that nothing needs without the branch, besides the Add.
        between: the nodes between a convolution and the Add, in order: each works on every channel by itself.
    """

    end: str
    sum: str
    skip: str
    before: str
    nodes: frozenset[str]
    between: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Sum:
    """The Add that a layer ends in, the value that it reads of the layer, and the nodes between."""

    add: ir.Node
    value: ir.Value
    between: tuple[ir.Node, ...]

    @property
    def skip(self) -> ir.Value:
        """The other operand."""
        first, second = self.add.inputs
        assert first is not None
        assert second is not None
        return second if first is self.value else first


def bypassed(model: ir.Model, groups: Sequence[Group]) -> frozenset[str]:
    """Ids of the groups whose readers all end in an Add with a value that does not come from the group."""
    nodes = {str(n.name): n for n in model.graph}
    linears = find_linears(model)
    readers: dict[str, list[_Sum | None]] = {}
    for linear in linears.values():
        readers.setdefault(linear.weight, []).append(_sum_behind(_result(linear, nodes)))
    found = set()
    for group in groups:
        inside = {m.value for m in group.members}
        ends = [end for m in _consumers(group, linears) for end in readers.get(m.value, [None])]
        if ends and all(end is not None and end.skip.name not in inside for end in ends):
            found.add(group.id)
    return frozenset(found)


def _consumers(group: Group, linears: Mapping[str, Linear]) -> list[Member]:
    """The weights that sum over a group's units.

    Not those that make units and count as consumers, because zeros in them have the effect of a removal: those of keys.
    """
    made = {x.weight for x in linears.values()} - {x.weight for x in linears.values() if x.groups != 1}
    summed = {(x.weight, x.channel_axis) for x in linears.values()}
    biases = {x.bias.value for x in linears.values()}
    consumers = [m for m in group.members if m.role == "consumer" and m.value not in biases]
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
        sum_ = _sum_behind(_result(end, nodes))
        assert sum_ is not None  # it is among those of a bypassed group
        value, skip, total = sum_.value, sum_.skip, sum_.add.outputs[0]
        shapes = {str(v.shape) for v in (skip, value, total) if v.shape is not None}
        if skip.shape is None or len(shapes) != 1 or total.is_graph_output():
            continue
        read = _read_without(model, sum_.add, value)
        if (members[0].unit < 0).any() or any(m.value in read for m in group.members if m.role == "activation"):
            continue
        dead = frozenset(str(n.name) for n in model.graph if not any(str(o.name) in read for o in n.outputs))
        before = _before(skip, linears, nodes) if end.op == "MatMul" else None
        if end.op == "MatMul" and (
            before is None
            or sum_.between
            or not {end.weight, before.weight} <= once
            or not end.bias.value
            or before.outputs != end.outputs
            or skip.is_graph_output()
            or any(n is not sum_.add and str(n.name) not in dead for n in skip.consumers())
        ):
            continue
        if all(branch.end != end.node for branch in found.values()):
            name = "" if before is None else before.node
            between = tuple(str(n.name) for n in sum_.between)
            found[group.id] = Branch(end.node, str(sum_.add.name), str(skip.name), name, dead, between)
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


def _sum_behind(end: ir.Value) -> _Sum | None:
    """The Add with another computed value that everything ends in which reads a layer's output; None if there is none.

    Between them are activations and constants for each channel: a constant input of the layer makes a constant there.
    """
    values, between, few_axes = [end], list[ir.Node](), end.shape is None or len(end.shape) < 4
    while True:
        readers = list(dict.fromkeys(n for v in values for n in v.consumers() if n not in between))
        ready = [n for n in readers if _is_channelwise(n, values) and not few_axes]
        if not ready:
            break
        between += ready
        values += [n.outputs[0] for n in ready]
    if len(readers) != 1 or not is_op(readers[0], "Add") or any(v.is_graph_output() for v in values):
        return None
    first, second = readers[0].inputs
    read = [v for v in (first, second) if v in values]
    other = second if first in values else first
    if len(read) != 1 or read[0] is None or other is None or other.const_value is not None:
        return None
    return _Sum(readers[0], read[0], tuple(between))


def _is_channelwise(node: ir.Node, values: Sequence[ir.Value]) -> bool:
    """Whether a node computes every channel from the same channel of these values alone, equally at all positions."""
    if not is_op(node, *_CHANNELWISE) or len(node.outputs) != 1:
        return False
    others = [v for v in node.inputs if v is not None and v not in values]
    arrays = [constant(v) for v in others]
    rank = len(values[0].shape or ())
    return all(a is not None and (a.size == 1 or set(a.shape[max(0, a.ndim - rank + 2) :]) <= {1}) for a in arrays)
