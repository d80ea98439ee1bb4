"""Teacher and student as modules over the same inputs, and the losses between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends import simulation
from edgeprune.calibration import Calibration, outputs_of
from edgeprune.distill.folder import Networks
from edgeprune.distill.losses import LOSSES, Loss, Pair
from edgeprune.distill.settings import Settings
from edgeprune.distill.student import Student, build_student
from edgeprune.errors import UsageError
from edgeprune.executor import GraphModule, RebatchError, open_batch
from edgeprune.graph import clone, count_macs, infer_shapes, static_shape
from edgeprune.outputs import Outputs

Arrays = Mapping[str, NDArray[Any]]


@dataclass(eq=False)
class Couple:
    """Both networks.

    Attributes:
        teacher: computes the dense model.
        student: the deployed model with its parameters.
        losses: name -> weight and loss.
        outputs: what the outputs are.
        axes: output name -> axis of its samples.
        batchable: whether several samples go through at once.
        macs: multiply-accumulates of one sample through the student.
    """

    teacher: GraphModule
    student: Student
    losses: dict[str, tuple[float, Loss]]
    outputs: Outputs
    axes: Mapping[str, int]
    batchable: bool
    macs: int


def couple(
    networks: Networks, data: Calibration, statistics: Arrays, settings: Settings, floats: ir.Model | None = None
) -> Couple:
    """Both networks as modules, with the losses between them.

    Args:
        networks: the dense and the deployed model.
        data: the samples.
        statistics: some of them, from which the weights of outputs are found.
        settings: losses, and which weights are trained.
        floats: the deployed model before it was quantized; if it is not known, the dense one has what was not cut.

    Raises:
        ModelError: an operator cannot be run in PyTorch.
        UsageError: no loss that was asked for compares anything in these networks.
    """
    # float16 would lose small gradients: weights are trained in float32, and rounded to float16 when they are written.
    dense, model = networks.dense, simulation.rounded_float32(networks.model, rounds=False)
    axes: Mapping[str, int] = data.axes.outputs
    batchable = data.batchable
    opened = dense, model
    if not batchable:
        try:
            (first, axes), (second, _) = open_batch(dense), open_batch(model)
            opened, batchable = (first, second), True
        except RebatchError:
            batchable = False
    teacher = GraphModule(opened[0], (), settings.device)
    student = build_student(networks.model, opened[1], settings, floats or dense)
    one = {name: array[:1] for name, array in statistics.items()}
    if batchable:
        samples = teacher.run(statistics)
    else:
        every = [
            teacher.run({n: x[i : i + 1] for n, x in statistics.items()})
            for i in range(len(next(iter(statistics.values()))))
        ]
        samples = {n: np.concatenate([e[n] for e in every], axis=axes.get(n, 0)) for n in every[0]}
    outputs = outputs_of(dense, data)
    shapes = {name: array.shape for name, array in one.items()}
    fixed, small = (infer_shapes(clone(m), shapes) for m in (dense, model))
    shared = _shared(fixed, small, networks)
    pair = Pair(fixed, small, shared, networks.kept, outputs, axes, samples, settings.temperature)
    made = {name: (weight, LOSSES[name](pair)) for name, weight in settings.losses.items()}
    losses = {name: (weight, found) for name, (weight, found) in made.items() if found is not None}
    if settings.losses and not losses and settings.labels is None:
        raise UsageError(f"--loss {','.join(settings.losses)}: these networks have nothing that it compares")
    return Couple(teacher, student, losses, outputs, axes, batchable, sum(count_macs(small).values()))


def _shared(dense: ir.Model, model: ir.Model, networks: Networks) -> tuple[str, ...]:
    """Names of float values that both have, and whose shapes differ by the plan alone."""
    originals = {str(o.name): static_shape(o) for node in dense.graph for o in node.outputs}
    found = []
    for node in model.graph:
        for value in node.outputs:
            name, shape = str(value.name), static_shape(value)
            wanted = originals.get(name)
            if value.dtype != ir.DataType.FLOAT or shape is None or wanted is None or len(wanted) != len(shape):
                continue
            kept = networks.kept
            if all(
                (len(kept[name, i]) if (name, i) in kept else w) == s
                for i, (w, s) in enumerate(zip(wanted, shape, strict=True))
            ):
                found.append(name)
    return tuple(found)
