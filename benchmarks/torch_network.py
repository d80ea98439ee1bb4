"""A torch module from an ONNX model, for tools that prune torch modules: one layer for each node, the same weights.

Exported files have folded BatchNormalizations and other names. So the module is not the trained one, but it computes
the same; this is checked in onnxruntime. Operators that are not in the table below are refused; the error names them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from edgeprune.backends import OnnxRuntime
from edgeprune.passes.canonicalize import canonicalize

TOLERANCE = 1e-3
"""Relative to the outputs' largest value: for FP32 kernels of two libraries, over a whole network."""


class UnsupportedError(Exception):
    """An operator without a torch layer in the table."""


def torch_network(model: ir.Model, feeds: Mapping[str, np.ndarray[Any, Any]]) -> nn.Module:
    """A module that computes the model's outputs from its inputs in their order.

    Raises:
        UnsupportedError: an operator is not in the table, or the outputs differ.
    """
    dense = canonicalize(model)
    network = Network(dense).eval()
    with torch.no_grad():
        found = network(*(torch.from_numpy(np.array(x)) for x in feeds.values()))
    outputs = found if isinstance(found, tuple) else (found,)
    for mine, wanted in zip(outputs, OnnxRuntime().load(dense).run(feeds), strict=True):
        error = float(np.abs(mine.numpy() - wanted).max() / max(float(np.abs(wanted).max()), 1e-9))
        if not error <= TOLERANCE:
            raise UnsupportedError(f"the torch module's outputs differ by {error:.1e}")
    return network


class Network(nn.Module):
    """The nodes of a model as layers, in order."""

    def __init__(self, model: ir.Model) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        self.steps: list[tuple[str, Callable[..., Any] | None, list[str], list[str]]] = []
        self.inputs = [str(v.name) for v in model.graph.inputs]
        self.outputs = [str(v.name) for v in model.graph.outputs]
        self.constants: dict[str, torch.Tensor] = {}
        for index, node in enumerate(model.graph):
            values = {str(v.name): v.const_value for v in node.inputs if v is not None and v.const_value is not None}
            self.constants |= {name: torch.from_numpy(np.array(t.numpy())) for name, t in values.items()}
            inputs = [str(v.name) for v in node.inputs if v is not None]
            outputs = [str(v.name) for v in node.outputs]
            made = _step(node, [self.constants.get(name) for name in inputs])
            key = f"{index}_{node.op_type}"
            if isinstance(made, nn.Module):
                self.layers[key] = made
                self.steps.append((key, None, inputs[:1], outputs))
            else:
                self.steps.append((key, made, inputs, outputs))

    def forward(self, *inputs: torch.Tensor) -> Any:
        """The model's output, or all of them."""
        values = self.constants | dict(zip(self.inputs, inputs, strict=True))
        for key, function, reads, writes in self.steps:
            found = (function or self.layers[key])(*(values[name] for name in reads))
            values |= dict(zip(writes, found if isinstance(found, (tuple, list)) else (found,), strict=True))
        found = tuple(values[name] for name in self.outputs)
        return found if len(found) > 1 else found[0]


def _step(node: ir.Node, constants: list[torch.Tensor | None]) -> nn.Module | Callable[..., Any]:
    """The computation of a node: a module if it has weights that a pruner should see, otherwise a function."""
    attributes = {name: value.value for name, value in node.attributes.items()}
    bias = constants[2] if len(constants) > 2 else None
    if node.op_type == "Conv" and constants[1] is not None:
        return _convolution(constants[1], bias, attributes)
    if node.op_type == "Gemm" and constants[1] is not None and attributes.get("alpha", 1.0) == 1.0:
        return _linear(constants[1], bias, attributes.get("transB", 0))
    if node.op_type == "MatMul" and constants[1] is not None and constants[1].ndim == 2:
        return _linear(constants[1], None, 0)
    if node.op_type == "LayerNormalization" and attributes.get("axis", -1) == -1 and constants[1] is not None:
        norm = nn.LayerNorm(len(constants[1]), attributes.get("epsilon", 1e-5), bias=len(constants) > 2)
        return _with_weights(norm, constants[1], bias)
    if node.op_type not in FUNCTIONS:
        raise UnsupportedError(f"no torch layer for {node.op_type} ({node.name})")
    return FUNCTIONS[node.op_type](attributes, constants)


