"""Partition of a canonical graph into blocks: nodes that an inference runtime is timed on as one unit.

A block is a *weighted* node (a convolution or a MatMul with a constant) together with the pointwise nodes that runtimes
fuse into it: bias, activation, residual addition. A node that is neither weighted nor pointwise (Concat, Resize,
pooling, softmax, ...) is a block of its own, with the pointwise nodes behind it. Every node is in exactly one block.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.graph import is_op

WEIGHTED_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

POINTWISE_OPS = frozenset({
    "Abs", "Add", "BatchNormalization", "Cast", "Ceil", "Celu", "Clip", "Cos", "Div", "Elu", "Erf", "Exp", "Floor",
    "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "Not",
    "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt",
    "Sub", "Swish", "Tanh", "ThresholdedRelu", "Where", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
    "And", "Or", "Xor",
})  # fmt: skip


@dataclass(frozen=True)
class Block:
    """Nodes that are timed as one. ``anchor`` is the name of the weighted node, or of the first node if none is."""

    id: str
    anchor: str
    nodes: tuple[str, ...]
    weighted: bool


def is_weighted(node: ir.Node) -> bool:
    """Whether the node multiplies an activation by a constant weight."""
    if not is_op(node, *WEIGHTED_OPS):
        return False
    data, weight = node.inputs[0], node.inputs[1]
    constant = weight is not None and weight.const_value is not None
    return constant and data is not None and data.const_value is None


def partition(model: ir.Model) -> tuple[Block, ...]:
    """Blocks in graph order."""
    members: list[list[ir.Node]] = []
    block_of: dict[str, int] = {}
    for node in model.graph:
        name = node.name or ""
        home = _home(node, block_of) if is_op(node, *POINTWISE_OPS) else None
        if home is None:
            home = len(members)
            members.append([])
        members[home].append(node)
        block_of[name] = home
    return tuple(_block(i, nodes) for i, nodes in enumerate(members))


def _block(index: int, nodes: list[ir.Node]) -> Block:
    anchor = next((n for n in nodes if is_weighted(n)), nodes[0])
    return Block(f"b{index:04d}", str(anchor.name), tuple(str(n.name) for n in nodes), is_weighted(anchor))


def _home(node: ir.Node, block_of: dict[str, int]) -> int | None:
    """The latest block that the node reads: runtimes fuse a pointwise node into the operand that is computed last."""
    homes = [
        block_of[str(producer.name)]
        for v in node.inputs
        if v is not None and (producer := v.producer()) is not None and str(producer.name) in block_of
    ]
    return max(homes, default=None)
