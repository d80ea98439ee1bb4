"""Simulated quantization in a float graph, written from the definition and without the code under test.

Fake quantization is Div, Round, Clip, Mul on float32 tensors; rounding to float16 is a pair of casts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper, numpy_helper


def round_up(value: NDArray[np.float64], dtype: type) -> NDArray[np.float32]:
    near = value.astype(dtype)
    up = np.where(near.astype(np.float64) < value, np.nextafter(near, dtype(np.inf)), near)
    return np.asarray(up, np.float32)


def simulate(
    model: ir.Model,
    weights: Mapping[str, int],
    activations: Mapping[tuple[str, int], float],
    half: frozenset[str] = frozenset(),
) -> onnx.ModelProto:
    """The float model with fake quantization.

    Args:
        model: the float model.
        weights: node -> output-channel axis of its weight, input 1.
        activations: (node, input index) -> largest magnitude of that input's scale.
        half: nodes that compute in float16.
    """
    proto = ir.to_proto(model)
    stored = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, array: NDArray[np.float32]) -> str:
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def rounded(value: str, name: str) -> str:
        nodes.append(helper.make_node("Cast", [value], [f"{name}_half"], to=onnx.TensorProto.FLOAT16))
        nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT))
        return name

    for node in list(proto.graph.node):
        inputs = list(node.input)
        dtype = np.float16 if node.name in half else np.float32
        for i, value in enumerate(node.input):
            base = f"{node.name}_{i}_fake"
            if i == 1 and node.name in weights:
                array = stored[value].astype(np.float64)
                others = tuple(a for a in range(array.ndim) if a != weights[node.name])
                scale = round_up(np.abs(array).max(axis=others, keepdims=True) / 127, dtype)
                integers = np.clip(np.rint(stored[value] / scale), -127, 127)
                product = [constant(f"{base}_q", integers), constant(f"{base}_s", scale)]
                nodes.append(helper.make_node("Mul", product, [base]))
            elif (node.name, i) in activations:
                scale = round_up(np.asarray(activations[node.name, i] / 127), dtype)
                bounds = [constant(f"{base}_low", np.float32(-128)), constant(f"{base}_high", np.float32(127))]
                nodes += [
                    helper.make_node("Div", [value, constant(f"{base}_s", scale)], [f"{base}_d"]),
                    helper.make_node("Round", [f"{base}_d"], [f"{base}_r"]),
                    helper.make_node("Clip", [f"{base}_r", *bounds], [f"{base}_c"]),
                    helper.make_node("Mul", [f"{base}_c", f"{base}_s"], [base]),
                ]
            elif node.name in half:
                base = value
            else:
                continue
            inputs[i] = rounded(base, f"{base}_rounded_{node.name}_{i}") if node.name in half else base
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.ClearField("input")
        copy.input.extend(inputs)
        nodes.append(copy)
        if node.name in half:
            output = node.output[0]
            copy.output[0] = f"{output}_exact"
            rounded(f"{output}_exact", output)
    proto.graph.ClearField("node")
    proto.graph.node.extend(nodes)
    return proto


def strict_float16(model: ir.Model) -> onnx.ModelProto:
    """The model with each float16 tensor as a float32 one that is rounded to float16 right after it is computed.

    onnxruntime has few float16 kernels on a CPU: it computes in float32 and skips roundings between two such kernels.
    Here none is skipped, which is how a strongly typed builder reads the graph.
    """
    half = {v.name for n in model.graph for v in (*n.inputs, *n.outputs) if v and v.dtype == ir.DataType.FLOAT16}
    proto = ir.to_proto(model)
    nodes: list[onnx.NodeProto] = []
    for tensor in proto.graph.initializer:
        if tensor.name in half:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for node in proto.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == onnx.TensorProto.FLOAT16:
                attribute.i = onnx.TensorProto.FLOAT
        nodes.append(node)
        for i, name in enumerate(node.output):
            if name in half:
                node.output[i] = f"{name}_exact"
                nodes.append(helper.make_node("Cast", [node.output[i]], [f"{name}_half"], to=onnx.TensorProto.FLOAT16))
                nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT))
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    proto.graph.ClearField("node")
    proto.graph.ClearField("value_info")
    proto.graph.node.extend(kept)
    return proto
