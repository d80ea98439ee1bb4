"""Which nodes onnxruntime can run on integers on x86, and which of them should.

Some nodes could, but are kept out, since 8 bits of one scale per tensor do not hold what they carry:

* probabilities: what reads a Softmax's output. Nearly all of them are next to zero, and those decide where they are
  averaged over (attention, the box distributions of a detector's head);
* sums that a normalization reads: the residual stream of a transformer has outliers far beyond the rest;
* what follows the last weighted layer: it decodes outputs (coordinates beside scores), at next to no cost;
* attention that onnxruntime runs as one kernel (`edgeprune.passes.x86.fuse_attention`), which is faster than its parts
  on integers.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from edgeprune.graph import Refused
from edgeprune.passes.quantize import affine_op_of
from edgeprune.passes.x86.fuse_attention import attentions
from edgeprune.passes.x86.scale_channels import is_channel_scale
from edgeprune.passes.x86.shuffle_pixels import tile_of

FLOAT_OUTPUT_OPS = frozenset({"MatMul", "Gemm"})
"""There are kernels that take integers and give floats."""

VIEW_OPS = frozenset({"Flatten", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"})
CARRY_OPS = VIEW_OPS | {"MaxPool", "Resize"}
"""In and out share one scale: the integers are only moved."""

CLIP_OPS = frozenset({"Relu", "Clip"})
"""These cost nothing after an integer node: the range of the output does the clipping."""

COMPUTE_OPS = frozenset(
    {
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Concat",
        "Conv",
        "ConvTranspose",
        "GlobalAveragePool",
        "LeakyRelu",
        "Mul",
        "Sigmoid",
    }
)
RAMP_OPS = frozenset({"Div", "HardSigmoid", "HardSwish", "Sub"})
"""There are no kernels for these, but as ramps (`edgeprune.passes.quantize.affine_ops`) they need none."""

INT8_OPS = FLOAT_OUTPUT_OPS | CARRY_OPS | CLIP_OPS | COMPUTE_OPS | RAMP_OPS

_POINTWISE = CLIP_OPS | RAMP_OPS | {"Add", "BatchNormalization", "LeakyRelu", "Mul", "Sigmoid"}
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_NORMALIZATIONS = frozenset(
    {"LayerNormalization", "ReduceMean", "RMSNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization"}
)
_ONNX = ("", "ai.onnx")


def int8_eligible(model: ir.Model) -> dict[str, bool | Refused]:
    """For every node of the main graph, whether it may run on integers, or why not."""
    probabilities = _derived(model.graph, {"Softmax"})
    before = _before_last_weight(model.graph, probabilities)
    fused = {n for attention in attentions(model.graph) for n in attention.nodes}
    return {str(n.name): _possible(n) and _sensible(n, probabilities, before, fused) for n in model.graph}


def data_inputs(node: ir.Node) -> list[ir.Value]:
    """Inputs that carry activations or their constants, not shapes, axes or weights."""
    if node.op_type in ("Add", "Mul", "Concat") or (node.op_type == "MatMul" and weight_of(node) is None):
        return [v for v in node.inputs if v is not None]
    return [v for v in node.inputs[:1] if v is not None]


def weight_of(node: ir.Node) -> ir.Value | None:
    """The second input, if it is constant."""
    v = node.inputs[1]
    return v if v is not None and v.const_value is not None else None


def output_axis(node: ir.Node, rank: int) -> int | None:
    """The output-channel axis of the weight of a Conv, Gemm or MatMul; None where a batch of matrices has none."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return 1 if rank == 2 else None


def _possible(node: ir.Node) -> bool | Refused:
    if node.domain not in _ONNX or node.op_type not in INT8_OPS:
        return Refused(f"onnxruntime has no integer kernel for {node.op_type}")
    if not all(v.dtype == ir.DataType.FLOAT for v in data_inputs(node)):
        return Refused("its inputs are not float32")
    if node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") != "nearest":
        return Refused("only nearest-neighbour Resize moves integers")
    if node.op_type == "ConvTranspose" and tile_of(node) is None:
        return Refused(
            "onnxruntime has no integer kernel for a ConvTranspose, unless its kernel is as long as its stride"
        )
    if node.op_type == "BatchNormalization" and not is_channel_scale(node):
        return Refused("only a BatchNormalization of images with constant statistics is a convolution")
    if node.op_type in ("Conv", "Gemm"):
        if any(v is not None and v.const_value is None for v in node.inputs[1:]):
            return Refused("its weight is computed")
        if node.op_type == "Gemm" and any(node.attributes.get_float(a, 1.0) != 1 for a in ("alpha", "beta")):
            return Refused("its alpha or beta is not 1")
    if node.op_type in RAMP_OPS - {"HardSwish"} and affine_op_of(node) is None:
        return Refused(f"onnxruntime has no integer kernel for {node.op_type}, and it does more than shift and stretch")
    if node.op_type in ("Add", "Mul") and any(
        v.const_value is not None and v.const_value.size > 1 for v in data_inputs(node)
    ):
        return Refused("it combines with a constant tensor")
    if not any(v.const_value is None for v in data_inputs(node)):
        return Refused("its inputs are constant")
    return True


def _sensible(
    node: ir.Node, probabilities: Collection[ir.Value], before: Collection[ir.Node], fused: Collection[ir.Node]
) -> bool | Refused:
    if node in fused:
        return Refused("it is part of an attention, which is one kernel in float")
    if any(v in probabilities for v in node.inputs):
        return Refused("it reads the probabilities of a Softmax")
    if node.op_type == "Add" and any(c.op_type in _NORMALIZATIONS for v in node.outputs for c in v.consumers()):
        return Refused("a normalization reads its sum")
    if node not in before:
        return Refused("it follows the last weighted layer")
    return True


def _derived(graph: ir.Graph, op_types: Collection[str]) -> set[ir.Value]:
    """Outputs of these operators, and what is only moved or gathered from them."""
    found: set[ir.Value] = set()
    for node in graph:
        moved = node.op_type in VIEW_OPS | {"Concat"} and any(v in found for v in node.inputs)
        if node.domain in _ONNX and (node.op_type in op_types or moved):
            found.update(node.outputs)
    return found


def _before_last_weight(graph: ir.Graph, probabilities: Collection[ir.Value]) -> set[ir.Node]:
    """Weighted layers, the pointwise nodes right behind them, and all that some weighted layer comes after.

    A weighted layer that reads probabilities counts for none: it decodes.
    """
    weighted = {
        n
        for n in graph
        if n.domain in _ONNX
        and n.op_type in _WEIGHTED
        and not any(v in probabilities for v in n.inputs)
        and any(v is not None and v.const_value is not None for v in n.inputs)
    }
    before = set(weighted)
    for node in reversed(graph):
        if any(c in before for v in node.outputs for c in v.consumers()):
            before.add(node)
    behind = set(weighted)
    for node in graph:
        if node.op_type in _POINTWISE and any(v is not None and v.producer() in behind for v in node.inputs):
            behind.add(node)
    return before | behind
