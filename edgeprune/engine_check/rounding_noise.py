"""How much of a difference between two correct computations of a network is rounding.

An engine adds in another order than the simulation, skips roundings inside a fused kernel, and has its own exponential.
Each of these changes a value by about one rounding to 16 bits (and so does TF32). INT8 steps behind it may then fall on
the other side, and what comes out may differ visibly without any fault. The size of this is a property of the network:
it is found by computing the network with such noise on every value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph as graphs
from edgeprune.backends import simulation
from edgeprune.graph import add_initializer

Array = NDArray[Any]

ROUNDING = 2.0**-11
"""Half a step of FP16 and of TF32, as a share of the value."""

EXPLAINED = 4.0
"""The noise is one draw, and an engine's roundings are of another kind: so many times as much counts as explained."""

NEGLIGIBLE = 0.01
"""A difference of 1% (40 dB) is never a fault."""

WITHOUT_NOISE = 0.1
"""Allowed where the network could not be computed with noise."""

_EXACT = ("Constant", "Cast", "QuantizeLinear", "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")


def with_noise(model: ir.Model, seed: int = 0) -> ir.Model:
    """A copy of a lowered model in which every float value that is computed is off by up to one rounding."""
    copy = simulation.rounded_float32(model)
    random = np.random.default_rng(seed)
    outputs = set(copy.graph.outputs)
    computed = set(copy.graph.inputs)
    for node in list(copy.graph):
        if not any(value in computed for value in node.inputs):
            continue
        computed.update(node.outputs)
        if node.op_type in _EXACT:
            continue
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT and value not in outputs and value.uses():
                computed.add(_noisy(copy.graph, node, value, random))
    return copy


def _noisy(graph: ir.Graph, node: ir.Node, value: ir.Value, random: np.random.Generator) -> ir.Value:
    shape = graphs.static_shape(value)
    width = shape[-1] if shape else 1
    factors = np.asarray(1 + ROUNDING * random.uniform(-1, 1, width if shape else ()), np.float32)
    readers = tuple(value.uses())
    factor = add_initializer(graph, f"{value.name}/noise", factors)
    changed = ir.node("Mul", [value, factor], name=f"{value.name}/noisy")
    changed.outputs[0].name = f"{value.name}/off"
    changed.outputs[0].type, changed.outputs[0].shape = value.type, value.shape
    graph.insert_after(node, [changed])
    for reader, index in readers:
        reader.replace_input_with(index, changed.outputs[0])
    return changed.outputs[0]


def allowed_error(noise: float | None) -> float:
    """The largest error that is no fault; ``noise`` is the error of the network with noise."""
    return WITHOUT_NOISE if noise is None else max(NEGLIGIBLE, EXPLAINED * noise)


def error_of(wanted: Sequence[Array], got: Sequence[Array]) -> float:
    """The error of one output over all samples: see `edgeprune.report.engine.EngineOutput`; infinite for a fault."""
    noise = signal = 0.0
    for one, other in zip(wanted, got, strict=True):
        if one.shape != other.shape:
            return float("inf")
        if one.dtype.kind not in "fc":
            noise, signal = noise + float((one != other).sum()), signal + one.size
            continue
        known = np.isfinite(one)
        if not np.isfinite(other[known]).all():
            return float("inf")
        reference = one[known].astype(np.float64)
        noise += float(((reference - other[known]) ** 2).sum())
        signal += float((reference**2).sum())
    if not noise:
        return 0.0
    if not signal:
        return float("inf")
    share = noise / signal
    return share if wanted[0].dtype.kind not in "fc" else share**0.5
