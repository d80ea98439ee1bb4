"""Write a BatchNormalization that could not be folded as a depthwise 1x1 convolution.

Behind a Concat or an Add, as in networks that normalize first (DenseNet, ResNet v2), it cannot be folded. onnxruntime
has no INT8 kernel for it. Its float kernel needs channels first, while INT8 tensors are channels last: each
BatchNormalization costs two conversions and two transpositions. As a convolution, with the Relu behind it, it is one
INT8 kernel.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from edgeprune.graph import constant, dim_keys, is_op, new_initializer, new_node
from edgeprune.passes.x86.edits import take_place


def is_image_batchnorm(node: ir.Node) -> bool:
    """Whether a node is a BatchNormalization of images with constant statistics and one output."""
    if not is_op(node, "BatchNormalization") or node.attributes.get_int("training_mode") or len(node.inputs) != 5:
        return False
    constants = [constant(v) for v in node.inputs[1:]]
    alone = not any(v.uses() or v.is_graph_output() for v in node.outputs[1:])
    rank = len(dim_keys(node.inputs[0]) or ())
    return alone and all(c is not None and c.dtype == np.float32 for c in constants) and rank == 4


def convolve_batchnorm(graph: ir.Graph, nodes: Collection[str]) -> None:
    """Replace each named node that is an `is_image_batchnorm` by a convolution of the same name, in place."""
    for node in [n for n in graph if n.name in nodes and is_image_batchnorm(n)]:
        gamma, beta, mean, variance = (np.float64(constant(v)) for v in node.inputs[1:])
        scale = gamma / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
        name, source = str(node.name), node.inputs[0]
        assert source is not None
        weight = new_initializer(graph, f"{name}_scale", scale.astype(np.float32).reshape(-1, 1, 1, 1))
        bias = new_initializer(graph, f"{name}_shift", (beta - mean * scale).astype(np.float32))
        attributes = {"kernel_shape": [1, 1], "group": len(scale)}
        convolution = new_node(graph, "Conv", [source, weight, bias], f"{name}_conv", ir.DataType.FLOAT, attributes)
        take_place(graph, node, convolution)
