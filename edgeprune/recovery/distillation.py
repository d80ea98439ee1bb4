"""The distillation spec: which weights of a compressed network are learned, and which values are compared how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration import Calibration, IntermediateOutputs, outputs_of
from edgeprune.graph import constant, find_linears, static_shape
from edgeprune.recovery.output_error import has_classes
from edgeprune.recovery.output_weights import OutputWeights, learn_weights
from edgeprune.recovery.student import Arrays, ComparedValue

Kept = Mapping[tuple[str, int], NDArray[np.int64]]
"""(Value name, axis) -> positions that stay, for the axes that lose any."""

NORMS = ("LayerNormalization", "GroupNormalization", "InstanceNormalization", "BatchNormalization")

MOST_INNER = 16
"""Most inner layers at which networks are compared: with the same work, more of them gain nothing."""

HELD_BYTES = 128 << 20
"""Most bytes of outputs that are kept to measure their variance."""


@dataclass(frozen=True, eq=False)
class DistillationSpec:
    """Where two networks are compared.

    Attributes:
        compared: the compared values of the student.
        outputs: weights of the outputs whose measure is ``weighted``; None if there are none.
    """

    compared: tuple[ComparedValue, ...]
    outputs: OutputWeights | None

    @property
    def names(self) -> list[str]:
        """Names of the teacher's values that are needed."""
        return [value.name for value in self.compared]

    def targets(self, teacher: Mapping[str, NDArray[Any]]) -> Arrays:
        """The student's extra inputs for a batch, given the teacher's values on it."""
        found = {value.target: value.wanted(teacher[value.name]) for value in self.compared}
        weighted = {value.name: teacher[value.name] for value in self.compared if value.measure == "weighted"}
        if weighted and self.outputs is not None:
            factors = self.outputs.factors(weighted)
            found |= {value.factors: factors[value.name] for value in self.compared if value.name in factors}
        return found


def trainable(model: ir.Model) -> list[str]:
    """Names of the initializers to learn: float32 weights and biases of linear and normalization layers."""
    names: list[str] = []
    for layer in find_linears(model).values():
        names += [layer.weight, layer.bias.value]
    for node in model.graph:
        if node.op_type in NORMS:
            names += [str(v.name) for v in node.inputs[1:3] if v is not None]
    initializers = model.graph.initializers
    return [n for n in dict.fromkeys(names) if n in initializers and _was_learned(initializers[n])]


def _was_learned(value: ir.Value) -> bool:
    """Whether a tensor is float32 and not evenly spaced, as the bins of a detector's box distribution are."""
    array = constant(value)
    if array is None or array.dtype != np.float32 or not array.size:
        return False
    steps = np.diff(array.ravel())
    return array.size < 4 or not steps[0] or bool((steps != steps[0]).any())


