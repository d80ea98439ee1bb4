"""The probe network, which has every kind of kernel: a device is measured with it if no model is named.

It has residual 3x3 convolutions and bottlenecks at four resolutions, depthwise blocks with SiLU and a Concat, then
attention and a two-layer perceptron over the tokens of the last map. These are the parts of convolutional networks,
detectors and vision transformers, at their usual sizes, with random weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

NAME = "probe"
_HEADS, _WIDTH = 6, 384


def probe_network() -> ir.Model:
    """The network: input ``x`` of shape (1, 3, 224, 224), float32, opset 17."""
    net = _Net()
    x = net.conv("x", 3, 64, 7, stride=2, activation="Relu")
    x = net.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    width = 64
    for narrow in (64, 128, 256):
        if narrow != width:
            x = net.conv(x, width, narrow, 3, stride=2, activation="Relu")
        y = net.conv(net.conv(x, narrow, narrow, 3, activation="Relu"), narrow, narrow, 3)
        x = net.add("Relu", [net.add("Add", [y, x])])
        y = net.conv(net.conv(x, narrow, 4 * narrow, 1, activation="Relu"), 4 * narrow, narrow, 1)
        x = net.add("Relu", [net.add("Add", [y, x])])
        y = net.silu(net.conv(net.silu(net.conv(x, narrow, narrow, 1)), narrow, narrow, 3, groups=narrow))
        x = net.conv(net.add("Concat", [x, y], axis=1), 2 * narrow, narrow, 1, activation="Relu")
        width = narrow
    x = net.conv(x, width, _WIDTH, 1)
    tokens = net.add("Reshape", [x, net.constant([1, _WIDTH, 14 * 14])])
    tokens = net.add("Transpose", [tokens], perm=[0, 2, 1])
    for _ in range(2):
        tokens = net.add("Add", [tokens, net.attention(net.norm(tokens))])
        hidden = net.gelu(net.linear(net.norm(tokens), _WIDTH, 4 * _WIDTH))
        tokens = net.add("Add", [tokens, net.linear(hidden, 4 * _WIDTH, _WIDTH)])
    pooled = net.add("ReduceMean", [net.norm(tokens)], axes=[1], keepdims=0)
    return net.finish(net.linear(pooled, _WIDTH, 1000))


class _Net:
    """The nodes added so far; weights are random from one seed."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._input = ir.val("x", ir.DataType.FLOAT, [1, 3, 224, 224])
        self._values: dict[str, ir.Value] = {"x": self._input}
        self._nodes: list[ir.Node] = []
        self._stored: list[ir.Value] = []

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"{op.lower()}{len(self._nodes)}"
        node = ir.node(op, [self._values[i] for i in inputs], attributes, name=name)
        node.outputs[0].name = name
        self._values[name] = node.outputs[0]
        self._nodes.append(node)
        return name

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        name = f"c{len(self._stored)}"
        tensor = ir.tensor(np.asarray(value, dtype), name=name)
        self._stored.append(ir.val(name, const_value=tensor))
        self._values[name] = self._stored[-1]
        return name

    def weight(self, *shape: int) -> str:
        fan_in = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        return self.constant(self._random.standard_normal(shape) / np.sqrt(fan_in), np.float32)

    def conv(
        self, x: str, cin: int, cout: int, kernel: int, *, stride: int = 1, groups: int = 1, activation: str = ""
    ) -> str:
        inputs = [x, self.weight(cout, cin // groups, kernel, kernel), self.constant(np.zeros(cout), np.float32)]
        edge = [kernel // 2] * 4
        y = self.add("Conv", inputs, pads=edge, strides=[stride, stride], group=groups, kernel_shape=[kernel, kernel])
        return self.add(activation, [y]) if activation else y

    def silu(self, x: str) -> str:
        return self.add("Mul", [x, self.add("Sigmoid", [x])])

    def linear(self, x: str, k: int, n: int) -> str:
        return self.add("Add", [self.add("MatMul", [x, self.weight(k, n)]), self.constant(np.zeros(n), np.float32)])

    def norm(self, x: str) -> str:
        scale, bias = self.constant(np.ones(_WIDTH), np.float32), self.constant(np.zeros(_WIDTH), np.float32)
        return self.add("LayerNormalization", [x, scale, bias], axis=-1)

    def gelu(self, x: str) -> str:
        half, one, root = (self.constant(v, np.float32) for v in (0.5, 1.0, np.sqrt(2.0)))
        erf = self.add("Add", [self.add("Erf", [self.add("Div", [x, root])]), one])
        return self.add("Mul", [self.add("Mul", [x, erf]), half])

    def attention(self, x: str) -> str:
        depth = _WIDTH // _HEADS

        def heads(perm: list[int]) -> str:
            split = self.add("Reshape", [self.linear(x, _WIDTH, _WIDTH), self.constant([1, 196, _HEADS, depth])])
            return self.add("Transpose", [split], perm=perm)

        q, k, v = heads([0, 2, 1, 3]), heads([0, 2, 3, 1]), heads([0, 2, 1, 3])
        scores = self.add("Mul", [self.add("MatMul", [q, k]), self.constant(depth**-0.5, np.float32)])
        mixed = self.add("MatMul", [self.add("Softmax", [scores], axis=-1), v])
        joined = self.add("Transpose", [mixed], perm=[0, 2, 1, 3])
        return self.linear(self.add("Reshape", [joined, self.constant([1, 196, _WIDTH])]), _WIDTH, _WIDTH)

    def finish(self, output: str) -> ir.Model:
        result = self._values[output]
        graph = ir.Graph(
            [self._input], [result], nodes=self._nodes, initializers=self._stored, opset_imports={"": 17}, name=NAME
        )
        result.type = ir.TensorType(ir.DataType.FLOAT)
        result.shape = ir.Shape([1, 1000])
        return ir.Model(graph, ir_version=8)
