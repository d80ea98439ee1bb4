"""Whether one network can stand in for another on the clock: the same kernels on the same sizes, whatever its weights.

What a network of given widths and formats takes does not depend on the values of its weights, so it can be timed before
anything expensive is done for them. That holds for the very graph that is delivered, or it is not relied on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

import numpy as np
import onnx_ir as ir

BIAS_INPUT = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
"""What these kernels add on the way costs nothing."""


def same_work(one: ir.Model, other: ir.Model) -> bool:
    """Whether two networks do the same but for the values of weights, scales and zero points, and for missing biases.

    Nodes may have other names and another order. Networks with subgraphs are never the same.
    """
    works = [_work(model.graph) for model in (one, other)]
    return None not in works and works[0] == works[1]


def _work(graph: ir.Graph) -> Counter[Hashable] | None:
    """How often what is computed; every value is described by all that leads to it. None where that is not told."""
    known: dict[ir.Value, int] = {value: hash(("input", place)) for place, value in enumerate(graph.inputs)}
    found: Counter[Hashable] = Counter()
    for node in graph:
        attributes = frozenset((name, _attribute(a)) for name, a in node.attributes.items())
        if any(value is None for _, value in attributes):
            return None
        bias = BIAS_INPUT.get(node.op_type)
        read = [
            known[value] if value in known else _constant(value)
            for index, value in enumerate(node.inputs)
            if index != bias or (value is not None and value in known)
        ]
        work = hash((node.domain, node.op_type, attributes, *read))
        found[work] += 1
        known |= {value: hash((work, place)) for place, value in enumerate(node.outputs)}
    found.update(("output", known[value]) for value in graph.outputs if value in known)
    return found


def _attribute(attribute: ir.Attr) -> Hashable:
    if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return None
    if attribute.type == ir.AttributeType.TENSOR:
        return _described(attribute.as_tensor().numpy())
    return (attribute.type, str(attribute.value))


def _constant(value: ir.Value | None) -> Hashable:
    tensor = None if value is None else value.const_value
    return None if tensor is None else _described(tensor.numpy())


def _described(array: np.ndarray) -> Hashable:
    """Type and shape, and the values of what says where and how much: shapes, axes, indices, switches."""
    tells = array.dtype == np.int64 or array.dtype.kind in "bUSO"
    return (str(array.dtype), array.shape, array.tobytes() if tells else b"")
