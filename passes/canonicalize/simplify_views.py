"""Write a run of reshapes, squeezes and flattens as one Reshape, and transposes as one Transpose."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.graph import (
    Names,
    add_initializer,
    add_node,
    aligned_groups,
    constant,
    constant_target,
    dim_keys,
    input_at,
    ints_attribute,
    is_op,
    only_use,
    replace_value,
)

_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def simplify_view(node: ir.Node, names: Names) -> int:
    """Simplify what ends in ``node``, in place; returns the number of changes, 0 or 1."""
    if is_op(node, "Transpose") and _merge_transposes(node):
        return 1
    if is_op(node, "Squeeze") and _squeeze_before_transpose(node, names):
        return 1
    return int(_is_view(node) and _collapse(node, names))


def _is_view(node: ir.Node | None) -> bool:
    """Whether a node leaves all elements in their order: a reshape, or a transpose that moves axes of size 1 only."""
    if node is None or not node.inputs:
        return False
    if is_op(node, *_VIEWS):
        return all(constant(value) is not None for value in node.inputs[1:])
    dims, perm = dim_keys(node.inputs[0]), ints_attribute(node, "perm")
    if not is_op(node, "Transpose") or dims is None or perm is None:
        return False
    moved = [p for p in perm if dims[p] != 1]
    return moved == sorted(moved)


def _collapse(node: ir.Node, names: Names) -> bool:
    """Replace the run of views that ends here by one Reshape, if it splits or merges each axis, not both at once."""
    use = only_use(node.outputs[0])
    if use is not None and use[1] == 0 and _is_view(use[0]):
        return False  # the run goes on
    first, length = node, 1
    while (
        (source := first.inputs[0]) is not None
        and only_use(source) is not None
        and _is_view(before := source.producer())
    ):
        assert before is not None
        first, length = before, length + 1
    source = first.inputs[0]
    dims, wanted = dim_keys(source), dim_keys(node.outputs[0])
    if length < 2 or source is None or dims is None or wanted is None:
        return False
    groups = aligned_groups(dims, wanted)
    paired = sum(len(own) for own, _ in groups), sum(len(others) for _, others in groups)
    if paired != (sum(d != 1 for d in dims), sum(d != 1 for d in wanted)):
        return False
    target = constant_target(dims, wanted)
    if target is None or any(len(own) > 1 and len(others) > 1 for own, others in groups):
        return False
    assert node.graph is not None
    shape = add_initializer(node.graph, names.fresh(f"{node.name}_target"), np.asarray(target, np.int64))
    node.op_type = "Reshape"
    node.attributes.clear()
    node.resize_inputs(2)
    node.replace_input_with(0, source)
    node.replace_input_with(1, shape)
    return True


def _merge_transposes(node: ir.Node) -> bool:
    source = node.inputs[0]
    before = source.producer() if source is not None else None
    if before is None or not is_op(before, "Transpose") or before.graph is not node.graph:
        return False
    first, second = ints_attribute(before, "perm"), ints_attribute(node, "perm")
    if first is None or second is None:
        return False
    node.attributes["perm"] = ir.AttrInt64s("perm", [first[p] for p in second])
    node.replace_input_with(0, before.inputs[0])
    return True


def _squeeze_before_transpose(node: ir.Node, names: Names) -> bool:
    """``Squeeze(Transpose(x))`` is ``Transpose(Squeeze(x))``; the squeeze can then merge with the reshape before."""
    source, axes = node.inputs[0], constant(input_at(node, 1))
    before = source.producer() if source is not None else None
    if before is None or axes is None or not is_op(before, "Transpose") or before.graph is not node.graph:
        return False
    perm = ints_attribute(before, "perm")
    if perm is None or before.inputs[0] is None or only_use(before.outputs[0]) is None:
        return False
    gone = {perm[int(axis) % len(perm)] for axis in axes.reshape(-1)}
    left = [p for p in perm if p not in gone]
    renumbered = {p: index for index, p in enumerate(sorted(left))}
    assert node.graph is not None
    where = add_initializer(node.graph, names.fresh(f"{node.name}_axes"), np.asarray(sorted(gone), np.int64))
    squeezed = add_node(node, "Squeeze", [before.inputs[0], where], names, name=f"{node.name}_moved")
    permutation = ir.AttrInt64s("perm", [renumbered[p] for p in left])
    turned = add_node(
        node, "Transpose", [squeezed.outputs[0]], names, attributes=[permutation], name=f"{before.name}_squeezed"
    )
    for value in (squeezed.outputs[0], turned.outputs[0]):
        value.type = node.outputs[0].type
    dims = before.inputs[0].shape
    squeezed.outputs[0].shape = None if dims is None else ir.Shape([d for a, d in enumerate(dims) if a not in gone])
    turned.outputs[0].shape = node.outputs[0].shape
    return replace_value(node.outputs[0], turned.outputs[0])
