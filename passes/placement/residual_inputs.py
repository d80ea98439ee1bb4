"""Residuals that are quantized so that an INT8 convolution and the addition behind it are one kernel."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx_ir as ir

from edgeprune.graph import value_roles


def residual_inputs(nodes: Collection[ir.Node]) -> Iterator[tuple[ir.Node, ir.Value]]:
    """(Add node, its residual input) for every Add that a runtime fuses with an INT8 convolution.

    TensorRT and OpenVINO compute ``Conv + residual`` in one kernel if the residual is quantized and the branch that the
    kernel computes is not. If both branches end in a convolution, the later one is fused. Adds behind MatMuls are left
    out: the residual stream of a transformer has outliers that one scale cannot represent. An Add to positions or to a
    state is left out too.
    """
    position = {node: index for index, node in enumerate(nodes)}
    chosen = set(position)
    done: set[ir.Node] = set()
    roles = value_roles(graph) if nodes and (graph := next(iter(nodes)).graph) is not None else {}
    for conv in position:
        for add in conv.outputs[0].consumers() if conv.op_type == "Conv" else ():
            branches = [value for value in add.inputs if value is not None]
            if (
                add in done
                or add.op_type != "Add"
                or add.outputs[0] in roles
                or len(branches) != 2
                or any(v.const_value is not None for v in branches)
            ):
                continue
            done.add(add)
            if branches[0].shape is None or branches[0].shape != branches[1].shape:
                continue
            fused = [v for v in branches if _is_private_conv(v, chosen)]
            if not fused:
                continue
            last = max(fused, key=lambda v: position[_producer(v)])
            (residual,) = (v for v in branches if v is not last) if branches[0] is not branches[1] else (None,)
            if residual is not None:
                yield add, residual


def _is_private_conv(value: ir.Value, chosen: Collection[ir.Node]) -> bool:
    """Whether an INT8 convolution computes the value and exactly one node reads it."""
    producer = value.producer()
    return (
        producer is not None
        and producer.op_type == "Conv"
        and producer in chosen
        and len(value.uses()) == 1
        and not value.is_graph_output()
    )


def _producer(value: ir.Value) -> ir.Node:
    producer = value.producer()
    assert producer is not None
    return producer
