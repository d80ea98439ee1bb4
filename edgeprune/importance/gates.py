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
from edgeprune.graph import Floats, naming, new_node
from edgeprune.importance.context import Consumer, Context


@dataclass(frozen=True, eq=False)
class Gated:
    """A network with gates.

    Attributes:
        model: has one more input for each gated layer.
        gates: node name of a layer -> name of its gate.
        shapes: gate -> its shape, for one batch.
        samples: batch size.
    """

    model: ir.Model
    gates: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    samples: int

    def ones(self) -> dict[str, NDArray[np.float32]]:
        """Gates that remove nothing."""
        return {name: np.ones(shape, np.float32) for name, shape in self.shapes.items()}

    def channels(self, consumer: Consumer) -> NDArray[np.int32]:
        """The unit of every channel of the layer's input, or -1."""
        unit = consumer.unit.reshape(consumer.linear.groups, consumer.linear.taps, -1)[:, 0]
        size = self.shapes[self.gates[consumer.linear.node]][consumer.linear.input_axis]
        return np.ascontiguousarray(unit.reshape(-1)[:size])


def with_gates(
    context: Context, groups: Sequence[Group], shapes: Mapping[str, tuple[int, ...]], samples: int | None = None
) -> Gated:
    """A copy of the model with fixed input shapes and a gate before every layer that reads the groups.

    ``samples`` is the number of samples along the first axis of every tensor, by default that of the first input.
    """
    model = differentiable(graph.infer_shapes(graph.clone(context.model), shapes))
    layers = {c.linear.node: c.linear for group in groups for c in context.consumers(group)}
    samples = next(iter(shapes.values()))[0] if samples is None else samples
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
            shape[0] = samples if rank > 1 and source.shape[0] == samples else 1
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
    return Gated(model, gates, sizes, samples)


def per_unit(unit: NDArray[np.int32], values: NDArray[Any], size: int) -> Floats:
    """Sum of the values over the channels of each unit: from (samples, channels) to (samples, size)."""
    inside = unit >= 0
    total = np.zeros((len(values), size))
    np.add.at(total.T, unit[inside], values.T[inside])
    return total