def find_distillation_spec(
    dense: ir.Model, model: ir.Model, kept: Kept, data: Calibration, inner_share: float
) -> DistillationSpec:
    """Compare two networks at their float outputs, and behind linear layers that are spread over the network.

    Args:
        dense: the teacher.
        model: the student, with static shapes. Values that the teacher does not have are left out, and so are values
            whose shapes differ by more than ``kept`` explains.
        kept: positions of each axis that stay.
        data: a few samples, from which variances are computed.
        inner_share: total weight of the linear layers; the outputs have a total weight of 1.
    """
    values = {str(o.name): o for node in model.graph for o in node.outputs}
    originals = {str(o.name) for node in dense.graph for o in node.outputs}
    common = {n: s for n, v in values.items() if n in originals and (s := static_shape(v)) and _is_float(v)}
    outputs = [str(o.name) for o in model.graph.outputs if o.name in common]
    inner = [n for n in dict.fromkeys(layer.output for layer in find_linears(model).values()) if n in common]
    logits = {n: _logits_of(values[n]) for n in outputs}
    ends = [*outputs, *(n for n in logits.values() if n in common)]
    inner = [n for n in inner if n not in ends]
    every = max(1, -(-len(inner) // MOST_INNER))
    inner = inner[every - 1 :: every]
    names = list(dict.fromkeys([*ends, *inner]))
    if not names:
        return DistillationSpec((), None)
    teacher = IntermediateOutputs(dense, names)
    feeds = next(iter(data.subset(1).batches(1)))
    seen = teacher.run(feeds)
    lengths = {str(v.name): int(np.prod(static_shape(v) or (0,))) for v in model.graph.inputs}
    size = max((lengths.get(name, 0) // max(1, x.size) for name, x in feeds.items()), default=1)
    axes = {n: {a: positions for (value, a), positions in kept.items() if value == n} for n in names}
    fits = {n for n in names if _fits(seen[n], axes[n], common[n], size)}
    outputs, inner = [n for n in outputs if n in fits], [n for n in inner if n in fits]
    kinds = outputs_of(dense, data)
    shares = {n: kinds.share_of(n) for n in outputs if kinds.share_of(n) > 0}
    outputs, total = list(shares), sum(shares.values())
    last = {n: kinds.spec_of(n).axis in (-1, seen[n].ndim - 1) for n in outputs}
    classes = [
        n for n in outputs
        if has_classes(kinds.spec_of(n)) and last[n] and (logits[n] != n or (seen[n] < 0).any())
    ]  # fmt: skip
    rest = [n for n in outputs if n not in classes]
    compared = [ComparedValue(logits[name], "divergence", shares[name] / total, {}) for name in classes]
    variances, batches = _statistics(teacher, inner, rest, data)
    compared += [ComparedValue(name, "weighted", sum(shares[n] for n in rest) / total, {}) for name in rest]
    inner = [n for n in inner if variances[n] > 0]
    for name in inner:
        compared.append(ComparedValue(name, "square", inner_share / len(inner) / variances[name], axes[name]))
    return DistillationSpec(tuple(compared), learn_weights(batches, shares, data.axes.outputs) if rest else None)


def _statistics(
    teacher: IntermediateOutputs, inner: list[str], outputs: list[str], data: Calibration
) -> tuple[dict[str, float], list[Arrays]]:
    """Variance of every inner value, and the outputs batch by batch."""
    sums = {name: np.zeros(3) for name in inner}
    batches, held = [], 0
    for feeds in data.batches(1):
        values = teacher.run(feeds)
        for name in inner:
            x = values[name]
            total = float(x.sum(dtype=np.float64))
            sums[name] += x.size, total, float(np.square(x, dtype=np.float64).sum())
        if held < HELD_BYTES:
            batches.append({name: values[name] for name in outputs})
            held += sum(values[name].nbytes for name in outputs)
    return {name: float(s[2] / s[0] - (s[1] / s[0]) ** 2) for name, s in sums.items()}, batches


def _fits(one: NDArray[Any], kept: Mapping[int, NDArray[np.int64]], shape: tuple[int, ...], size: int) -> bool:
    """Whether a student's value has the shape of the teacher's on one sample, after the cut, for ``size`` samples.

    Any one axis may count the samples.
    """
    cut = tuple(len(kept[axis]) if axis in kept else length for axis, length in enumerate(one.shape))
    if len(cut) != len(shape):
        return False
    grown = [(a, b) for a, b in zip(cut, shape, strict=True) if a != b]
    return not grown or (len(grown) == 1 and grown[0][0] * size == grown[0][1])


def _logits_of(value: ir.Value) -> str:
    """Name of the logits if a Softmax over the last axis gives this value; otherwise the value's own name."""
    node = value.producer()
    if node is None or node.op_type != "Softmax" or node.inputs[0] is None or value.shape is None:
        return str(value.name)
    last = node.attributes.get_int("axis", -1) in (-1, len(value.shape) - 1)
    return str(node.inputs[0].name) if last else str(value.name)


def _is_float(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT
