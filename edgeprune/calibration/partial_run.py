"""Changed copies of a network on the same samples: the unchanged part of a copy is not computed again.

A trial cuts one group or quantizes a few blocks, and everything before that computes the same as in the original. The
values between the unchanged and the changed part are taken from the original. The original itself starts from the
nearest values that are still cached, so trials in the order of the graph run the original only once in total.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph as graphs
from edgeprune.calibration.statistics_runtime import StatisticsRuntime
from edgeprune.graph import with_outputs
from edgeprune.support import run_in_parallel

Array = NDArray[Any]

CACHED_BYTES = 256 << 20
"""The most bytes of inner values that are cached; a copy that needs more at once is run from its inputs."""


class PartialRuns:
    """Runs changed copies of a model.

    Args:
        model: the original.
        feeds: batches of its inputs.
        threads: of onnxruntime.
        cached_bytes: the most bytes of the original's inner values that are cached.
        axes: output name -> the axis of its samples, which becomes the first; where it is not known, the results of
            the batches are stacked.
    """

    def __init__(
        self,
        model: ir.Model,
        feeds: Sequence[Mapping[str, Array]],
        threads: int,
        cached_bytes: int = CACHED_BYTES,
        axes: Mapping[str, int] | None = None,
    ) -> None:
        # By position: an output of a copy may have another name than the original's.
        names = [str(o.name) for o in model.graph.outputs]
        self._places = [0 if axes is None else axes.get(name) for name in names]
        self._model, self._feeds, self._runtime = model, feeds, StatisticsRuntime(threads)
        self._cached_bytes = cached_bytes
        self._cached: dict[str, list[Array]] = {}  # the longest unused first
        self.reference = self._run(model)

    def outputs(self, model: ir.Model) -> list[Array]:
        """Outputs of a copy, with all samples joined."""
        if any(map(graphs.has_subgraph, model.graph)):  # it may read values that are not inputs of the node
            return self._run(model)
        same = unchanged(self._model, model)
        needed, alive = frontier(model, same)
        if not alive or not needed - self._inputs():
            return self._run(model) if alive else list(self.reference)
        values = self._values(needed)
        return self._run(model) if values is None else self._resume(model, same, values)

    def forget(self) -> None:
        """Give up the cached values of the original; they are computed again where they are needed."""
        self._cached.clear()

    def _inputs(self) -> set[str]:
        return {str(v.name) for v in self._model.graph.inputs}

    def _run(self, model: ir.Model) -> list[Array]:
        return self._joined(model, self._feeds, self._places)

    def _joined(
        self, model: ir.Model, feeds: Sequence[Mapping[str, Array]], places: Sequence[int | None]
    ) -> list[Array]:
        """Outputs with all samples joined; ``places`` are the axes of their samples."""
        batches = run_in_parallel(self._runtime.load(model).run, feeds, self._runtime.threads)
        return [samples_first(found, axis) for found, axis in zip(zip(*batches, strict=True), places, strict=True)]

    def _resume(self, model: ir.Model, same: Collection[str], values: Mapping[str, Sequence[Array]]) -> list[Array]:
        names = [str(o.name) for o in model.graph.outputs]
        wanted = {n: axis for n, axis in zip(names, self._places, strict=True) if n not in same}
        feeds = [{n: arrays[i] for n, arrays in values.items()} for i in range(len(self._feeds))]
        found = self._joined(with_outputs(model, wanted, values), feeds, list(wanted.values()))
        computed = dict(zip(wanted, found, strict=True))
        return [computed.get(n, known) for n, known in zip(names, self.reference, strict=True)]

    def _values(self, names: Collection[str]) -> dict[str, list[Array]] | None:
        """Inner values and inputs of the original by name, batch by batch; None if they are too large to cache."""
        inputs = self._inputs()
        missing = [n for n in names if n not in self._cached and n not in inputs]
        if missing and not self._compute(missing, names):
            return None
        for name in names:
            if name in self._cached:
                self._cached[name] = self._cached.pop(name)  # used last
        return {n: self._cached[n] if n in self._cached else [feeds[n] for feeds in self._feeds] for n in names}

    def _compute(self, missing: Sequence[str], needed: Collection[str]) -> bool:
        """Run the original from cached values to these values and cache them; False if they are too large."""
        start = _sources(self._model, missing, self._inputs() | self._cached.keys())
        feeds = [
            {n: self._cached[n][i] if n in self._cached else given[n] for n in start}
            for i, given in enumerate(self._feeds)
        ]
        run = self._runtime.load(with_outputs(self._model, missing, start)).run
        kept = sum(_bytes(self._cached[n]) for n in needed if n in self._cached)
        first = run(feeds[0])
        if kept + len(feeds) * _bytes(first) > self._cached_bytes:
            return False
        found = [first, *run_in_parallel(run, feeds[1:], self._runtime.threads)]
        self._cached |= {n: list(arrays) for n, arrays in zip(missing, zip(*found, strict=True), strict=True)}
        total = sum(map(_bytes, self._cached.values()))
        for name in [n for n in self._cached if n not in needed]:
            if total <= self._cached_bytes:
                break
            total -= _bytes(self._cached.pop(name))
        return True


def samples_first(batches: Sequence[Array], axis: int | None) -> Array:
    """One output of several batches, joined with the samples on the first axis.

    Args:
        batches: the output for each batch.
        axis: where its samples are; None if that is not known, and every batch counts as one sample.
    """
    if axis is not None and all(b.ndim > axis for b in batches):
        batches = [np.moveaxis(b, axis, 0) for b in batches]
    elif all(b.shape == batches[0].shape for b in batches):
        return np.stack(batches)
    if len({b.shape[1:] for b in batches}) == 1:
        return np.concatenate(batches)
    return np.concatenate([b.reshape(-1) for b in batches])  # sizes that differ between samples


def unchanged(model: ir.Model, changed: ir.Model) -> set[str]:
    """Names of the values that are the same in the model and in the changed copy, as far as the graph shows it."""
    originals = {str(node.name): node for node in model.graph}
    weights = model.graph.initializers
    same = {str(v.name) for v in changed.graph.inputs} & {str(v.name) for v in model.graph.inputs}
    for name, value in changed.graph.initializers.items():
        if name in weights and value.const_value is weights[name].const_value:
            same.add(name)
    for node in changed.graph:
        original = originals.get(str(node.name))
        if original is not None and _alike(original, node) and all(v is None or v.name in same for v in node.inputs):
            same.update(str(o.name) for o in node.outputs)
    return same


def frontier(model: ir.Model, same: Collection[str]) -> tuple[set[str], bool]:
    """The unchanged values (no weights) that changed nodes read, and whether an output depends on changed nodes."""
    live = [o for o in model.graph.outputs if o.name not in same]
    needed: set[str] = set()
    seen = set(live)
    todo = list(live)
    while todo:
        node = todo.pop().producer()
        for value in node.inputs if node is not None else ():
            if value is None or value in seen or value.name in model.graph.initializers:
                continue
            seen.add(value)
            if value.name in same and value.type is not None and value.shape is not None:
                needed.add(str(value.name))
            else:
                todo.append(value)
    return needed, bool(live)


def _sources(model: ir.Model, wanted: Collection[str], known: Collection[str]) -> list[str]:
    """The nearest known values from which the wanted ones are computed."""
    producers = {str(o.name): node for node in model.graph for o in node.outputs}
    found: dict[str, None] = {}
    seen, todo = set(wanted), list(wanted)
    while todo:
        node = producers.get(todo.pop())
        for value in node.inputs if node is not None else ():
            if value is None or value.name in seen:
                continue
            seen.add(str(value.name))
            if value.name in known:
                found[str(value.name)] = None
            else:
                todo.append(str(value.name))
    return list(found)


def _alike(one: ir.Node, other: ir.Node) -> bool:
    """Whether two nodes compute the same results from the same inputs."""
    return (
        (one.op_type, one.domain) == (other.op_type, other.domain)
        and [None if v is None else v.name for v in one.inputs] == [None if v is None else v.name for v in other.inputs]
        and [o.name for o in one.outputs] == [o.name for o in other.outputs]
        and one.attributes.keys() == other.attributes.keys()
        and all(_equal(a, other.attributes[name]) for name, a in one.attributes.items())
    )


def _equal(one: ir.Attr, other: ir.Attr) -> bool:
    return one is other or (one.type == other.type and (one.value is other.value or bool(one.value == other.value)))


def _bytes(arrays: Sequence[Array]) -> int:
    return sum(a.nbytes for a in arrays)
