"""Which nodes onnxruntime can run in INT8 on x86, and which of them should.

Some nodes have an INT8 kernel but stay in float, because 8 bits with one scale per tensor are not enough:

* nodes that read the probabilities of a Softmax. Nearly all probabilities are close to zero, and their sum matters
  where they are averaged (attention, the box distributions of a detector's head);
* sums that a normalization reads: the residual stream of a transformer has large outliers;
* nodes behind the last weighted layer: they decode outputs (coordinates and scores in one tensor) and cost little;
* nodes that compute no activations (`edgeprune.graph.value_roles`): positions, boxes, scales, thresholds, states;
* attention that onnxruntime runs as one kernel (`edgeprune.passes.x86.fuse_attention`), which is faster than its parts
  in INT8.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_ir as ir

from edgeprune.graph import Refused, is_op, opset_allows_int8, value_roles
from edgeprune.passes.quantize import affine_op_of
from edgeprune.passes.x86.convolve_batchnorm import is_image_batchnorm
from edgeprune.passes.x86.fuse_attention import attentions
from edgeprune.passes.x86.shuffle_pixels import tile_of

FLOAT_OUTPUT_OPS = frozenset({"MatMul", "Gemm"})
"""These have kernels with INT8 inputs and a float output."""

VIEW_OPS = frozenset({"Flatten", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"})
CARRY_OPS = VIEW_OPS | {"MaxPool", "Resize"}
"""Input and output share one scale: quantized values are only moved."""

CLIP_OPS = frozenset({"Relu", "Clip"})
"""These cost nothing after an INT8 node: the range of the output does the clipping."""

AFFINE_OPS = frozenset({"Div", "HardSigmoid", "HardSwish", "Sub"})
"""These have no INT8 kernel, but as affine ops (`edgeprune.passes.quantize.affine_ops`) they need none."""

_POINTWISE_OPS = frozenset({"Add", "BatchNormalization", "LeakyRelu", "Mul", "Sigmoid"})
COMPUTE_OPS = _POINTWISE_OPS | {"AveragePool", "Concat", "Conv", "ConvTranspose", "GlobalAveragePool"}

INT8_OPS = FLOAT_OUTPUT_OPS | CARRY_OPS | CLIP_OPS | COMPUTE_OPS | AFFINE_OPS

_POINTWISE = CLIP_OPS | AFFINE_OPS | _POINTWISE_OPS
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_NORMALIZATIONS = frozenset(
    {"LayerNormalization", "ReduceMean", "RMSNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization"}
)


def int8_eligible(model: ir.Model) -> dict[str, bool | Refused]:
    """For every node of the main graph, whether it may run in INT8, or why not."""
    if not (possible := opset_allows_int8(model)):
        return {str(n.name): possible for n in model.graph}
    probabilities = _derived(model.graph, {"Softmax"})
    before = _before_last_weight(model.graph, probabilities)
    fused = {n for attention in attentions(model.graph) for n in attention.nodes}
    roles = value_roles(model.graph)
    return {
        str(n.name): _possible(n) and _activation(n, roles) and _sensible(n, probabilities, before, fused)
        for n in model.graph
    }


def data_inputs(node: ir.Node) -> list[ir.Value]:
    """Inputs that are activations or constants of an elementwise node, not shapes, axes or weights."""
    if node.op_type in ("Add", "Mul", "Concat") or (node.op_type == "MatMul" and weight_of(node) is None):
        return [v for v in node.inputs if v is not None]
    return [v for v in node.inputs[:1] if v is not None]


def weight_of(node: ir.Node) -> ir.Value | None:
    """The second input if it is constant."""
    v = node.inputs[1]
    return v if v is not None and v.const_value is not None else None


def output_axis(node: ir.Node, rank: int) -> int | None:
    """The output-channel axis of the weight of a Conv, Gemm or MatMul; None for a batch of matrices."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return 1 if rank == 2 else None


def _possible(node: ir.Node) -> bool | Refused:
    if not is_op(node, *INT8_OPS):
        return Refused(f"onnxruntime has no INT8 kernel for {node.op_type}")
    if not all(v.dtype == ir.DataType.FLOAT for v in data_inputs(node)):
        return Refused("its inputs are not float32")
    if node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") != "nearest":
        return Refused("only a nearest-neighbour Resize runs in INT8")
    if node.op_type == "ConvTranspose" and tile_of(node) is None:
        return Refused("onnxruntime has an INT8 kernel for a ConvTranspose only if its kernel is as long as its stride")
    if node.op_type == "BatchNormalization" and not is_image_batchnorm(node):
        return Refused("only a BatchNormalization of images with constant statistics can be written as a convolution")
    if node.op_type in ("Conv", "Gemm"):
        if any(v is not None and v.const_value is None for v in node.inputs[1:]):
            return Refused("its weight is computed")
        if node.op_type == "Gemm" and any(node.attributes.get_float(a, 1.0) != 1 for a in ("alpha", "beta")):
            return Refused("its alpha or beta is not 1")
    if node.op_type in AFFINE_OPS - {"HardSwish"} and affine_op_of(node) is None:
        return Refused(f"onnxruntime has no INT8 kernel for {node.op_type}, and it is no affine op")
    if node.op_type in ("Add", "Mul") and any(
        v.const_value is not None and v.const_value.size > 1 for v in data_inputs(node)
    ):
        return Refused("it combines with a constant tensor")
    if not any(v.const_value is None for v in data_inputs(node)):
        return Refused("its inputs are constant")
    return True


def _activation(node: ir.Node, roles: Mapping[ir.Value, str]) -> bool | Refused:
    """Whether a node computes activations from activations; a layer may compute something else from them."""
    role = next((roles[v] for v in node.outputs if v in roles), None)
    if role is None or (
        is_op(node, *FLOAT_OUTPUT_OPS) and weight_of(node) is not None and data_inputs(node)[0] not in roles
    ):
        return True  # a MatMul has a float output
    return Refused(f"it computes {role}, which is no activation")


def _sensible(
    node: ir.Node, probabilities: Collection[ir.Value], before: Collection[ir.Node], fused: Collection[ir.Node]
) -> bool | Refused:
    if node in fused:
        return Refused("it is part of an attention, which is one float kernel")
    if any(v in probabilities for v in node.inputs):
        return Refused("it reads the probabilities of a Softmax")
    if node.op_type == "Add" and any(c.op_type in _NORMALIZATIONS for v in node.outputs for c in v.consumers()):
        return Refused("a normalization reads its sum")
    if node not in before:
        return Refused("it follows the last weighted layer")
    return True


def _derived(graph: ir.Graph, op_types: Collection[str]) -> set[ir.Value]:
    """Outputs of these operators, and values that are only moved or concatenated from them."""
    found: set[ir.Value] = set()
    for node in graph:
        moved = is_op(node, *VIEW_OPS, "Concat") and any(v in found for v in node.inputs)
        if moved or is_op(node, *op_types):
            found.update(node.outputs)
    return found


def _before_last_weight(graph: ir.Graph, probabilities: Collection[ir.Value]) -> set[ir.Node]:
    """Weighted layers, the pointwise nodes right behind them, and all nodes before a weighted layer.

    A weighted layer that reads probabilities does not count: it decodes outputs.
    """
    weighted = {
        n
        for n in graph
        if is_op(n, *_WEIGHTED)
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
