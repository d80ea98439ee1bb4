"""Changed copies of a network on the same samples: what a copy leaves as it was is not computed again.

A trial cuts one group or quantizes one stretch of blocks, and everything before that gives what it gave in the
original. The values that cross from the unchanged to the changed part are taken from the original, which is itself run
from the nearest values that are still held: trials that go along the graph run the original once altogether.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph as graphs
from edgeprune.backends import OnnxRuntime
from edgeprune.calibration.intermediate_outputs import drop_unused
from edgeprune.support import run_in_parallel

Array = NDArray[Any]

HELD_BYTES = 256 << 20
"""Inner values that are held; a copy that needs more of them at once is run from its inputs."""


class PartialRuns:
    """Runs changed copies of a model.

    Args:
        model: the original.
        feeds: batches of its inputs.
        threads: of onnxruntime.
        held_bytes: how much of the original's inner values may be held.
    """

    def __init__(
        self, model: ir.Model, feeds: Sequence[Mapping[str, Array]], threads: int, held_bytes: int = HELD_BYTES
    ) -> None:
        self._model, self._feeds, self._runtime = model, feeds, OnnxRuntime(threads)
        self._held_bytes = held_bytes
        self._held: dict[str, list[Array]] = {}  # the longest unused first
        self.reference = self._run(model)

    def outputs(self, model: ir.Model) -> list[Array]:
        """Outputs of a copy, its samples joined."""
        if any(map(_has_graphs, model.graph)):  # which may read any value, without its being an input of the node
            return self._run(model)
        same = unchanged(self._model, model)
        needed, alive = frontier(model, same)
        if not alive or not needed - self._inputs():
            return self._run(model) if alive else list(self.reference)
        values = self._values(needed)
        return self._run(model) if values is None else self._resume(model, same, values)

    def _inputs(self) -> set[str]:
        return {str(v.name) for v in self._model.graph.inputs}

    def _run(self, model: ir.Model) -> list[Array]:
        return self._joined(model, self._feeds)

    def _joined(self, model: ir.Model, feeds: Sequence[Mapping[str, Array]]) -> list[Array]:
        batches = run_in_parallel(self._runtime.load(model).run, feeds, self._runtime.threads)
        return [np.concatenate([np.atleast_1d(o) for o in outputs]) for outputs in zip(*batches, strict=True)]

    def _resume(self, model: ir.Model, same: Collection[str], values: Mapping[str, Sequence[Array]]) -> list[Array]:
        names = [str(o.name) for o in model.graph.outputs]
        wanted = [n for n in names if n not in same]
        feeds = [{n: arrays[i] for n, arrays in values.items()} for i in range(len(self._feeds))]
        computed = dict(zip(wanted, self._joined(cut_out(model, values, wanted), feeds), strict=True))
        return [computed.get(n, known) for n, known in zip(names, self.reference, strict=True)]

    def _values(self, names: Collection[str]) -> dict[str, list[Array]] | None:
        """Inner values and inputs of the original by name, batch by batch; None if that is too much to hold."""
        inputs = self._inputs()
        missing = [n for n in names if n not in self._held and n not in inputs]
        if missing and not self._compute(missing, names):
            return None
        for name in names:
            if name in self._held:
                self._held[name] = self._held.pop(name)  # used last
        return {n: self._held[n] if n in self._held else [feeds[n] for feeds in self._feeds] for n in names}

    def _compute(self, missing: Sequence[str], needed: Collection[str]) -> bool:
        """Run the original from what is held to these values and hold them; False if there is no room."""
        reached = _sources(self._model, missing, self._inputs() | self._held.keys())
        feeds = [
            {n: self._held[n][i] if n in self._held else given[n] for n in reached}
            for i, given in enumerate(self._feeds)
        ]
        run = self._runtime.load(cut_out(self._model, reached, missing)).run
        held = sum(_bytes(self._held[n]) for n in needed if n in self._held)
        first = run(feeds[0])
        if held + len(feeds) * _bytes(first) > self._held_bytes:
            return False
        found = [first, *run_in_parallel(run, feeds[1:], self._runtime.threads)]
        self._held |= {n: list(arrays) for n, arrays in zip(missing, zip(*found, strict=True), strict=True)}
        total = sum(map(_bytes, self._held.values()))
        for name in [n for n in self._held if n not in needed]:
            if total <= self._held_bytes:
                break
            total -= _bytes(self._held.pop(name))
        return True


def unchanged(model: ir.Model, changed: ir.Model) -> set[str]:
    """Names of the changed copy's values that are what they are in the model, as far as that shows in the graph."""
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
    """What the changed nodes read of the unchanged values (weights aside), and whether an output depends on them."""
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


def cut_out(model: ir.Model, inputs: Collection[str], outputs: Sequence[str]) -> ir.Model:
    """The part of a model between some values, as a model of its own."""
    part = graphs.clone(model)
    values = {str(v.name): v for v in (*part.graph.inputs, *(o for n in part.graph for o in n.outputs))}
    part.graph.outputs.clear()
    part.graph.outputs.extend(values[n] for n in outputs)
    part.graph.inputs.clear()
    for name in inputs:
        inner = values[name]
        outer = ir.Value(name=name, shape=inner.shape, type=inner.type)
        inner.name = f"{name}/replaced"
        for reader, index in tuple(inner.uses()):
            reader.replace_input_with(index, outer)
        part.graph.inputs.append(outer)
    drop_unused(part)
    return part


def _sources(model: ir.Model, wanted: Collection[str], known: Collection[str]) -> list[str]:
    """Which of the known values the wanted ones are computed from."""
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
    """Whether two nodes compute the same of the same inputs."""
    return (
        (one.op_type, one.domain) == (other.op_type, other.domain)
        and [None if v is None else v.name for v in one.inputs] == [None if v is None else v.name for v in other.inputs]
        and [o.name for o in one.outputs] == [o.name for o in other.outputs]
        and one.attributes.keys() == other.attributes.keys()
        and all(_equal(a, other.attributes[name]) for name, a in one.attributes.items())
    )


def _has_graphs(node: ir.Node) -> bool:
    return any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())


def _equal(one: ir.Attr, other: ir.Attr) -> bool:
    return one is other or (one.type == other.type and (one.value is other.value or bool(one.value == other.value)))


def _bytes(arrays: Sequence[Array]) -> int:
    return sum(a.nbytes for a in arrays)
