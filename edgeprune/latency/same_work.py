"""Whether one network is a proxy model of another for timing: the same kernels on the same sizes.

The latency of a network with given widths and formats does not depend on the values of its weights. So a proxy model
with other weights can be timed before the weights are computed. The latency counts only if the delivered graph does the
same work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

import numpy as np
import onnx_ir as ir

BIAS_INPUT = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
"""Input number of the bias, which costs nothing in these kernels."""


def same_work(one: ir.Model, other: ir.Model) -> bool:
    """Whether two networks differ only in the values of weights, scales and zero points, and in missing biases.

    Names and order of nodes may differ. Networks with subgraphs are never the same.
    """
    works = [_work(model.graph) for model in (one, other)]
    return None not in works and works[0] == works[1]


def _work(graph: ir.Graph) -> Counter[Hashable] | None:
    """How often each computation occurs; a value is described by everything before it. None if there are subgraphs."""
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
    """Type and shape, and also the values of shapes, axes, indices and booleans, because they decide the work."""
    decides = array.dtype == np.int64 or array.dtype.kind in "bUSO"
    return (str(array.dtype), array.shape, array.tobytes() if decides else b"")
