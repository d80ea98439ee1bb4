"""Criteria from gradients: the first-order change of the loss when a unit is removed, and its square.

The divergence of a network from itself has gradient zero. So labels are drawn from the network's own output: a class
from its softmax, or, for outputs that are no class scores, the output plus Gaussian noise of the output's standard
deviation. The expected square is then the Fisher information (Theis et al. 2018, eq. 9). No training framework is
needed: the gradients are a graph (:mod:`edgeprune.gradients`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.calibration import StatisticsRuntime, open_comparable, outputs_of
from edgeprune.dependency import Group, Ranking
from edgeprune.errors import PassError
from edgeprune.gradients import Tape, backward
from edgeprune.graph import Floats
from edgeprune.importance.bilinear import rank_without_consumers
from edgeprune.importance.context import Context, ranking_from
from edgeprune.importance.gates import Gated, per_unit, with_gates
from edgeprune.importance.registry import criterion
from edgeprune.outputs import OutputSpec, sum_to_one
from edgeprune.recovery import Arrays, has_classes

SAMPLES = 256
"""With more samples a ranking by mean squares hardly changes."""
BATCH = 8
DRAWS = 4
"""Labels drawn for each sample."""


@criterion("taylor", source="Molchanov et al. 2017, Pruning CNNs for Resource Efficient Inference", needs_data=True)
def taylor(context: Context) -> dict[str, Ranking]:
    """Mean over samples of the absolute first-order change of the loss, gate by gate."""
    return _rank(context, np.abs)


@criterion("fisher", source="Theis et al. 2018, Faster Gaze Prediction with Dense Networks", needs_data=True)
def fisher(context: Context) -> dict[str, Ranking]:
    """Half the mean over samples of the squared first-order change of the loss."""
    return _rank(context, lambda gradient: 0.5 * gradient**2)


def _rank(context: Context, measure: Callable[[Floats], Floats]) -> dict[str, Ranking]:
    comparable = open_comparable(context.model, context.data())
    context = replace(
        context, model=comparable.of(context.model), calibration=comparable.data(context.data()), shared=None
    )
    groups, rankings = rank_without_consumers(context)
    totals = {group.id: np.zeros(group.size) for group in groups}
    if not groups:
        return rankings
    for gated, gradients in _gate_gradients(context, groups):
        for group in groups:
            change = _change(context, gated, group, gradients)
            totals[group.id] += measure(change).sum(axis=0)
    return rankings | {group.id: ranking_from(totals[group.id]) for group in groups}


def _change(context: Context, gated: Gated, group: Group, gradients: Arrays) -> Floats:
    """First-order change of each sample's loss when a unit is removed: shape (samples, size)."""
    total = np.zeros((gated.samples, group.size))
    for consumer in context.consumers(group):
        gate = gated.gates.get(consumer.linear.node)
        if gate is not None:  # of its axes, only those of the samples and of the channels are longer than 1
            moved = np.moveaxis(gradients[gate], consumer.linear.input_axis, -1)
            moved = moved.reshape(-1, moved.shape[-1])
            total = total + per_unit(gated.channels(consumer), moved, group.size)
    return total


def _gate_gradients(context: Context, groups: list[Group]) -> Iterator[tuple[Gated, Arrays]]:
    """For every batch and draw of labels, the gradient of each sample's loss with respect to the gates.

    Raises:
        PassError: an operator without a gradient lies between a gate and the outputs.
    """
    data = context.data().subset(SAMPLES)
    size = BATCH if data.batchable and data.items >= BATCH else 1
    rng = np.random.default_rng(context.seed)
    shapes = {name: x.shape for name, x in next(iter(data.batches(size))).items()}
    gated = with_gates(context, groups, shapes, size)
    if not gated.separate:  # the square of a sum over samples is not the sum of their squares
        size = 1
        shapes = {name: x.shape for name, x in next(iter(data.batches(size))).items()}
        gated = with_gates(context, groups, shapes)
    runner, outputs = _with_gradients(gated)
    inputs = [str(v.name) for v in gated.model.graph.inputs]
    plain = StatisticsRuntime().load(context.model)
    names = [str(o.name) for o in context.model.graph.outputs]
    kinds = outputs_of(context.model, context.data())
    few = [plain.run(feeds) for feeds in data.subset(BATCH).batches(size)]
    deviation = {
        name: _deviation(found) for name, found in zip(names, zip(*few, strict=True), strict=True) if name in outputs
    }
    for feeds in data.batches(size):
        if any(feeds[name].shape != shape for name, shape in shapes.items()):
            continue
        answers = dict(zip(names, plain.run(feeds), strict=True))
        for _ in range(DRAWS):
            seeds = {
                f"{name}__seed": _scaled(
                    _drawn(answers[name], kinds.spec_of(name), rng, size, deviation[name]), kinds.share_of(name)
                )
                for name in outputs
            }
            given = {**feeds, **seeds, **gated.ones()}
            found = runner.run({name: given[name] for name in inputs if name in given})
            yield gated, dict(zip(gated.gates.values(), found, strict=True))


