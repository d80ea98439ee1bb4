"""Which axis of every input and output counts the samples: from the graph, then checked by running the model.

The batch is not the first axis of every tensor: recurrent networks put the time first, and a point cloud has no batch
at all. The graph says where operators expect a batch. Whether two samples give the same results side by side as one
after the other is something only a run can say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from edgeprune import graph
from edgeprune.backends import OnnxRuntime
from edgeprune.calibration.sources import Array, Feeds, InputSpec, joined
from edgeprune.errors import EdgepruneError

_BATCH_NAME = re.compile(r"(?i)(.*[_.])?(batch|batch_?size|n_?batch|bs|b|n)(_?\d*|[_.].*)?")
_RECURRENT = ("LSTM", "GRU", "RNN")
_FIRST_AXIS = (
    *("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv", "MaxPool", "AveragePool", "LpPool"),
    *("GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "InstanceNormalization", "GroupNormalization"),
    *("DepthToSpace", "SpaceToDepth", "GridSample", "LRN"),
)
_SAME = 1e-3
"""Largest difference, relative to the largest value of an output, between samples run together and one by one."""


@dataclass(frozen=True)
class BatchAxes:
    """Where a model has its samples.

    Attributes:
        inputs: name -> axis; an input without a batch is missing.
        outputs: name -> axis; an output whose axis is not known is missing.
        joins: whether several samples can be run at once, along the first axis of every tensor that has a batch.
        mixes: whether the model runs on two samples joined, but computes something else from them.
    """

    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    joins: bool
    mixes: bool = False


def placed(specs: Sequence[InputSpec], model: ir.Model) -> tuple[InputSpec, ...]:
    """The inputs with the batch axis that the graph and the names of its sizes tell; by default the first."""
    expected = batch_symbols(model)
    return tuple(replace(spec, batch_axis=_axis_of(spec, expected)) for spec in specs)


def _axis_of(spec: InputSpec, expected: frozenset[str]) -> int | None:
    if not spec.shape:
        return None
    symbols = spec.symbols or ("",) * len(spec.shape)
    told = [axis for axis, symbol in enumerate(symbols) if symbol in expected]
    told = told or [axis for axis, symbol in enumerate(symbols) if _BATCH_NAME.fullmatch(symbol)]
    if told:
        return told[0]
    # A fixed first axis of more than one, before a single open axis: time steps before the batch.
    open_axes = [axis for axis, size in enumerate(spec.shape) if size is None]
    return 1 if open_axes == [1] and (spec.shape[0] or 1) > 1 and len(spec.shape) > 2 else 0


def batch_symbols(model: ir.Model) -> frozenset[str]:
    """Names of open sizes that stand where an operator expects its batch; see `symbol_of` for nameless ones."""
    nameless = [(v, a) for v in model.graph.inputs for a, d in enumerate(v.shape or ()) if is_nameless(d)]
    if nameless:
        model = graph.clone(model)
        for value in model.graph.inputs:
            if value.shape is not None:
                value.shape = ir.Shape([symbol_of(value, axis) or d for axis, d in enumerate(value.shape)])
        graph.infer_shapes(model)
    found = set()
    for node in model.graph.all_nodes():
        if node.domain not in graph.ONNX_DOMAINS or not node.inputs or node.inputs[0] is None:
            continue
        axis = 0 if node.op_type in _FIRST_AXIS else None
        if node.op_type in _RECURRENT:
            axis = 0 if node.attributes.get_int("layout", 0) else 1
        shape = node.inputs[0].shape
        if axis is not None and shape is not None and len(shape) > axis:
            dim = shape[axis]
            if isinstance(dim, ir.SymbolicDim) and dim.value:
                found.add(dim.value)
    return frozenset(found)


def is_nameless(dim: int | ir.SymbolicDim) -> bool:
    """Whether a size is open and has no name."""
    return isinstance(dim, ir.SymbolicDim) and not dim.value


def symbol_of(value: ir.Value, axis: int) -> str:
    """The name of an open size of an input, made up with a leading zero byte if it has none; empty for a fixed one."""
    dim = (value.shape or ())[axis]
    return "" if isinstance(dim, int) else dim.value or f"\0{value.name}.{axis}"


def without_batch(specs: Sequence[InputSpec], model: ir.Model) -> list[tuple[InputSpec, ...]]:
    """Other readings of inputs whose first axis mixes samples: another open axis is the batch, or there is none.

    Inputs whose batch the graph or its name tells stay as they are.
    """
    expected = batch_symbols(model)

    def doubtful(spec: InputSpec) -> bool:
        symbol = spec.symbols[spec.batch_axis] if spec.symbols and spec.batch_axis is not None else ""
        return bool(symbol) and symbol not in expected and not _BATCH_NAME.fullmatch(symbol)

    if not any(map(doubtful, specs)):
        return []
    later = [[a for a, size in enumerate(s.shape) if size is None and a != s.batch_axis] for s in specs]
    moved = tuple(replace(s, batch_axis=a[0]) if a and doubtful(s) else s for s, a in zip(specs, later, strict=True))
    whole = tuple(replace(s, batch_axis=None) if doubtful(s) else s for s in specs)
    others = (moved, (specs[0], *whole[1:]), whole)
    return [other for other in dict.fromkeys(others) if other != tuple(specs)]


def measured_axes(model: ir.Model, specs: Sequence[InputSpec], two: Sequence[Feeds]) -> BatchAxes:
    """The batch axes as two samples show them, run one by one and together.

    Args:
        model: the model.
        specs: its inputs, with the axis along which samples are joined.
        two: two samples; with fewer, or if the model cannot be run with both, samples are not joined.
    """
    inputs = {spec.name: spec.batch_axis for spec in specs if spec.batch_axis is not None}
    names = [str(output.name) for output in model.graph.outputs]
    try:
        run = OnnxRuntime().load(model).run
        alone = [run(feeds) for feeds in two]
    except EdgepruneError:  # whoever runs it next says so, with the node
        return BatchAxes(inputs, {}, False)
    results = zip(names, alone[0] if alone else [], strict=False)
    outputs = {n: axis for n, output in results if (axis := _one(output)) is not None}
    openable = len(two) == 2 and any(spec.shape[a] is None for spec in specs if (a := spec.batch_axis) is not None)
    if not openable:
        return BatchAxes(inputs, outputs, False)
    try:
        together = run(next(joined(iter(two), 2, inputs)))
    except (EdgepruneError, ValueError):
        return BatchAxes(inputs, outputs, False)
    found = {n: _grown(a, b, both) for n, a, b, both in zip(names, *alone, together, strict=True)}
    axes = {n: axis for n, axis in found.items() if axis is not None}
    open_everywhere = all(spec.shape[spec.batch_axis or 0] is None for spec in specs if spec.shape)
    every = len(axes) == len(names) and open_everywhere
    first = not any(axes.values()) and not any(inputs.values())
    return BatchAxes(inputs, outputs | axes, every and first, len(axes) < len(names))


def _one(output: Array) -> int | None:
    """The first axis, if a single sample has the length one there."""
    return 0 if output.ndim and output.shape[0] == 1 else None


def _grown(one: Array, two: Array, together: Array) -> int | None:
    """The axis along which two results lie side by side in the result of both samples; None if there is none."""
    if one.ndim != together.ndim or one.ndim != two.ndim:
        return None
    for axis in range(one.ndim):
        if one.shape[axis] + two.shape[axis] != together.shape[axis]:
            continue
        try:
            expected = np.concatenate([one, two], axis=axis)
        except ValueError:
            continue
        if expected.shape == together.shape and _alike(expected, together):
            return axis
    return None


def _alike(expected: Array, found: Array) -> bool:
    if expected.dtype.kind != "f":
        return bool((expected == found).mean() > 0.5) if expected.size else True
    a, b = np.nan_to_num(expected.astype(np.float64)), np.nan_to_num(found.astype(np.float64))
    return bool(np.abs(a - b).max(initial=0) <= _SAME * max(float(np.abs(a).max(initial=0)), 1e-6))
