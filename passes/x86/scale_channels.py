"""A BatchNormalization that stands alone, as the depthwise 1x1 convolution that it is.

Behind a Concat or a sum, as in networks that normalize first (DenseNet, ResNet v2), it cannot be folded. There is no
integer kernel for it, and the one in float wants channels first, while integers lie channels last: each costs two
conversions and two transpositions. As a convolution, with the Relu behind it, it is one integer kernel.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from edgeprune.graph import constant, dim_keys, int_attribute, is_op, new_initializer, new_node, replace_value


def is_channel_scale(node: ir.Node) -> bool:
    """Whether a node is a BatchNormalization of images with constant statistics, and gives nothing else."""
    if not is_op(node, "BatchNormalization") or int_attribute(node, "training_mode", 0) or len(node.inputs) != 5:
        return False
    constants = [constant(v) for v in node.inputs[1:]]
    alone = not any(v.uses() or v.is_graph_output() for v in node.outputs[1:])
    return alone and all(c is not None and c.dtype == np.float32 for c in constants) and _rank(node) == 4


def scale_channels(graph: ir.Graph, nodes: Collection[str]) -> None:
    """Replace those of the named nodes that are a `is_channel_scale` by convolutions of their names, in place."""
    for node in [n for n in graph if n.name in nodes and is_channel_scale(n)]:
        gamma, beta, mean, variance = (np.float64(constant(v)) for v in node.inputs[1:])
        scale = gamma / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
        name, source, result = str(node.name), node.inputs[0], str(node.outputs[0].name)
        assert source is not None
        weight = new_initializer(graph, f"{name}_scale", scale.astype(np.float32).reshape(-1, 1, 1, 1))
        bias = new_initializer(graph, f"{name}_shift", (beta - mean * scale).astype(np.float32))
        attributes = {"kernel_shape": [1, 1], "group": len(scale)}
        convolution = new_node(graph, "Conv", [source, weight, bias], f"{name}_conv", ir.DataType.FLOAT, attributes)
        graph.insert_before(node, convolution)
        replace_value(node.outputs[0], convolution.outputs[0])
        graph.remove(node, safe=True)
        convolution.name, convolution.outputs[0].name = name, result


def _rank(node: ir.Node) -> int:
    return len(dim_keys(node.inputs[0]) or ())
