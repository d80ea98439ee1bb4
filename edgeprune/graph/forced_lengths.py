"""Open lengths of inputs that a Reshape to a constant target fixes: the model runs at no other.

Exporters with an open batch bake the batch of the example into the targets of attention: ``Reshape(x[n, 196, 576],
[1, 196, 3, 4, 48])`` only runs where n is 1.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeprune import lengths
from edgeprune.graph.edit import constant, dim_keys, input_at, is_op
from edgeprune.graph.size_candidates import data_inputs


def forced_lengths(model: ir.Model) -> dict[str, int]:
    """Symbol -> the only length at which the model runs, for symbols of input axes. Shapes are inferred."""
    open_ = {d for value in data_inputs(model) for d in dim_keys(value) or () if isinstance(d, str)}
    found: dict[str, int] = {}
    for node in model.graph if open_ else ():
        target = constant(input_at(node, 1)) if is_op(node, "Reshape") else None
        dims = dim_keys(node.inputs[0]) if target is not None and node.inputs[0] is not None else None
        if target is None or dims is None or not open_.intersection(map(str, dims)) or (target < 1).any():
            continue
        whole = lengths.product([int(d) for d in target.reshape(-1)])
        for k, d in enumerate(dims):
            rest = lengths.product([*dims[:k], *dims[k + 1 :]])
            size = whole // rest if isinstance(whole, int) and isinstance(rest, int) and rest else 0
            if isinstance(d, str) and d in open_ and size > 0 and size * int(str(rest)) == whole:
                found.setdefault(d, size)
    return found


def fix_inputs(model: ir.Model, sizes: dict[str, int]) -> dict[str, ir.Shape]:
    """Give axes of inputs, in place, the length of their symbol; returns the shapes before, by input."""
    before: dict[str, ir.Shape] = {}
    for value in data_inputs(model):
        dims = dim_keys(value)
        if dims is not None and value.shape is not None and any(d in sizes for d in dims):
            before[value.name or ""] = value.shape
            value.shape = ir.Shape([sizes.get(str(d), d) for d in dims])
    return before
