"""Open lengths of inputs that a constant target of a Reshape, or a Split, fixes: the model runs at no other.

Exporters with an open batch bake the batch of the example into the targets of attention: ``Reshape(x[n, 196, 576],
[1, 196, 3, 4, 48])`` only runs where n is 1.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from edgeprune import lengths
from edgeprune.graph.edit import constant, dim_keys, input_at, is_op
from edgeprune.graph.size_candidates import data_inputs
from edgeprune.lengths import Dim


def forced_lengths(model: ir.Model) -> dict[str, int]:
    """Symbol -> the only length at which the model runs, for symbols of input axes. Shapes are inferred."""
    free = {d for value in data_inputs(model) for d in dim_keys(value) or () if isinstance(d, str)}
    found: dict[str, int] = {}
    for node in model.graph if free else ():
        computed, number = _equation(node)
        for symbol in free.intersection(lengths.symbols(computed)):
            times = lengths.divide(computed, symbol)
            if isinstance(times, int) and times > 0 and number > 0 and number % times == 0:
                found.setdefault(symbol, number // times)
    return found


def _equation(node: ir.Node) -> tuple[Dim, int]:
    """A length that must be a number, if a node needs that: elements of a Reshape, the parts of a Split."""
    source, given = input_at(node, 0), constant(input_at(node, 1))
    dims = None if source is None or given is None else dim_keys(source)
    if dims is None or given is None or all(isinstance(d, int) for d in dims):
        return None, 0
    if is_op(node, "Reshape") and (given > 0).all():
        return lengths.product(dims), math.prod(given.reshape(-1).tolist())
    if is_op(node, "Split"):
        return dims[node.attributes.get_int("axis", 0)], int(given.sum())
    return None, 0


def fix_inputs(model: ir.Model, sizes: dict[str, int]) -> dict[str, ir.Shape]:
    """Give axes of inputs, in place, the length of their symbol; returns the shapes before, by input."""
    before: dict[str, ir.Shape] = {}
    for value in data_inputs(model):
        dims = dim_keys(value)
        if dims is not None and value.shape is not None and any(d in sizes for d in dims):
            before[value.name or ""] = value.shape
            value.shape = ir.Shape([sizes.get(str(d), d) for d in dims])
    return before
