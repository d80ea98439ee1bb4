"""Simulated quantization in a float graph, written from the definition and without the code under test.

Fake quantization is Div, Round, Clip, Mul on float32 tensors; rounding to float16 is a pair of casts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper, numpy_helper


def round_up(value: NDArray[np.float64], dtype: type) -> NDArray[np.float32]:
    near = value.astype(dtype)
    up = np.where(near.astype(np.float64) < value, np.nextafter(near, dtype(np.inf)), near)
    return np.asarray(up, np.float32)


Edge = tuple[str, int]
"""A node's name and the number of one of its inputs; a graph output's name and 0."""


@dataclass(frozen=True)
class Roundings:
    """Where values are rounded to float16 on their way from one node to another.

    Attributes:
        before: edges whose value is rounded as it comes, before it is quantized if it is.
        after: edges whose quantized value is rounded after that.
    """

    before: frozenset[Edge]
    after: frozenset[Edge]


def simulate(
    model: ir.Model,
    weights: Mapping[str, int],
    activations: Mapping[tuple[str, int], float],
    half: frozenset[str] = frozenset(),
    roundings: Roundings | None = None,
) -> onnx.ModelProto:
    """The float model with fake quantization.

    Args:
        model: the float model.
        weights: node -> output-channel axis of its weight, input 1.
        activations: (node, input index) -> largest magnitude of that input's scale.
        half: nodes that compute in float16: what they read and give is rounded to it.
        roundings: where values are rounded instead.
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
            if roundings is not None and (node.name, i) in roundings.before:
                value = rounded(value, f"{base}_before")
            if i == 1 and node.name in weights:
                array = stored[node.input[i]].astype(np.float64)
                others = tuple(a for a in range(array.ndim) if a != weights[node.name])
                scale = round_up(np.abs(array).max(axis=others, keepdims=True) / 127, dtype)
                integers = np.clip(np.rint(stored[node.input[i]] / scale), -127, 127)
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
            else:
                base = value
            after = node.name in half if roundings is None else (node.name, i) in roundings.after
            inputs[i] = rounded(base, f"{base}_rounded_{node.name}_{i}") if after and value else base
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.ClearField("input")
        copy.input.extend(inputs)
        nodes.append(copy)
        if node.name in half and roundings is None:
            output = node.output[0]
            copy.output[0] = f"{output}_exact"
            rounded(f"{output}_exact", output)
    for output in proto.graph.output if roundings is not None else ():
        if (output.name, 0) in roundings.after:
            maker = next(n for n in nodes if output.name in n.output)
            maker.output[list(maker.output).index(output.name)] = f"{output.name}_exact"
            for n in nodes:
                n.input[:] = [f"{output.name}_exact" if i == output.name else i for i in n.input]
            rounded(f"{output.name}_exact", output.name)
    proto.graph.ClearField("node")
    proto.graph.node.extend(nodes)
    return proto


def roundings_of_onnxruntime(lowered: ir.Model, folder: Path) -> Roundings:
    """Where onnxruntime rounds to float16 when it runs a lowered model without optimizations.

    It computes most float16 nodes in float32, with casts around each, and takes out the pairs of casts that this leaves
    between two of them. The graph that it then runs is written to the folder and read.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(folder / "as_run.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(ir.to_proto(lowered).SerializeToString(), options, providers=["CPUExecutionProvider"])
    run = onnx.load(folder / "as_run.onnx").graph
    half = {v.name for n in lowered.graph for v in (*n.inputs, *n.outputs) if v and v.dtype == ir.DataType.FLOAT16}
    makers = {output: node for node in run.node for output in node.output}
    before: set[Edge] = set()
    after: set[Edge] = set()

    def follow(name: str, edge: Edge) -> None:
        found = after
        while name:
            if name in half:  # so it is called where it is of float16; in float32 onnxruntime calls it otherwise
                found.add(edge)
            node = makers.get(name)
            if node is None or node.op_type not in ("Cast", "QuantizeLinear", "DequantizeLinear"):
                break
            found = before if node.op_type == "QuantizeLinear" else found
            name = node.input[0]

    names = {str(n.name) for n in lowered.graph if n.op_type not in ("Cast", "QuantizeLinear", "DequantizeLinear")}
    for node in run.node:
        for i, name in enumerate(node.input) if node.name in names else ():
            follow(name, (node.name, i))
    for output in run.output:
        follow(output.name, (output.name, 0))
    return Roundings(frozenset(before), frozenset(after))


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