def _convolution(weight: torch.Tensor, bias: torch.Tensor | None, attributes: Mapping[str, Any]) -> nn.Module:
    spatial = weight.ndim - 2
    pads = list(attributes.get("pads", [0] * 2 * spatial))
    groups = attributes.get("group", 1)
    if spatial != 2 or pads[:2] != pads[2:] or attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise UnsupportedError("a convolution that is not two-dimensional and evenly padded")
    layer = nn.Conv2d(
        weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]),
        tuple(attributes.get("strides", (1, 1))), tuple(pads[:2]), tuple(attributes.get("dilations", (1, 1))),
        groups, bias=bias is not None,
    )  # fmt: skip
    return _with_weights(layer, weight, bias)


def _linear(weight: torch.Tensor, bias: torch.Tensor | None, transposed: int) -> nn.Module:
    weight = weight if transposed else weight.T
    return _with_weights(nn.Linear(weight.shape[1], weight.shape[0], bias is not None), weight, bias)


def _with_weights(layer: Any, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
    layer.weight = nn.Parameter(weight.clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.reshape(-1).clone())
    return layer  # type: ignore[no-any-return]


def _max_pool(attributes: Mapping[str, Any], _: Any) -> Callable[..., Any]:
    pads = list(attributes.get("pads", (0, 0, 0, 0)))
    if pads[:2] != pads[2:] or attributes.get("ceil_mode", 0):
        raise UnsupportedError("an unevenly padded MaxPool")
    return nn.MaxPool2d(tuple(attributes["kernel_shape"]), tuple(attributes.get("strides", (1, 1))), tuple(pads[:2]))


def _softmax(attributes: Mapping[str, Any], _: Any) -> Callable[..., Any]:
    return lambda x: torch.softmax(x, attributes.get("axis", -1))


def _clip(_: Any, constants: list[torch.Tensor | None]) -> Callable[..., Any]:
    low, high = (None if c is None else float(c) for c in (*constants[1:], None, None)[:2])
    return lambda x, *_: torch.clamp(x, low, high)


def _mean(attributes: Mapping[str, Any], constants: list[torch.Tensor | None]) -> Callable[..., Any]:
    axes = attributes.get("axes") if len(constants) < 2 or constants[1] is None else constants[1].tolist()
    return lambda x, *_: x.mean(axes, keepdim=bool(attributes.get("keepdims", 1)))


def _plain(function: Callable[..., Any]) -> Callable[..., Callable[..., Any]]:
    return lambda _attributes, _constants: function


FUNCTIONS: dict[str, Callable[[Mapping[str, Any], list[torch.Tensor | None]], Callable[..., Any]]] = {
    "Add": _plain(torch.add),
    "Sub": _plain(torch.sub),
    "Mul": _plain(torch.mul),
    "Div": _plain(torch.div),
    "MatMul": _plain(torch.matmul),
    "Relu": _plain(nn.ReLU()),
    "Sigmoid": _plain(torch.sigmoid),
    "Tanh": _plain(torch.tanh),
    "Erf": _plain(torch.erf),
    "Gelu": _plain(nn.GELU()),
    "HardSwish": _plain(nn.Hardswish()),
    "Identity": _plain(nn.Identity()),
    "Clip": _clip,
    "ReduceMean": _mean,
    "Softmax": _softmax,
    "MaxPool": _max_pool,
    "GlobalAveragePool": _plain(nn.AdaptiveAvgPool2d(1)),
    "Flatten": lambda attributes, _: nn.Flatten(attributes.get("axis", 1)),
    "Concat": lambda attributes, _: lambda *x: torch.cat(x, attributes["axis"]),
    "Transpose": lambda attributes, _: lambda x: x.permute(*attributes["perm"]),
}
