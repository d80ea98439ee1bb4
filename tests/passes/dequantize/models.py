"""A model with every QOperator form, and a runner."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from edgeprune import graph as graphs


def outputs(model: ir.Model, **feeds: np.ndarray) -> list[np.ndarray]:
    """The outputs of a model in onnxruntime, without optimization."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return list(
        ort.InferenceSession(graphs.to_bytes(model), options, providers=["CPUExecutionProvider"]).run(None, feeds)
    )


def qoperator_model() -> ir.Model:
    """Convolution, pools, elementwise operators, Concat, QGemm and QLinearMatMul, all of uint8."""
    rng = np.random.default_rng(0)
    inits, nodes = {}, []

    def grid(name: str, scale: float, zero: int) -> list[str]:
        inits[f"{name}_s"], inits[f"{name}_z"] = np.float32(scale), np.uint8(zero)
        return [f"{name}_s", f"{name}_z"]

    def q(op: str, inputs: list[str], out: str, domain: str = "com.microsoft", **attributes: object) -> None:
        nodes.append(h.make_node(op, inputs, [out], domain=domain, name=out, **attributes))

    gx, gc, gp = grid("x", 0.03, 128), grid("c", 0.02, 0), grid("p", 0.03, 128)
    nodes.append(h.make_node("QuantizeLinear", ["x", *gx], ["xq"]))
    inits["w"] = rng.integers(-127, 127, (16, 3, 3, 3)).astype(np.int8)
    inits["ws"], inits["wz"] = rng.uniform(0.002, 0.004, 16).astype(np.float32), np.zeros(16, np.int8)
    inits["b"] = rng.integers(-500, 500, 16).astype(np.int32)
    q("QLinearConv", ["xq", *gx, "w", "ws", "wz", *gc, "b"], "conv", "", pads=[1, 1, 1, 1])
    nodes.append(h.make_node("MaxPool", ["conv"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]))
    sg = grid("sg", 1 / 255, 0)
    q("QLinearSigmoid", ["pool", *gc, *sg], "sigmoid")
    q("QLinearMul", ["pool", *gc, "sigmoid", *sg, *gp], "mul")
    q("QLinearAdd", ["mul", *gp, "pool", *gc, *grid("a", 0.05, 100)], "add")
    q("QLinearLeakyRelu", ["add", "a_s", "a_z", *grid("l", 0.04, 60)], "leaky", alpha=0.1)
    q("QLinearAveragePool", ["leaky", "l_s", "l_z", "l_s", "l_z"], "avg", kernel_shape=[2, 2], strides=[2, 2])
    q("QLinearConcat", [*grid("k", 0.04, 60), "avg", "l_s", "l_z", "avg", "l_s", "l_z"], "cat", axis=1)
    q("QLinearGlobalAveragePool", ["cat", "k_s", "k_z", "k_s", "k_z"], "gap")
    nodes.append(h.make_node("Flatten", ["gap"], ["flat"]))
    inits["g"], inits["gb"] = rng.integers(0, 255, (8, 32)).astype(np.uint8), np.arange(8, dtype=np.int32) * 50
    q("QGemm", ["flat", "k_s", "k_z", "g", *grid("g", 0.01, 130), "gb", *grid("gy", 0.05, 128)], "gemm", transB=1)
    inits["m"] = rng.integers(0, 255, (8, 6)).astype(np.uint8)
    q("QLinearMatMul", ["gemm", "gy_s", "gy_z", "m", *grid("m", 0.0005, 120), *grid("my", 0.01, 128)], "matmul", "")
    q("QLinearSoftmax", ["matmul", "my_s", "my_z", *grid("sm", 1 / 256, 0)], "soft", axis=-1, opset=17)
    nodes.append(h.make_node("DequantizeLinear", ["soft", "sm_s", "sm_z"], ["y"]))
    graph = h.make_graph(
        nodes,
        "q",
        [h.make_tensor_value_info("x", T.FLOAT, ["n", 3, 8, 8])],
        [h.make_tensor_value_info("y", T.FLOAT, ["n", 6])],
        [nh.from_array(np.asarray(v), k) for k, v in inits.items()],
    )
    ids = [h.make_opsetid("", 17), h.make_opsetid("com.microsoft", 1)]
    model = h.make_model(graph, opset_imports=ids, ir_version=8)
    onnx.checker.check_model(model)
    return ir.serde.deserialize_model(model)
