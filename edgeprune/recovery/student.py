"""A student network: its weights are inputs; its outputs are the gradients of its distance to the teacher.

The distance is a sum over *compared values*, which both networks have: squared differences times a factor. Class scores
count by their divergence instead (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.calibration import StatisticsRuntime
from edgeprune.gradients import Tape, backward, differentiable
from edgeprune.graph import remove_dead

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class ComparedValue:
    """A value at which the student is compared with the teacher.

    Attributes:
        name: name of the value in both networks.
        measure: ``square``: mean squared difference. ``weighted``: sum of squared differences, each times a factor that
            comes with the batch. ``divergence``: KL divergence of the softmax over the last axis.
        factor: what the distance is multiplied by.
        kept: axis -> positions of the teacher's value that the student has.
    """

    name: str
    measure: Literal["square", "weighted", "divergence"]
    factor: float
    kept: Mapping[int, NDArray[np.int64]]

    @property
    def target(self) -> str:
        """Name of the input that takes the teacher's value."""
        return f"{self.name}__target"

    @property
    def factors(self) -> str:
        """Name of the input that takes the factors of a weighted value."""
        return f"{self.name}__factors"

    def wanted(self, value: NDArray[Any]) -> NDArray[Any]:
        """The target of the student's value, given the teacher's value."""
        for axis, positions in self.kept.items():
            value = value.take(positions, axis=axis)
        return np.ascontiguousarray(value)


class Student:
    """A network whose gradients are computed by a graph, in onnxruntime or where `statistics_on` says.

    Args:
        model: float32, with static shapes. It is not changed.
        trained: names of the initializers to learn.
        compared: the compared values; a node of the main graph must compute each of them.
        threads: threads of onnxruntime.

    Attributes:
        trained: the initializers that a gradient reaches.
        stopped: node name -> why no gradient passes it.
    """

    def __init__(
        self, model: ir.Model, trained: Sequence[str], compared: Sequence[ComparedValue], threads: int
    ) -> None:
        work = differentiable(model)
        values = {str(o.name): o for node in work.graph for o in node.outputs}
        tape = Tape(work.graph)
        seeds = {c.name: _seed(tape, values[c.name], c) for c in compared}
        found = backward(tape, seeds, set(trained))
        self.trained = tuple(name for name in trained if name in found.of)
        self.stopped = found.stopped
        weights = [work.graph.initializers.pop(name) for name in self.trained]
        work.graph.inputs.extend(weights)
        for value in weights:
            value.const_value = None
        work.graph.outputs.clear()
        work.graph.outputs.extend(found.of[name] for name in self.trained)
        remove_dead(work.graph)
        self._runner = StatisticsRuntime(threads, spinning=False).load(graph.to_bytes(work))
        self._inputs = {str(v.name) for v in work.graph.inputs}

    def gradients(self, *inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Gradient of the distance on one batch with respect to each trained weight.

        Args:
            inputs: the model's own inputs, the trained weights, and the targets and factors of the compared values, by
                name.
        """
        given = {name: array for part in inputs for name, array in part.items() if name in self._inputs}
        return dict(zip(self.trained, self._runner.run(given), strict=True))


def _seed(tape: Tape, value: ir.Value, compared: ComparedValue) -> ir.Value:
    """Gradient of the distance at one compared value with respect to the student's value."""
    shape = [int(str(d)) for d in value.shape or ()]
    target = _input(tape, compared.target, value)
    if compared.measure == "divergence":
        gap = tape.op("Sub", tape.op("Softmax", value, axis=-1), tape.op("Softmax", target, axis=-1))
        return tape.scaled(gap, compared.factor / max(1, int(np.prod(shape[:-1]))))
    difference = tape.op("Sub", value, target)
    if compared.measure == "weighted":
        return tape.scaled(tape.op("Mul", difference, _input(tape, compared.factors, value)), 2 * compared.factor)
    return tape.scaled(difference, 2 * compared.factor / max(1, int(np.prod(shape))))


def _input(tape: Tape, name: str, like: ir.Value) -> ir.Value:
    value = ir.Value(name=name, shape=like.shape, type=ir.TensorType(ir.DataType.FLOAT))
    tape.graph.inputs.append(value)
    return value
