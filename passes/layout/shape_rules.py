"""The rules of operators that change sizes: Slice, Pad, Resize, and views that keep the order of the elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.graph import constant, dim_keys, input_at, int64_initializer, ints_attribute
from edgeprune.lengths import Dim
from edgeprune.passes.layout.edits import Edits
from edgeprune.passes.layout.order import Order
from edgeprune.passes.layout.rules import Edit, Turned, dropping, no_edit, set_axes


def _integers(value: ir.Value | None) -> tuple[int, ...] | None:
    array = constant(value)
    return None if array is None else tuple(int(entry) for entry in array.reshape(-1))


def sliced(node: ir.Node, order: Order) -> Turned | None:
    """The axes must be constant, the bounds need not be."""
    if not order.has(node.inputs[0]) or len(node.inputs) < 3:
        return None
    axes = _integers(input_at(node, 3))
    if axes is None:
        starts = dim_keys(node.inputs[1])
        if input_at(node, 3) is not None or starts is None or not isinstance(starts[0], int):
            return None
        axes = tuple(range(starts[0]))
    return Turned((0,), (0,), set_axes(axes, 3))


def padded(node: ir.Node, order: Order) -> Turned | None:
    """Pad with named axes, or with an amount for every axis."""
    pads, axes = _integers(input_at(node, 1)), input_at(node, 3)
    if not order.has(node.inputs[0]) or "pads" in node.attributes:
        return None
    if axes is not None:
        listed = _integers(axes)
        return None if listed is None else Turned((0,), (0,), set_axes(listed, 3))
    return None if pads is None else Turned((0,), (0,), lambda node, edits: edits.vector(node, 1))


def resized(node: ir.Node, order: Order) -> Turned | None:
    """Scales or sizes for every axis, constant or computed, or for named axes."""
    if not order.has(node.inputs[0]) or not order.has(node.outputs[0]) or len(node.inputs) < 3:
        return None
    named = ints_attribute(node, "axes")
    if named is not None:
        return Turned((0,), (0,), set_axes(named, -1))
    region = constant(node.inputs[1])
    if node.inputs[1] is not None and (region is None or region.size not in (0, 2 * order.rank)):
        return None
    given = [index for index in range(1, len(node.inputs)) if dim_keys(node.inputs[index]) not in (None, (0,))]
    if any(dim_keys(node.inputs[index]) not in ((order.rank,), (2 * order.rank,)) for index in given):
        return None

    def edit(node: ir.Node, edits: Edits) -> None:
        for index in given:
            edits.vector(node, index)

    return Turned((0,), (0,), edit)


def repeated(node: ir.Node, order: Order) -> Turned | None:
    """Tile and Expand with a constant for every axis."""
    entries = _integers(input_at(node, 1))
    if entries is None or len(entries) != order.rank or not order.has(node.inputs[0]):
        return None
    return Turned((0,), (0,), lambda node, edits: edits.vector(node, 1))


def cumulative(node: ir.Node, order: Order) -> Turned | None:
    """CumSum: its axis is an input."""
    axis = _integers(input_at(node, 1))
    if axis is None or not order.has(node.inputs[0]):
        return None

    def edit(node: ir.Node, edits: Edits) -> None:
        edits.integers(node, 1, order.axis(axis[0]), "axis")

    return Turned((0,), (0,), edit)


def squeezed(node: ir.Node, order: Order) -> Turned | None:
    """Squeeze of constant axes, if the others keep their order."""
    axes = _integers(input_at(node, 1))
    if axes is None or not order.has(node.inputs[0]):
        return None
    return dropping(axes, False, order, set_axes(axes, 1))


def unsqueezed(node: ir.Node, order: Order) -> Turned | None:
    """Unsqueeze that gives a channels-last tensor, if its axes keep their order."""
    axes = _integers(input_at(node, 1))
    if axes is None or not order.has(node.outputs[0]) or dropping(axes, False, order, no_edit) is None:
        return None
    return Turned((), (0,), set_axes(axes, 1))


def flattened(node: ir.Node, order: Order) -> Turned | None:
    """Flatten to a row for each sample, if that is the same row."""
    dims = dim_keys(node.inputs[0])
    if dims is None or not order.has(node.inputs[0]) or not order.keeps_elements(dims):
        return None
    return Turned((0,), ()) if node.attributes.get_int("axis", 1) == 1 else None


def reshaped(node: ir.Node, order: Order) -> Turned | None:
    """Only where the order of the elements is the same in both forms: all spatial axes have size 1, or no channels."""
    before, after, target = dim_keys(node.inputs[0]), dim_keys(node.outputs[0]), _integers(input_at(node, 1))
    if before is None or after is None or target is None or node.attributes.get_int("allowzero"):
        return None
    written = _without_zeros(target, after)
    if written is None or not after:
        return None
    leaves = len(before) == order.rank and order.keeps_elements(before)
    enters = len(after) == order.rank and order.keeps_elements(after)
    if leaves and (len(after) != order.rank or after == tuple(order.first(before))):
        return Turned((0,), (), _set_target(written))
    if enters and (len(before) != order.rank or before == tuple(order.first(after))):
        return Turned((), (0,), _set_target(order.first(written)))
    return None


def _without_zeros(target: Sequence[int], after: Sequence[Dim]) -> list[int] | None:
    """The target with its zeros written as sizes, since they count axes that move; that of the first axis may stay."""
    pairs = enumerate(zip(target, after, strict=True))
    written = [size if entry == 0 and index else entry for index, (entry, size) in pairs]
    sizes = [entry for entry in written if isinstance(entry, int)]
    return sizes if len(sizes) == len(written) else None


def _set_target(target: Sequence[int]) -> Edit:
    def edit(node: ir.Node, edits: Edits) -> None:
        edits.integers(node, 1, target, "target")

    return edit


def measured(node: ir.Node, order: Order) -> Turned | None:
    """Shape: the sizes are reordered after it."""
    output = node.outputs[0]
    if not order.has(node.inputs[0]) or output.is_graph_output():
        return None
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end")
    wanted = np.array(order.to_first).argsort()[start:end]

    def edit(node: ir.Node, edits: Edits) -> None:
        assert node.graph is not None
        for name in ("start", "end"):
            node.attributes.pop(name, None)
        chosen = int64_initializer(node, f"{node.name}_order", [int(axis) for axis in wanted], edits.names)
        gather = ir.node("Gather", [output, chosen], num_outputs=1, name=edits.names.fresh(f"{node.name}_by_axis"))
        (result,) = gather.outputs
        result.name = edits.names.fresh(f"{gather.name}_output_0")
        result.type, result.shape = output.type, ir.Shape([len(wanted)])
        output.replace_all_uses_with(result)
        gather.replace_input_with(0, output)
        output.shape = ir.Shape([order.rank])
        node.graph.insert_after(node, gather)

    return Turned((0,), (), edit)
