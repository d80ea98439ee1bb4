"""Gradients of normalizations and of means and sums over axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.gradients.tape import Call, Shape, Tape, Unsupported, gradient

Given = Sequence["ir.Value | None"]


def _normalized(tape: Tape, x: ir.Value, axes: Sequence[int], epsilon: float) -> tuple[ir.Value, ir.Value]:
    """X with mean 0 and variance 1 over the axes, and one over the deviation."""
    centred = tape.op("Sub", x, tape.mean(x, axes))
    variance = tape.mean(tape.op("Mul", centred, centred), axes)
    inverse = tape.op("Reciprocal", tape.op("Sqrt", tape.op("Add", variance, tape.constant(epsilon))))
    return tape.op("Mul", centred, inverse), inverse


def _through(tape: Tape, dx_hat: ir.Value, x_hat: ir.Value, inverse: ir.Value, axes: Sequence[int]) -> ir.Value:
    """From the gradient of normalized values to that of the values themselves (Ba et al. 2016, "Layer Norm.")."""
    along = tape.op("Mul", x_hat, tape.mean(tape.op("Mul", dx_hat, x_hat), axes))
    return tape.op("Mul", inverse, tape.op("Sub", tape.op("Sub", dx_hat, tape.mean(dx_hat, axes)), along))


@gradient("LayerNormalization")
def _layer_norm(call: Call) -> Given:
    tape, dy, shape = call.tape, call.first_dy, call.shape(call.x(0))
    axes = list(range(call.axis("axis", -1, len(shape)), len(shape)))
    x_hat, inverse = _normalized(tape, call.x(0), axes, call.node.attributes.get_float("epsilon", 1e-5))
    given: list[ir.Value | None] = [None] * len(call.node.inputs)
    if call.wanted[0]:
        given[0] = _through(tape, tape.op("Mul", dy, call.x(1)), x_hat, inverse, axes)
    if call.wanted[1]:
        given[1] = tape.summed_to(tape.op("Mul", dy, x_hat), shape, call.shape(call.x(1)))
    if len(given) > 2 and call.wanted[2]:
        given[2] = tape.summed_to(dy, shape, call.shape(call.x(2)))
    return given


@gradient("InstanceNormalization", "GroupNormalization")
def _grouped_norm(call: Call) -> Given:
    tape, shape = call.tape, call.shape(call.x(0))
    if call.node.op_type == "GroupNormalization" and call.shape(call.x(1)) != (shape[1],):
        raise Unsupported("GroupNormalization with one scale a group")
    groups = call.node.attributes.get_int("num_groups", shape[1])
    split: Shape = (shape[0], groups, int(np.prod(shape[1:])) // groups)
    x_hat, inverse = _normalized(
        tape, tape.reshaped(call.x(0), split), [2], call.node.attributes.get_float("epsilon", 1e-5)
    )
    others = [axis for axis in range(len(shape)) if axis != 1]
    scale = tape.reshaped(call.x(1), (shape[1], *[1] * (len(shape) - 2)))
    given: list[ir.Value | None] = [None, None, None]
    if call.wanted[0]:
        dx_hat = tape.reshaped(tape.op("Mul", call.first_dy, scale), split)
        given[0] = tape.reshaped(_through(tape, dx_hat, x_hat, inverse, [2]), shape)
    if call.wanted[1]:
        given[1] = tape.summed(tape.op("Mul", call.first_dy, tape.reshaped(x_hat, shape)), others)
    if call.wanted[2]:
        given[2] = tape.summed(call.first_dy, others)
    return given


@gradient("BatchNormalization")
def _batch_norm(call: Call) -> Given:
    """At inference: one factor and one shift a channel; statistics are constants."""
    tape, shape = call.tape, call.shape(call.x(0))
    scale, mean, variance = (call.constant(i) for i in (1, 3, 4))
    if scale is None or mean is None or variance is None or call.wanted[3] or call.wanted[4]:
        raise Unsupported("BatchNormalization with computed statistics")
    column = (shape[1], *[1] * (len(shape) - 2))
    inverse = 1 / np.sqrt(variance.astype(np.float64) + call.node.attributes.get_float("epsilon", 1e-5))
    others = [axis for axis in range(len(shape)) if axis != 1]
    given: list[ir.Value | None] = [None] * 5
    if call.wanted[0]:
        factor = tape.op("Mul", call.x(1), tape.constant(inverse))
        given[0] = tape.op("Mul", call.first_dy, tape.reshaped(factor, column))
    if call.wanted[1]:
        centred = tape.op("Sub", call.x(0), tape.constant(mean.reshape(column)))
        x_hat = tape.op("Mul", centred, tape.constant(inverse.reshape(column)))
        given[1] = tape.summed(tape.op("Mul", call.first_dy, x_hat), others)
    if call.wanted[2]:
        given[2] = tape.summed(call.first_dy, others)
    return given


@gradient("ReduceMean", "ReduceSum", "ReduceL2")
def _reduce(call: Call) -> Given:
    tape, shape = call.tape, call.shape(call.x(0))
    axes = call.constant(1) if len(call.node.inputs) > 1 else None
    listed = call.node.attributes.get_ints("axes", ()) if axes is None else axes.tolist()
    if not listed and call.node.attributes.get_int("noop_with_empty_axes", 0) == 1:
        return [call.first_dy, *[None] * (len(call.node.inputs) - 1)]
    places = {int(a) % len(shape) for a in listed} or set(range(len(shape)))
    kept = [1 if axis in places else size for axis, size in enumerate(shape)]
    dy = tape.reshaped(call.first_dy, kept)
    if call.node.op_type == "ReduceL2":
        dx = tape.op("Mul", call.x(0), tape.op("Div", dy, tape.reshaped(call.y, kept)))
    else:
        count = int(np.prod([shape[axis] for axis in places])) if call.node.op_type == "ReduceMean" else 1
        dx = tape.op("Expand", tape.scaled(dy, 1 / count), tape.constant(list(shape)))
    return [dx, *[None] * (len(call.node.inputs) - 1)]