def _with_gradients(gated: Gated) -> tuple[Any, list[str]]:
    """A session that computes the gates' gradients from gradients of the outputs, and the names of these outputs."""
    model = gated.model
    outputs = [o for o in model.graph.outputs if o.dtype == ir.DataType.FLOAT and o.producer() is not None]
    seeds = {}
    for output in outputs:
        seed = ir.Value(name=f"{output.name}__seed", shape=output.shape, type=ir.TensorType(ir.DataType.FLOAT))
        model.graph.inputs.append(seed)
        seeds[str(output.name)] = seed
    found = backward(Tape(model.graph), seeds, set(gated.gates.values()))
    missing = [node for node, gate in gated.gates.items() if gate not in found.of]
    if missing:
        reason = next(iter(found.stopped.items()), ("", "no float output depends on it"))
        raise PassError(f"no gradient reaches the input of {missing[0]!r}: {reason[1]} [{reason[0]}]")
    model.graph.outputs.clear()
    model.graph.outputs.extend(found.of[gate] for gate in gated.gates.values())
    return StatisticsRuntime().load(graph.to_bytes(model)), list(seeds)


def _deviation(found: Sequence[NDArray[Any]]) -> float:
    """Standard deviation of an output over several batches; they need not have the same shape."""
    return max(float(np.concatenate([x.ravel() for x in found]).std(dtype=np.float64)), 1e-6)


def _scaled(seed: NDArray[np.float64], share: float) -> NDArray[np.float32]:
    """The gradient times the root of the output's share, so that the expected square has it.

    An output with many positions does not count more than one with few.
    """
    return np.asarray(seed * np.sqrt(share), np.float32)


def _drawn(
    answer: NDArray[Any], spec: OutputSpec, rng: np.random.Generator, samples: int, deviation: float
) -> NDArray[np.float64]:
    """Gradient of each sample's loss for drawn labels with respect to an output, averaged over its positions.

    ``samples`` are in the output, along any axis; the output has this standard deviation over many samples.

    For logits z and a class drawn from p = softmax(z): p - onehot. For an output that is already p: -onehot / p. For
    any other output: Gaussian noise divided by the output's standard deviation. The mean of n independent gradients is
    expected to have 1/n of the square, so it is their sum over the root of n.
    """
    x = answer.astype(np.float64)
    if not has_classes(spec):
        values = max(1, x.size // samples)
        return np.asarray(rng.standard_normal(x.shape) / deviation / np.sqrt(values))
    x = np.moveaxis(x, spec.axis, -1)
    positions = max(1, int(np.prod(x.shape[:-1])) // samples)
    probabilities = sum_to_one(x, -1)
    p = x if probabilities else np.exp(x - x.max(axis=-1, keepdims=True))
    p = p / p.sum(axis=-1, keepdims=True)
    below = np.cumsum(p, axis=-1) < rng.random((*p.shape[:-1], 1))
    drawn = np.arange(p.shape[-1]) == np.minimum(below.sum(axis=-1, keepdims=True), p.shape[-1] - 1)
    found = np.where(drawn, -1 / np.maximum(p, 1e-6), 0.0) if probabilities else p - drawn
    return np.asarray(np.moveaxis(found, -1, spec.axis) / np.sqrt(positions))
