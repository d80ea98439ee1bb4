"""Split a fused projection, whose output is factored and then split, into one projection for each part.

Exporters write attention's query, key and value as one MatMul (or convolution) with 3·h·d outputs, a Reshape to (3, h,
d), a Transpose and a Split. There the channel axis is a product, and removing a query dimension would also remove a
value dimension. With three projections, heads, query/key dimensions and value dimensions are separate units. Every
element is computed from the same numbers as before.

The pass follows the channels forward from a projection until the tensor is split along one factor of them. It then
repeats the nodes between for each part, with the part's slice of the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import (
    Names,
    add_initializer,
    add_node,
    constant,
    constant_target,
    dim_keys,
    input_at,
    int64_initializer,
    is_op,
    only_use,
    static_shape,
)
from edgeprune.passes.canonicalize.channel_layout import (
    WITH_CONSTANT,
    Layout,
    Selection,
    follow,
    projection_layout,
    take,
)
from edgeprune.passes.canonicalize.layer_outputs import output_axis

_MAX_STEPS = 12
_MAX_REACH = 16
"""Most nodes between a part and the MatMul of two activations that makes it a part of attention."""

_Store: TypeAlias = Callable[[ir.Value | None, NDArray[Any]], ir.Value]
"""Makes an initializer, named after the one that it is a part of."""


@dataclass(frozen=True)
class _Part:
    """A part of a tensor: its value, its indices along the axis, and whether the axis is dropped."""

    value: ir.Value
    indices: tuple[int, ...]
    drops: bool


@dataclass(frozen=True)
class _Fused:
    """A projection, the nodes after it with the layout after each, and the parts along ``axis`` of the last value."""

    producer: ir.Node
    layout: Layout
    steps: tuple[tuple[ir.Node, Layout], ...]
    axis: int
    parts: tuple[_Part, ...]

    @property
    def last(self) -> Layout:
        return self.steps[-1][1] if self.steps else self.layout


def split_qkv(model: ir.Model) -> int:
    """Split every fused projection of attention, in place; returns how many."""
    names, count = Names(model), 0
    if model.opset_imports.get("", 0) < 13:
        return 0  # only since opset 13 axes are inputs of Squeeze
    for node in list(model.graph):
        fused = _trace(node)
        if fused is None or sum(_attends(part.value) for part in fused.parts) < 2:
            continue
        plans = [_reshape_plan(fused, part) for part in fused.parts]
        if any(plan is None for plan in plans):
            continue
        for number, (part, plan) in enumerate(zip(fused.parts, plans, strict=True)):
            _rebuild(fused, part, number, plan or {}, names)
        count += 1
    return count


def _trace(producer: ir.Node) -> _Fused | None:
    """Follow a projection's channels to where they are split along one of several factors; None if they are not."""
    layout = first = projection_layout(producer)
    if first is None or layout is None:
        return None
    value = producer.outputs[0]
    steps: list[tuple[ir.Node, Layout]] = []
    while len(steps) < _MAX_STEPS and not value.is_graph_output():
        axis, parts = _parts(value, layout)
        if parts:
            divided = len(parts) > 1 and len(layout.sizes) > 1
            return _Fused(producer, first, tuple(steps), axis, tuple(parts)) if divided else None
        use = only_use(value)
        layout = follow(*use, layout) if use is not None else None
        if use is None or layout is None or use[0].graph is not producer.graph:
            return None
        steps.append((use[0], layout))
        value = use[0].outputs[0]
    return None


def _parts(value: ir.Value, layout: Layout) -> tuple[int, list[_Part]]:
    """The axis along which all readers of a value take parts of it, and the parts; no parts if a reader does not."""
    parts: list[_Part] = []
    axes = set()
    for use in value.uses():
        axis, found = _parts_of_reader(use.node, use.idx, layout)
        axes.add(axis)
        parts.extend(found)
    axis = axes.pop() if len(axes) == 1 else -1
    whole = axis >= 0 and layout.labels[axis] >= 0 and not any(part.value.is_graph_output() for part in parts)
    return (axis, parts) if whole else (-1, [])


def _parts_of_reader(node: ir.Node, index: int, layout: Layout) -> tuple[int, list[_Part]]:
    """The axis and the parts that a Split, Gather or Slice with constant bounds takes; -1 for other nodes."""
    rank = len(layout.dims)
    if index != 0 or not is_op(node, "Split", "Gather", "Slice"):
        return -1, []
    if is_op(node, "Slice"):
        bounds = [constant(value) for value in node.inputs[1:]]
        if len(bounds) < 3 or any(bound is None or bound.size != 1 for bound in bounds):
            return -1, []
        start, end, axis, step = (*(int(b.reshape(-1)[0]) for b in bounds if b is not None), 1)[:4]
    else:
        axis = node.attributes.get_int("axis", 0)
    axis %= rank
    size = layout.dims[axis]
    if not isinstance(size, int):
        return -1, []
    if is_op(node, "Slice"):
        return axis, [_Part(node.outputs[0], tuple(range(size))[start:end:step], drops=False)]
    if is_op(node, "Gather"):
        indices = constant(node.inputs[1])
        if indices is None or indices.ndim > 1:
            return -1, []
        chosen = tuple(int(i) % size for i in indices.reshape(-1))
        return axis, [_Part(node.outputs[0], chosen, drops=indices.ndim == 0)]
    widths = [d for value in node.outputs if isinstance(d := (dim_keys(value) or (None,) * rank)[axis], int)]
    if len(widths) != len(node.outputs):
        return -1, []
    ends = np.cumsum(widths).tolist()
    return axis, [
        _Part(value, tuple(range(end - width, end)), drops=False)
        for value, end, width in zip(node.outputs, ends, widths, strict=True)
    ]


