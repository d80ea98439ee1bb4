"""Turn channel shuffles (Reshape, Transpose, Reshape) into one Gather.

A shuffle of ``(g c)`` to ``(c g)`` is a permutation of the channels. As a reshape it can only lose channels in whole
rows of the grid, which ties the channels of all later blocks together; as a Gather it can lose any single channel. It
moves the same bytes.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.graph import Names, add_initializer, ints_attribute, is_op, only_use, replace_value


def merge_shuffles(model: ir.Model) -> int:
    """Replace, in place, every shuffle of one axis by a Gather; returns how many. Dead nodes stay."""
    names, count = Names(model), 0
    for last in list(model.graph):
        found = _shuffle(last) if is_op(last, "Reshape") else None
        if found is None:
            continue
        source, axis, order = found
        index = add_initializer(model.graph, names.fresh(f"{last.name}_order"), order)
        gather = ir.node("Gather", [source, index], {"axis": axis}, name=names.fresh(f"{last.name}_shuffle"))
        result, old = gather.outputs[0], last.outputs[0]
        result.name, result.type, result.shape = names.fresh(f"{old.name}_shuffled"), old.type, old.shape
        model.graph.insert_after(last, gather)
        count += replace_value(old, result)
    return count


def _shuffle(last: ir.Node) -> tuple[ir.Value, int, np.ndarray] | None:
    """The source, the axis and the order of its positions, if a Reshape ends a shuffle of a single axis."""
    transpose = _only_producer(last.inputs[0], "Transpose")
    first = _only_producer(transpose.inputs[0], "Reshape") if transpose is not None else None
    if transpose is None or first is None or first.inputs[0] is None:
        return None
    source, middle, result = first.inputs[0], first.outputs[0], last.outputs[0]
    if source.shape is None or middle.shape is None or source.shape != result.shape or result.is_graph_output():
        return None
    perm = ints_attribute(transpose, "perm") or ()
    extra = len(middle.shape) - len(source.shape)
    if extra < 1 or len(perm) != len(middle.shape):
        return None
    for axis, size in enumerate(source.shape):
        factors = [d for d in middle.shape[axis : axis + extra + 1] if isinstance(d, int)]
        outside = [k for k in range(len(perm)) if not axis <= k <= axis + extra]
        if (
            isinstance(size, int)
            and len(factors) == extra + 1
            and np.prod(factors) == size
            and (*middle.shape[:axis], size, *middle.shape[axis + extra + 1 :]) == tuple(source.shape)
            and all(perm[k] == k for k in outside)
            and sum(f != 1 for f in factors) > 1
        ):
            inner = [perm[k] - axis for k in range(axis, axis + extra + 1)]
            return source, axis, np.arange(size, dtype=np.int64).reshape(factors).transpose(inner).reshape(-1)
    return None


def _only_producer(value: ir.Value | None, op: str) -> ir.Node | None:
    """The producer of a value with a single reader, if it is of the given operator."""
    node = value.producer() if value is not None and only_use(value) is not None else None
    return node if is_op(node, op) else None
