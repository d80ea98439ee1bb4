"""Networks as TensorFlow and Keras export them: channels-last, with a Transpose before and after each convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

TO_FIRST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


class Keras:
    """A graph that grows; every method returns the name of its result."""

    def __init__(self, *shape: int | str, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shape = shape

    def weight(self, *shape: int) -> str:
        """Normal numbers over the square root of the fan-in."""
        values = self.random.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))
        return self.constant(values.astype(np.float32))

    def constant(self, values: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """A node; of several outputs the names are joined by blanks."""
        names = [f"{kind.lower()}{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=names[0], **attributes))
        return " ".join(names)

    def between(self, x: str, kind: str, *weights: str, **attributes: Any) -> str:
        """A node that computes channels-first, between two Transposes."""
        first = self.op("Transpose", x, perm=TO_FIRST)
        return self.op("Transpose", self.op(kind, first, *weights, **attributes), perm=TO_LAST)

    def conv(
        self, x: str, channels: int, into: int, kernel: int = 3, stride: int = 1, *, depthwise: bool = False
    ) -> str:
        """A convolution with 'same' padding whose kernel is stored as TensorFlow does, (H, W, I, O), and a bias."""
        stored = self.weight(kernel, kernel, 1 if depthwise else channels, into)
        weight = self.op("Transpose", stored, perm=(3, 2, 0, 1))
        pads = [kernel // 2] * 4
        out = self.between(x, "Conv", weight, pads=pads, strides=[stride] * 2, group=channels if depthwise else 1)
        return self.op("Add", out, self.weight(into))

    def relu6(self, x: str) -> str:
        low, high = self.constant(np.float32(0)), self.constant(np.float32(6))
        return self.op("Clip", x, low, high)

    def dense(self, x: str, features: int, into: int) -> str:
        return self.op("Add", self.op("MatMul", x, self.weight(features, into)), self.weight(into))

    def proto(self, *outputs: str, ranks: Sequence[int] = (2,), opset: int = 17) -> onnx.ModelProto:
        named = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)
            for name, rank in zip(outputs, ranks, strict=True)
        ]
        start = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        graph = helper.make_graph(self.nodes, "keras", [start], named, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)

    def model(self, *outputs: str, ranks: Sequence[int] = (2,)) -> ir.Model:
        found: ir.Model = ir.serde.deserialize_model(
            onnx.shape_inference.infer_shapes(self.proto(*outputs, ranks=ranks))
        )
        return found


def residual(size: int | str = 16, batch: int | str = 1) -> ir.Model:
    """A MobileNet: inverted residual blocks, one with squeeze-and-excitation, global pooling and a classifier."""
    k = Keras(batch, size, size, 3)
    x = k.op("Sub", k.op("Mul", "x", k.constant(np.full(1, 0.5, np.float32))), k.weight(3))
    x = k.relu6(k.conv(x, 3, 8, stride=2))
    for excited in (False, True):
        y = k.relu6(k.conv(x, 8, 24, kernel=1))
        y = k.relu6(k.conv(y, 24, 24, depthwise=True))
        if excited:
            mean = k.op("ReduceMean", y, axes=[1, 2], keepdims=1)
            gate = k.conv(k.op("Relu", k.conv(mean, 24, 4, kernel=1)), 4, 24, kernel=1)
            y = k.op("Mul", y, k.op("HardSigmoid", gate))
        x = k.op("Add", x, k.conv(y, 24, 8, kernel=1))
    features = k.relu6(k.conv(x, 8, 32, kernel=1))
    pooled = k.op("ReduceMean", features, axes=[1, 2], keepdims=0)
    return k.model(k.op("Softmax", k.dense(pooled, 32, 10), axis=-1))


def excitation() -> ir.Model:
    """Squeeze-and-excitation as Keras writes it: pooled to a row, two dense layers, back to an image by a Reshape."""
    k = Keras(1, 12, 12, 3)
    x = k.op("Relu", k.conv("x", 3, 16))
    row = k.op("ReduceMean", x, axes=[1, 2], keepdims=0)
    gate = k.op("Sigmoid", k.dense(k.op("Relu", k.dense(row, 16, 4)), 4, 16))
    x = k.op("Mul", x, k.op("Reshape", gate, k.constant([-1, 1, 1, 16])))
    x = k.between(k.conv(x, 16, 12), "MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    return k.model(k.dense(k.op("Reshape", k.op("Relu", x), k.constant([-1, 432])), 432, 5))


def decoder() -> ir.Model:
    """A segmentation network: padded strided convolution, Resize, a Concat with what was skipped, ArgMax at the end."""
    k = Keras(1, 16, 16, 3)
    skipped = k.op("LeakyRelu", k.conv("x", 3, 8))
    x = k.op("Pad", skipped, k.constant([0, 0, 0, 0, 0, 1, 1, 0]))
    weight = k.op("Transpose", k.weight(3, 3, 8, 16), perm=(3, 2, 0, 1))
    x = k.op("Relu", k.between(x, "Conv", weight, strides=[2, 2]))
    left, right = k.op("Split", x, k.constant([8, 8]), outputs=2, axis=3).split()
    x = k.op("Mul", left, k.op("Tanh", right))
    scales = k.constant(np.float32([1, 2, 2, 1]))
    x = k.op("Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    x = k.op("Concat", skipped, x, axis=3)
    x = k.op("Slice", x, k.constant([0, 0]), k.constant([15, 16]), k.constant([1, 3]))
    logits = k.conv(x, 16, 4, kernel=1)
    spread = k.op("Softmax", logits, axis=3)
    return k.model(k.op("ReduceMax", spread, axes=[3], keepdims=0), spread, ranks=(3, 4))
