"""Write a sequence of reshapes, squeezes and flattens as one Reshape, and transposes as one Transpose."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.graph import (
    VIEWS,
    Names,
    add_node,
    aligned_groups,
    constant,
    constant_target,
    dim_keys,
    input_at,
    int64_initializer,
    ints_attribute,
    is_op,
    only_use,
    replace_value,
    turn_into_reshape,
)


def simplify_view(node: ir.Node, names: Names) -> int:
    """Simplify the views that end in ``node``, in place; returns the number of changes, 0 or 1."""
    if is_op(node, "Transpose") and _merge_transposes(node):
        return 1
    if is_op(node, "Squeeze") and _squeeze_before_transpose(node, names):
        return 1
    return int(_is_view(node) and _collapse(node, names))


def _is_view(node: ir.Node | None) -> bool:
    """Whether a node keeps the order of all elements: a reshape, or a transpose that moves only axes of size 1."""
    if node is None or not node.inputs:
        return False
    if is_op(node, *VIEWS):
        return all(constant(value) is not None for value in node.inputs[1:])
    if not is_op(node, "Transpose"):
        return False
    dims, perm = dim_keys(node.inputs[0]), ints_attribute(node, "perm")
    if dims is None or perm is None:
        return False
    moved = [p for p in perm if dims[p] != 1]
    return moved == sorted(moved)


def _collapse(node: ir.Node, names: Names) -> bool:
    """Replace the sequence of views that ends here by one Reshape, if no axis is both split and merged."""
    use = only_use(node.outputs[0])
    if use is not None and use[1] == 0 and _is_view(use[0]):
        return False  # the sequence continues
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
    turn_into_reshape(node, source, target, names)
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
    """Write ``Squeeze(Transpose(x))`` as ``Transpose(Squeeze(x))``, so that the squeeze can merge with a reshape."""
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
    where = int64_initializer(node, f"{node.name}_axes", sorted(gone), names)
    squeezed = add_node(node, "Squeeze", [before.inputs[0], where], names, name=f"{node.name}_moved")
    dims = before.inputs[0].shape
    squeezed.type = node.outputs[0].type
    squeezed.shape = None if dims is None else ir.Shape([d for a, d in enumerate(dims) if a not in gone])
    perms = [ir.AttrInt64s("perm", [renumbered[p] for p in left])]
    name = f"{before.name}_squeezed"
    turned = add_node(node, "Transpose", [squeezed], names, attributes=perms, name=name, like=node.outputs[0])
    return replace_value(node.outputs[0], turned)
