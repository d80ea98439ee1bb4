"""Scales of activations that are learned: Esser et al. 2020, "Learned Step Size Quantization" (LSQ).

A scale is its first value times the exponential of a parameter, so it stays positive. Scales with the same value and
zero point share a parameter: runtimes fuse nodes only where those before and after are equal. The scale of an INT32
bias is that of its activation times that of its weight, so it follows the activation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch

from edgeprune.executor import GraphModule, tensor_of
from edgeprune.graph import constant, input_at

Tensor = Any


@dataclass(frozen=True, eq=False)
class LearnedScale:
    """An initializer that is a base times the exponential of a parameter."""

    base: Tensor
    parameter: str

    def value(self, exponent: Tensor) -> Tensor:
        """The scale."""
        return self.base * torch.exp(exponent)


def learn_scales(module: GraphModule, model: ir.Model) -> dict[str, LearnedScale]:
    """Let the scales of activations be learned: initializer -> how it follows from its parameter."""
    found: dict[str, LearnedScale] = {}
    parameters: dict[tuple[bytes, bytes], str] = {}
    for node in model.graph:
        scale = _scale_of(node) if node.op_type == "QuantizeLinear" else None
        if scale is None or node.inputs[0] is None or node.inputs[0].is_initializer() or scale.name in found:
            continue
        zero = constant(input_at(node, 2))
        key = constant(scale).tobytes(), b"" if zero is None else zero.tobytes()  # type: ignore[union-attr]
        if key not in parameters:
            parameters[key] = f"{scale.name}\0s"
            module.add_parameter(parameters[key], torch.zeros(()))
        _follow(module, found, scale, parameters[key])
    for node in model.graph:
        bias, x = _made_by_dequantize(input_at(node, 2)), _made_by_dequantize(input_at(node, 0))
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or bias is None or x is None:
            continue
        scale, of = _scale_of(bias), _scale_of(x)
        is_integer = bias.inputs[0] is not None and bias.inputs[0].dtype == ir.DataType.INT32
        if is_integer and scale is not None and of is not None and of.name in found and scale.name not in found:
            _follow(module, found, scale, found[str(of.name)].parameter)
    return found


def _follow(module: GraphModule, found: dict[str, LearnedScale], scale: ir.Value, parameter: str) -> None:
    made = LearnedScale(tensor_of(scale).to(module.device), parameter)
    found[str(scale.name)] = made
    module.prepare(str(scale.name), (parameter,), made.value)


def _scale_of(node: ir.Node) -> ir.Value | None:
    scale = input_at(node, 1)
    return scale if scale is not None and scale.is_initializer() else None


def _made_by_dequantize(value: ir.Value | None) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == "DequantizeLinear" else None
