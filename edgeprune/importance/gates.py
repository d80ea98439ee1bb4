"""A network with a gate before every layer that reads a group: one factor for each channel.

A gate of 1 changes nothing. Setting the gates of a unit to 0 in all layers that read it removes the unit, as in the
masked-equivalence test of pruning. The gradient with respect to a gate is the first-order effect of removing it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.dependency import Group
from edgeprune.gradients import differentiable
from edgeprune.graph import Floats, naming, new_node, static_shape
from edgeprune.importance.context import Consumer, Context


@dataclass(frozen=True, eq=False)
class Gated:
    """A network with gates.

    Attributes:
        model: has one more input for each gated layer.
        gates: node name of a layer -> name of its gate.
        shapes: gate -> its shape, for one batch.
        samples: batch size.
        separate: whether every gate has one factor for each sample; false if it is not known where a layer's input has
            its samples, as with windows or time steps folded into them. Such a gate is common to the batch.
    """

    model: ir.Model
    gates: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    samples: int
    separate: bool

    def ones(self) -> dict[str, NDArray[np.float32]]:
        """Gates that remove nothing."""
        return {name: np.ones(shape, np.float32) for name, shape in self.shapes.items()}

    def channels(self, consumer: Consumer) -> NDArray[np.int32]:
        """The unit of every channel of the layer's input, or -1."""
        unit = consumer.unit.reshape(consumer.linear.groups, consumer.linear.taps, -1)[:, 0]
        size = self.shapes[self.gates[consumer.linear.node]][consumer.linear.input_axis]
        return np.ascontiguousarray(unit.reshape(-1)[:size])


def with_gates(
    context: Context, groups: Sequence[Group], shapes: Mapping[str, tuple[int, ...]], samples: int = 1
) -> Gated:
    """A copy of the model with fixed input shapes and a gate before every layer that reads the groups.

    Args:
        context: the model and its groups.
        groups: the groups whose readers get gates.
        shapes: input name -> shape.
        samples: how many samples lie along the first axis of every input; 1 gives gates common to the batch. Within the
            model they may lie along any axis: it is the one whose length has this factor.
    """
    model = differentiable(graph.infer_shapes(graph.clone(context.model), shapes))
    one = (
        graph.infer_shapes(graph.clone(context.model), {n: (1, *s[1:]) for n, s in shapes.items()})
        if samples > 1
        else None
    )
    single = {} if one is None else {str(o.name): static_shape(o) for node in one.graph for o in node.outputs}
    single |= {} if one is None else {str(v.name): static_shape(v) for v in one.graph.inputs}
    layers = {c.linear.node: c.linear for group in groups for c in context.consumers(group)}
    separate = True
    gates: dict[str, str] = {}
    sizes: dict[str, tuple[int, ...]] = {}
    with naming(model.graph):
        for node in list(model.graph):
            layer = layers.get(str(node.name))
            source = next(
                (v for v in node.inputs if v is not None and layer is not None and v.name == layer.input), None
            )
            if layer is None or source is None or source.shape is None:
                continue
            rank, axis = len(source.shape), layer.input_axis % len(source.shape)
            shape = [1] * rank
            if samples > 1:
                at = _sample_axis(single.get(str(source.name)), static_shape(source), samples)
                if at is None or at == axis:
                    separate = False
                else:
                    shape[at] = samples
            shape[axis] = int(str(source.shape[axis]))
            name = f"{layer.node}__gate"
            gate = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))
            model.graph.inputs.append(gate)
            gated = new_node(model.graph, "Mul", [source, gate], f"{layer.node}_gated", ir.DataType.FLOAT)
            model.graph.insert_before(node, [gated])
            for index, value in enumerate(node.inputs):
                if value is source:
                    node.replace_input_with(index, gated.outputs[0])
            gates[layer.node], sizes[name] = name, tuple(shape)
    return Gated(model, gates, sizes, samples, separate)


def _sample_axis(one: tuple[int, ...] | None, many: tuple[int, ...] | None, samples: int) -> int | None:
    """The only axis whose length is 1 for one sample and ``samples`` for so many; None if there is no such axis."""
    if one is None or many is None or len(one) != len(many):
        return None
    grown = [axis for axis, (a, b) in enumerate(zip(one, many, strict=True)) if a != b]
    return grown[0] if len(grown) == 1 and (one[grown[0]], many[grown[0]]) == (1, samples) else None


def per_unit(unit: NDArray[np.int32], values: NDArray[Any], size: int) -> Floats:
    """Sum of the values over the channels of each unit: from (samples, channels) to (samples, size)."""
    inside = unit >= 0
    total = np.zeros((len(values), size))
    np.add.at(total.T, unit[inside], values.T[inside])
    return total
