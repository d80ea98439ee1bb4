"""Which axis of every input and output counts the samples: from the graph, then checked by running the model.

The batch is not the first axis of every tensor: recurrent networks put the time first, and a point cloud has no batch
at all. The graph says where operators expect a batch. Whether two samples give the same results side by side as one
after the other is something only a run can say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from edgeprune import graph
from edgeprune.backends import OnnxRuntime
from edgeprune.calibration.sources import Array, Feeds, InputSpec, joined
from edgeprune.errors import EdgepruneError

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
    expected = graph.batch_symbols(model)
    return tuple(replace(spec, batch_axis=graph.batch_axis_of(spec.shape, spec.symbols, expected)) for spec in specs)


def without_batch(specs: Sequence[InputSpec], model: ir.Model) -> list[tuple[InputSpec, ...]]:
    """Other readings of inputs whose first axis mixes samples: another open axis is the batch, or there is none.

    Inputs whose batch the graph or its name tells stay as they are.
    """
    expected = graph.batch_symbols(model)

    def doubtful(spec: InputSpec) -> bool:
        symbol = spec.symbols[spec.batch_axis] if spec.symbols and spec.batch_axis is not None else ""
        return bool(symbol) and symbol not in expected and not graph.BATCH_NAME.fullmatch(symbol)

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
