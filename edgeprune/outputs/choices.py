"""Where a network chooses positions (TopK, ArgMax, non-maximum suppression), and what shows its outputs before that.

Rows that are sorted by their scores, or that suppression has left, cannot be compared one by one: a small change of two
scores exchanges two rows. What is chosen from can be compared: the scores and boxes of all positions.

* A choice *at the end* has no weighted layer behind it. The outputs that it gives are compared before it.
* A choice *inside*, such as the queries of an RT-DETR or the proposals of a two-stage detector, decides what later
  layers read. Networks are compared with the choice of the original in all of them, and by what they choose from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import constant, dim_keys, has_subgraph, is_op

CHOICES: Mapping[str, tuple[int, ...]] = {
    "TopK": (0,),
    "NonMaxSuppression": (0, 1),
    "ArgMax": (0,),
    "ArgMin": (0,),
    "NonZero": (0,),
    "Compress": (0, 1),
    "Unique": (0,),
}
"""Operator -> the inputs that it chooses by."""

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "LayerNormalization", "Attention")

_MOST_FIXED, _MOST_KINDS = 64, 4
"""A constant with no more elements is no learned weight if they are evenly spaced, as the bins of a box distribution,
or of so few kinds, as in the matrix that turns centers into corners."""

_SIZES = ("Shape", "Size")
_MOVES = ("Cast", "Flatten", "Identity", "ReduceMax", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class Place:
    """A value, named by where it is read, because a quantized copy may read another value there.

    Attributes:
        node: name of the node that reads it; the name of an output if none does.
        index: of the node's input; -1 for an output.
        value: name of the value in the original.
    """

    node: str
    index: int
    value: str


@dataclass(frozen=True)
class Choices:
    """The choices of a model.

    Attributes:
        compared: output -> the values that are compared in its stead; the output itself if it needs no others.
        inside: integer result of a choice inside -> the values that it chooses from.
    """

    compared: Mapping[str, tuple[Place, ...]]
    inside: Mapping[str, tuple[Place, ...]]

    @property
    def any(self) -> bool:
        """Whether there is a choice that matters for a comparison."""
        return bool(self.inside) or any(p.index >= 0 for places in self.compared.values() for p in places)


def find_choices(model: ir.Model) -> Choices:
    """The choices of the main graph of a model whose nodes have names."""
    graph = _Graph(model)
    compared = {}
    for output in model.graph.outputs:
        itself = (Place(str(output.name), -1, str(output.name)),)
        compared[str(output.name)] = tuple(graph.before(output)) or itself
    inside = {}
    for node in model.graph:
        if is_op(node, *CHOICES) and node in graph.inside:
            result = node.outputs[-1 if node.op_type == "TopK" else 0]
            read = tuple(dict.fromkeys(p for i in CHOICES[node.op_type] for p in graph.floats(node, i)))
            if result.dtype is not None and result.dtype.is_integer() and read:
                inside[str(result.name)] = read
    return Choices(compared, inside)


def chosen_rows(model: ir.Model) -> tuple[str, ...]:
    """Outputs whose rows are what a choice inside has chosen, in its order: the boxes of a two-stage detector.

    Their first axis has the length of a choice, and no input has it.
    """
    graph = _Graph(model)
    behind = {value for node in graph.inside for value in node.outputs}
    lengths = {d for value in behind for d in dim_keys(value) or () if isinstance(d, int) and d > 1}
    for node in model.graph:
        if any(v in behind for v in node.inputs):
            behind.update(node.outputs)
    given = {d for value in model.graph.inputs for d in dim_keys(value) or ()}
    rows = ((value, keys[0]) for value in model.graph.outputs if value in behind and (keys := dim_keys(value)))
    return tuple(
        str(value.name)
        for value, first in rows
        if first not in given and (not isinstance(first, int) or first in lengths)
    )


class _Graph:
    """What follows from what.

    Attributes:
        learned: values that some weight has a part in.
        inside: nodes that choose for a later weighted layer.
        chosen: values that a choice at the end has a part in.
    """

    def __init__(self, model: ir.Model) -> None:
        nodes = list(model.graph)
        self.learned: set[ir.Value] = set()
        for node in nodes:
            if not is_op(node, *_SIZES) and (_is_layer(node) or any(v in self.learned for v in node.inputs)):
                self.learned.update(node.outputs)
        read_by_layers: set[ir.Value | None] = set()
        self.inside: set[ir.Node] = set()
        for node in reversed(nodes):
            if _is_layer(node) or any(v in read_by_layers for v in node.outputs):
                read_by_layers.update(node.inputs)
                if is_op(node, *CHOICES) and any(v in self.learned for v in node.inputs):
                    self.inside.add(node)
        self.chosen: set[ir.Value] = set()
        for node in nodes:
            ends = is_op(node, *CHOICES) and node not in self.inside and any(v in self.learned for v in node.inputs)
            if ends or (not _is_layer(node) and any(v in self.chosen for v in node.inputs)):
                self.chosen.update(node.outputs)

    def before(self, output: ir.Value) -> list[Place]:
        """The learned floats from which an output follows by choices alone; none if the output can be compared."""
        if output not in self.chosen and (_is_float(output) or output not in self.learned):
            return []
        found: dict[str, Place] = {}
        todo, seen = [output], {output}
        while todo:
            node = todo.pop().producer()
            if node is None or _is_layer(node):  # integers that a layer gives
                return []
            for index, value in enumerate(node.inputs):
                if value is None or value in seen or value not in self.learned or is_op(node, *_SIZES):
                    continue
                seen.add(value)
                if value in self.chosen or not _is_float(value):
                    todo.append(value)
                else:
                    place = self._unmoved(node, index)
                    found.setdefault(place.value, place)
        return list(found.values())

    def floats(self, node: ir.Node, index: int) -> Iterator[Place]:
        """The learned floats by which an input of a choice is computed."""
        todo = [(node, index)]
        while todo:
            node, index = todo.pop()
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is None or value not in self.learned:
                continue
            if _is_float(value):
                yield self._unmoved(node, index)
            elif (producer := value.producer()) is not None and not _is_layer(producer):
                todo += [(producer, i) for i in range(len(producer.inputs))]

    def _unmoved(self, node: ir.Node, index: int) -> Place:
        """A value before nodes that move it or take the maximum of its classes, so that its axes are still apart."""
        while True:
            value = node.inputs[index]
            assert value is not None
            producer = value.producer()
            source = producer.inputs[0] if producer is not None and is_op(producer, *_MOVES) else None
            if source is None or producer is None or source not in self.learned or not _is_float(source):
                return Place(str(node.name), index, str(value.name))
            node, index = producer, 0


def _is_layer(node: ir.Node) -> bool:
    """Whether a node has learned weights; what a body computes is not known."""
    if has_subgraph(node) or node.domain not in ("", "ai.onnx"):
        return True
    if not is_op(node, *_LAYERS):
        return False
    arrays = (constant(v) for v in node.inputs if v is not None)
    return any(array is not None and array.dtype.kind == "f" and not _is_fixed(array) for array in arrays)


def _is_fixed(array: NDArray[Any]) -> bool:
    if array.size > _MOST_FIXED:
        return False
    steps = np.diff(array.ravel())
    return len(np.unique(array)) <= _MOST_KINDS or bool(np.allclose(steps, steps[0]))


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()
