"""Peak memory of computed tensors, counted from their shapes."""

from __future__ import annotations

import math
from collections import Counter

import onnx_ir as ir

from edgeprune.graph.edit import static_shape
from edgeprune.graph.reshape_axes import VIEWS

_ALIASES = (*VIEWS, "Identity", "DequantizeLinear")
"""Operators whose result is in the memory of their first input: runtimes copy nothing."""


def peak_activation_bytes(model: ir.Model) -> int | None:
    """The peak bytes of inputs and computed tensors that live at the same time when the nodes run in their order.

    A tensor lives from the node that computes it to its last reader, an input from the start, an output to the end.
    Views take no memory of their own. Between QuantizeLinear and DequantizeLinear a tensor counts at its INT8 size, as
    in a runtime that fuses the two. The workspace of kernels is not counted.

    Args:
        model: with the shapes of all values; dimensions must be fixed.

    Returns:
        Bytes, or None if a shape or type is not known.
    """
    nodes = list(model.graph)
    owners = _owners(nodes)
    computed = {id(v) for n in nodes for v in n.outputs} | {id(v) for v in model.graph.inputs}
    readers: Counter[int] = Counter()
    for node in nodes:
        readers.update({id(owners[id(v)]) for v in node.inputs if v is not None and id(v) in computed})
    readers.update(id(owners.get(id(v), v)) for v in model.graph.outputs)
    constants = {id(v) for v in model.graph.initializers.values()}
    live: dict[int, int] = {}
    for value in model.graph.inputs:
        if id(value) not in constants:
            size = _bytes(value)
            if size is None:
                return None
            live[id(value)] = size
    peak = sum(live.values())
    for node in nodes:
        for value in node.outputs:
            if owners[id(value)] is value:
                size = _bytes(_stored_as(value))
                if size is None:
                    return None
                live[id(value)] = size
        peak = max(peak, sum(live.values()))
        for key in {id(owners[id(v)]) for v in node.inputs if v is not None and id(v) in computed}:
            readers[key] -= 1
        for either in (*node.inputs, *node.outputs):
            key = id(owners.get(id(either), either))
            if key in live and readers[key] <= 0:
                del live[key]
    return peak


def _owners(nodes: list[ir.Node]) -> dict[int, ir.Value]:
    """Id of a value -> the value that owns its memory."""
    owners: dict[int, ir.Value] = {}
    for node in nodes:
        for value in node.inputs:
            if value is not None:
                owners.setdefault(id(value), value)
        source = node.inputs[0] if node.inputs else None
        shares = node.op_type in _ALIASES or _is_only_quantized(node)
        for value in node.outputs:
            owners[id(value)] = owners[id(source)] if shares and source is not None else value
    return owners


def _is_only_quantized(node: ir.Node) -> bool:
    """Whether the node is a QuantizeLinear and the only reader of a computed tensor, which is then stored quantized."""
    source = node.inputs[0] if node.inputs else None
    return (
        node.op_type == "QuantizeLinear"
        and source is not None
        and source.producer() is not None
        and len(source.uses()) == 1
        and not source.is_graph_output()
    )


def _stored_as(value: ir.Value) -> ir.Value:
    """The quantized form of a tensor whose only reader quantizes it, else the tensor itself."""
    readers = list(value.consumers())
    if len(readers) == 1 and _is_only_quantized(readers[0]) and readers[0].inputs[0] is value:
        return readers[0].outputs[0]
    return value


def _bytes(value: ir.Value) -> int | None:
    if value.name == "" or value.dtype is ir.DataType.STRING:
        return 0
    shape = static_shape(value)
    return None if shape is None or value.dtype is None else math.ceil(math.prod(shape) * value.dtype.itemsize)
