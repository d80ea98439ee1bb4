"""Quantized values that must share one scale, so that nothing is requantized where they meet."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx_ir as ir

_COMMUTING_OPS = frozenset(
    {"MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Identity", "DepthToSpace"}
)
"""Quantizing before or after these gives the same numbers, so values on both sides can share a scale."""


def shared_scales(graph: ir.Graph, quantized: Collection[ir.Value]) -> list[set[ir.Value]]:
    """Sets of quantized values that must share one scale: a Concat's quantized output and its quantized inputs.

    An input also counts as quantized if it is quantized before operators that commute with quantization (a MaxPool).
    With different scales the runtime would have to requantize every branch.
    """
    parent = {value: value for value in quantized}

    def root(value: ir.Value) -> ir.Value:
        while parent[value] is not value:
            value = parent[value]
        return value

    for node in graph:
        if node.op_type == "Concat" and (ends := _quantized_after(node.outputs[0], parent)):
            for value in (*ends, *(s for v in node.inputs if v is not None for s in _quantized_before(v, parent))):
                parent[root(value)] = root(ends[0])
    groups: dict[ir.Value, set[ir.Value]] = {}
    for value in parent:
        groups.setdefault(root(value), set()).add(value)
    return [group for group in groups.values() if len(group) > 1]


def _quantized_before(value: ir.Value, quantized: Collection[ir.Value]) -> Iterator[ir.Value]:
    """The value if it is quantized, otherwise the quantized values before commuting operators."""
    if value in quantized:
        yield value
        return
    producer = value.producer()
    if producer is not None and producer.op_type in _COMMUTING_OPS and producer.inputs[0] is not None:
        yield from _quantized_before(producer.inputs[0], quantized)


def _quantized_after(value: ir.Value, quantized: Collection[ir.Value]) -> list[ir.Value]:
    """The value if it is quantized, otherwise the quantized values behind commuting operators."""
    if value in quantized:
        return [value]
    following = [node for node in value.consumers() if node.op_type in _COMMUTING_OPS and node.inputs[0] is value]
    return [found for node in following for output in node.outputs for found in _quantized_after(output, quantized)]
