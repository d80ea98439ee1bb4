"""The student: the deployed graph with its weights as parameters, and how they are written back into it.

A weight behind Q/DQ is trained in float: it is rounded to its integers in every run, and the gradient passes the
rounding. After training its integers are written into the same initializer. So every node stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from edgeprune.distill.scales import LearnedScale, learn_scales
from edgeprune.distill.settings import Settings
from edgeprune.errors import ModelError
from edgeprune.executor import LIMITS, GraphModule, quantized, spread, tensor_of
from edgeprune.graph import clone, constant, find_linears, input_at
from edgeprune.recovery import trainable

Tensor = Any

QUANTIZED = "_quantized"
"""Ending of the names of initializers that were quantized."""
LEAST_ROWS = 4
"""A matrix with fewer rows or columns is a few vectors."""
ZERO_SHARE = 0.45
"""A matrix with more zeros than this is 2:4 sparse, or padded: its zeros stay."""


@dataclass(frozen=True, eq=False)
class Quantized:
    """An initializer of integers that is trained in float.

    Attributes:
        name: of the initializer.
        axis: of its scales.
        scale, zero: its scale and zero point, in shapes that broadcast.
        low, high: its limits.
    """

    name: str
    axis: int
    scale: Tensor
    zero: Tensor | None
    low: float
    high: float

    def integers(self, weight: Tensor) -> Tensor:
        """The integers of a weight, as floats."""
        return quantized(weight, self.scale, self.zero, self.low, self.high)


@dataclass(eq=False)
class Student:
    """A module, its parameters, and the way back.

    Attributes:
        model: the deployed model; `written` returns a copy with other weights.
        module: computes it.
        weights: name -> parameter.
        axes: name -> the axis of the output channels, None for vectors.
        rows: names of matrices that mix all channels -> the axis of the output channels.
        decays: names of matrices.
        masks: name -> where a weight is not zero, for those whose zeros stay.
        integers: initializers of integers that are trained in float.
        scales: initializers of scales that are learned.
        bases: weights to which products of matrices are added, by name.
    """

    model: ir.Model
    module: GraphModule
    weights: dict[str, Tensor]
    axes: dict[str, int | None]
    rows: dict[str, int]
    decays: frozenset[str]
    masks: dict[str, Tensor]
    integers: dict[str, Quantized]
    scales: dict[str, LearnedScale] = field(default_factory=dict)
    bases: dict[str, Tensor] = field(default_factory=dict)

    def mask_gradients(self) -> None:
        """Let zeros that stay have no gradient."""
        for name, mask in self.masks.items():
            gradient = self.weights[name].grad
            if gradient is not None:
                gradient.mul_(mask)

    def written(self, values: Mapping[str, Tensor]) -> ir.Model:
        """A copy of the model with these weights: same nodes, same names, same types."""
        copy = clone(self.model)
        with torch.no_grad():
            arrays = {n: v for n, v in values.items() if "\0" not in n}
            arrays |= {n: merged(base, values[f"{n}\0a"], values[f"{n}\0b"]) for n, base in self.bases.items()}
            arrays |= {n: scale.value(values[scale.parameter]) for n, scale in self.scales.items()}
            for name, value in arrays.items():
                tensor = copy.graph.initializers[name].const_value
                assert tensor is not None
                found = self.integers[name].integers(value) if name in self.integers else value
                array = found.detach().cpu().contiguous().numpy().astype(tensor.dtype.numpy())
                copy.graph.initializers[name].const_value = ir.Tensor(array, dtype=tensor.dtype, name=name)
        return copy


def build_student(model: ir.Model, opened: ir.Model, settings: Settings, floats: ir.Model | None = None) -> Student:
    """The student of a deployed model.

    Args:
        model: as it was written.
        opened: the same with an open batch; both have the same initializers.
        settings: which weights are trained.
        floats: the model before it was quantized, if that is known: its weights are a better start than those of the
            grid, from which every step would add a second rounding error to the first.

    Raises:
        ModelError: an operator cannot be run in PyTorch, or nothing can be trained.
    """
    axes = _float_weights(opened)
    behind = _integer_weights(opened) if settings.qat else {}
    if settings.train == "norms":
        axes = {n: a for n, a in axes.items() if a is None}
        behind = {n: node for n, node in behind.items() if len(opened.graph.initializers[n].shape or ()) < 2}
    matrices = {n for n, a in axes.items() if a is not None}
    if settings.train == "lora":
        behind = {}
        axes = {n: axes[n] for n in matrices}
    module = GraphModule(opened, [] if settings.train == "lora" else list(axes), settings.device)
    integers = {n: _quantized(opened.graph.initializers[n], node, module) for n, node in behind.items()}
    bases: dict[str, Tensor] = {}
    if settings.train == "lora":
        bases = _add_products(module, opened, sorted(matrices), settings)
        axes = dict.fromkeys(module.names, None)
    for name, entry in integers.items():
        start = _start(opened.graph.initializers[name], entry, floats, module.device)
        module.add_parameter(name, start)
        module.prepare(name, (name,), entry.integers)
        axes[name] = entry.axis if start.dim() > 1 else None
        if start.dim() > 1:
            matrices.add(name)
    scales = learn_scales(module, opened) if settings.scales == "learned" else {}
    weights = module.named_weights
    if not weights:
        raise ModelError("nothing in the model can be trained: its weights are not read by known layers")
    masks = {
        n: (w != 0).to(w.dtype).detach()
        for n, w in weights.items()
        if n in matrices and float((w == 0).float().mean()) > ZERO_SHARE
    }
    rows = {n: axis for n, w in weights.items() if (axis := _mixing_axis(opened, n, w)) is not None}
    return Student(
        model, module, weights, axes, rows, frozenset(matrices & set(weights)), masks, integers, scales, bases
    )


def _start(value: ir.Value, entry: Quantized, floats: ir.Model | None, device: Any) -> Tensor:
    """A weight behind Q/DQ in float: as it was before it was rounded, where that is known, else as on its grid."""
    integers = tensor_of(value).to(device, torch.float32)
    grid = (integers if entry.zero is None else integers - entry.zero) * entry.scale
    named = None if floats is None else floats.graph.initializers.get(entry.name.removesuffix(QUANTIZED))
    if named is None or named.shape != value.shape or float((grid == 0).float().mean()) > ZERO_SHARE:
        return grid  # zeros of a sparse matrix stay exactly zero
    exact = tensor_of(named).to(device, torch.float32)
    return torch.where(entry.integers(exact) == integers, exact, grid)


def merged(base: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """A weight with the product of two matrices added, in its shape."""
    return base + (b @ a).reshape(base.shape)


def _float_weights(model: ir.Model) -> dict[str, int | None]:
    """Float initializers that are trained -> the axis of their output channels, None for vectors."""
    found: dict[str, int | None] = dict.fromkeys(trainable(model))
    for layer in find_linears(model).values():
        if layer.weight in found:
            usual = {"Conv": 0, "ConvTranspose": 1}
            found[layer.weight] = usual.get(layer.op, 1 - layer.channel_axis)
    for node in model.graph:
        # Biases and weights next to Q/DQ are not those of a layer with constant weights.
        for value in node.inputs:
            if value is None or str(value.name) in found or not _is_float_constant(value):
                continue
            rank = len(value.shape or ())
            if (node.op_type == "Add" and rank == 1 and (constant(value) is not None)) or _is_bias(node, value):
                found[str(value.name)] = None
            elif node.op_type == "QuantizeLinear" and value is node.inputs[0] and rank > 1:
                found[str(value.name)] = int(node.attributes.get_int("axis", 1)) % rank
    return found


def _mixing_axis(model: ir.Model, name: str, weight: Tensor) -> int | None:
    """The axis of the outputs of a matrix that mixes all channels, maybe behind Q/DQ; None for any other weight."""
    value = model.graph.initializers.get(name)
    node = next(iter(value.consumers()), None) if value is not None else None
    while node is not None and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        value, node = node.outputs[0], next(iter(node.outputs[0].consumers()), None)
    if node is None or weight.dim() < 2 or input_at(node, 1) is not value:
        return None
    if node.op_type in ("Conv", "ConvTranspose"):
        axis = 0 if node.op_type == "Conv" else 1
        mixes = node.attributes.get_int("group", 1) == 1
    else:
        turned = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
        axis = 0 if turned else 1
        mixes = node.op_type in ("Gemm", "MatMul") and weight.dim() == 2
    rows = weight.shape[axis]
    return axis if mixes and min(rows, weight.numel() // rows) >= LEAST_ROWS else None


def _is_bias(node: ir.Node, value: ir.Value) -> bool:
    return node.op_type in ("Conv", "ConvTranspose", "Gemm") and input_at(node, 2) is value


def _is_float_constant(value: ir.Value) -> bool:
    array = constant(value)
    return array is not None and array.dtype == np.float32 and array.size > 1


def _integer_weights(model: ir.Model) -> dict[str, ir.Node]:
    """Initializers of integers -> the DequantizeLinear that reads each; those that are read in two ways stay."""
    readers: dict[str, list[ir.Node]] = {}
    for node in model.graph:
        if node.op_type == "DequantizeLinear" and node.inputs[0] is not None and node.inputs[0].is_initializer():
            readers.setdefault(str(node.inputs[0].name), []).append(node)
    found = {}
    for name, nodes in readers.items():
        value = model.graph.initializers[name]
        parts = {(node.inputs[1], input_at(node, 2)) for node in nodes}
        alone = len(parts) == 1 and all(u.node in nodes for u in value.uses())
        if alone and value.dtype in LIMITS and len(value.shape or ()) >= 1:
            found[name] = nodes[0]
    return found


def _quantized(value: ir.Value, node: ir.Node, module: GraphModule) -> Quantized:
    shape = tuple(int(str(d)) for d in value.shape or ())
    rank, axis = len(shape), int(node.attributes.get_int("axis", 1))
    block = int(node.attributes.get_int("block_size", 0))
    assert node.inputs[1] is not None
    scale = spread(tensor_of(node.inputs[1]).to(module.device), rank, axis, shape, block)
    zero_value = input_at(node, 2)
    zero = None
    if zero_value is not None:
        zero = spread(tensor_of(zero_value).to(module.device, torch.float32), rank, axis, shape, block)
    low, high = LIMITS[value.dtype or ir.DataType.INT8]
    if value.dtype == ir.DataType.INT8:
        low = max(low, -127.0)  # symmetric weights, as they were written
    return Quantized(str(value.name), axis % max(1, rank), scale, zero, low, high)


def _add_products(module: GraphModule, model: ir.Model, names: list[str], settings: Settings) -> dict[str, Tensor]:
    """Add the parameters of ``lora``: the product of two matrices for every weight, 0 at the start."""
    bases = {}
    generator = torch.Generator().manual_seed(settings.seed)
    for name in names:
        base = tensor_of(model.graph.initializers[name]).to(module.device)
        rows, columns = base.shape[0], base.numel() // base.shape[0]
        rank = max(1, min(settings.rank, rows, columns))
        first = torch.randn(rank, columns, generator=generator) * float(base.float().square().mean().sqrt())
        module.add_parameter(f"{name}\0a", first)
        module.add_parameter(f"{name}\0b", torch.zeros(rows, rank))
        module.prepare(name, (f"{name}\0a", f"{name}\0b"), _product_onto(base))
        bases[name] = base
    return bases


def _product_onto(base: Tensor) -> Any:
    return lambda a, b: merged(base, a, b)