def _attends(value: ir.Value) -> bool:
    """Whether a value soon enters attention: a MatMul or Einsum of two activations, or an Attention node."""
    frontier, seen = [value], {value}
    for _ in range(_MAX_REACH):
        following: list[ir.Value] = []
        for node in (use.node for reached in frontier for use in reached.uses()):
            if is_op(node, "Attention"):
                return True
            if is_op(node, "MatMul", "Einsum", "Gemm", "Conv") and not _is_depthwise(node):
                if is_op(node, "MatMul", "Einsum") and not any(v is None or v.is_initializer() for v in node.inputs):
                    return True
                continue
            following.extend(output for output in node.outputs if output not in seen)
        seen.update(following)
        frontier = following
    return False


def _is_depthwise(node: ir.Node) -> bool:
    """Whether a node is a depthwise convolution, which pools queries or values in some attentions."""
    weight = static_shape(input_at(node, 1)) if is_op(node, "Conv") else None
    return weight is not None and weight[1] == 1 and node.attributes.get_int("group", 1) == weight[0]


def _selection(fused: _Fused, part: _Part) -> Selection:
    return Selection(fused.last.sizes, fused.last.labels[fused.axis], part.indices)


def _reshape_plan(fused: _Fused, part: _Part) -> dict[ir.Node, tuple[int, ...]] | None:
    """The target of every Reshape before one part; None if a target cannot be a constant."""
    selection, targets, before = _selection(fused, part), {}, fused.layout
    if not part.indices:
        return None
    for node, layout in fused.steps:
        if is_op(node, "Reshape"):
            target = constant_target(selection.dims(before), selection.dims(layout))
            if target is None:
                return None
            targets[node] = target
        before = layout
    return targets


def _rebuild(fused: _Fused, part: _Part, number: int, targets: dict[ir.Node, tuple[int, ...]], names: Names) -> None:
    """Insert one part's projection and nodes before the fused projection; the part's readers then read them."""
    selection, producer, graph = _selection(fused, part), fused.producer, fused.producer.graph
    assert graph is not None

    def insert(node: ir.Node, inputs: list[ir.Value | None], without: str = "") -> ir.Value:
        attributes = [attribute for attribute in node.attributes.values() if attribute.name != without]
        return add_node(producer, node.op_type, inputs, names, attributes=attributes, name=f"{node.name}_{number}")

    def store(base: ir.Value | None, array: NDArray[Any]) -> ir.Value:
        name = base.name if base is not None else producer.name
        return add_initializer(graph, names.fresh(f"{name}_{number}"), array)

    channels = selection.along(fused.layout, 0)
    value = insert(producer, [producer.inputs[0], *_weights(producer, channels, store)])
    before = fused.layout
    for node, layout in fused.steps:
        inputs = list(node.inputs)
        moving = next(i for i, source in enumerate(inputs) if source is not None and not source.is_initializer())
        inputs[moving] = value
        if node in targets:
            inputs[1] = store(node.inputs[1], np.asarray(targets[node], np.int64))
        elif is_op(node, *WITH_CONSTANT):
            inputs[1 - moving] = _operand(inputs[1 - moving], before, selection, store)
        value = insert(node, inputs, without="allowzero" if node in targets else "")
        before = layout
    if part.drops:
        axes = int64_initializer(producer, f"{producer.name}_{number}_axis", [fused.axis], names)
        value = add_node(producer, "Squeeze", [value, axes], names, name=f"{producer.name}_{number}_squeezed")
    part.value.replace_all_uses_with(value)


def _weights(producer: ir.Node, channels: NDArray[np.int64], store: _Store) -> list[ir.Value | None]:
    """A projection's weight, and its bias if it has one, for some of the output channels."""
    weight, bias = producer.inputs[1], input_at(producer, 2)
    array, added = constant(weight), constant(bias)
    assert array is not None
    parts: list[ir.Value | None] = [store(weight, take(array, channels, output_axis(producer) or 0))]
    if added is not None:
        single = added.ndim == 0 or added.shape[-1] == 1
        parts.append(store(bias, added if single else take(added, channels, added.ndim - 1)))
    return parts


def _operand(value: ir.Value | None, layout: Layout, selection: Selection, store: _Store) -> ir.Value | None:
    """A constant operand, with the part's indices along every axis on which it differs between channels."""
    array = constant(value)
    assert array is not None
    part, offset = array, len(layout.dims) - array.ndim
    for axis, label in enumerate(layout.labels[offset:]):
        if label >= 0 and array.shape[axis] != 1:
            part = take(part, selection.along(layout, label), axis)
    return value if part.shape == array.shape else store(value, part)
