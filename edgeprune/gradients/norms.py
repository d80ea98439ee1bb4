"""Gradients of normalizations, and of means and sums over axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.gradients.tape import Call, InputGradients, Shape, Tape, Unsupported, gradient


def _normalized(tape: Tape, x: ir.Value, axes: Sequence[int], epsilon: float) -> tuple[ir.Value, ir.Value]:
    """X with mean 0 and variance 1 over the axes, and one over the standard deviation."""
    centred = tape.op("Sub", x, tape.mean(x, axes))
    variance = tape.mean(tape.op("Mul", centred, centred), axes)
    inverse = tape.op("Reciprocal", tape.op("Sqrt", tape.op("Add", variance, tape.constant(epsilon))))
    return tape.op("Mul", centred, inverse), inverse


def _through(tape: Tape, dx_hat: ir.Value, x_hat: ir.Value, inverse: ir.Value, axes: Sequence[int]) -> ir.Value:
    """The gradient of values from the gradient of the normalized values (Ba et al. 2016, "Layer Normalization")."""
    along = tape.op("Mul", x_hat, tape.mean(tape.op("Mul", dx_hat, x_hat), axes))
    return tape.op("Mul", inverse, tape.op("Sub", tape.op("Sub", dx_hat, tape.mean(dx_hat, axes)), along))


@gradient("LayerNormalization")
def _layer_norm(call: Call) -> InputGradients:
    tape, dy, shape = call.tape, call.first_dy, call.shape(call.x(0))
    axes = list(range(call.axis("axis", -1, len(shape)), len(shape)))
    x_hat, inverse = _normalized(tape, call.x(0), axes, call.node.attributes.get_float("epsilon", 1e-5))
    dx = _through(tape, tape.op("Mul", dy, call.x(1)), x_hat, inverse, axes) if call.wants(0) else None
    scale = tape.summed_to(tape.op("Mul", dy, x_hat), shape, call.shape(call.x(1))) if call.wants(1) else None
    return dx, scale, tape.summed_to(dy, shape, call.shape(call.x(2))) if call.wants(2) else None


@gradient("InstanceNormalization", "GroupNormalization")
def _grouped_norm(call: Call) -> InputGradients:
    tape, shape = call.tape, call.shape(call.x(0))
    if call.node.op_type == "GroupNormalization" and call.shape(call.x(1)) != (shape[1],):
        raise Unsupported("GroupNormalization with one scale for each group")
    groups = call.node.attributes.get_int("num_groups", shape[1])
    split: Shape = (shape[0], groups, int(np.prod(shape[1:])) // groups)
    epsilon = call.node.attributes.get_float("epsilon", 1e-5)
    x_hat, inverse = _normalized(tape, tape.reshaped(call.x(0), split), [2], epsilon)
    scale = tape.reshaped(call.x(1), (shape[1], *[1] * (len(shape) - 2)))
    dx = None
    if call.wants(0):
        dx_hat = tape.reshaped(tape.op("Mul", call.first_dy, scale), split)
        dx = tape.reshaped(_through(tape, dx_hat, x_hat, inverse, [2]), shape)
    return dx, *_scale_and_shift(call, lambda: tape.reshaped(x_hat, shape))


def _scale_and_shift(call: Call, x_hat: Callable[[], ir.Value]) -> InputGradients:
    """Gradients of one scale and one shift for each channel, from the normalized values."""
    tape, others = call.tape, [axis for axis in range(len(call.shape(call.x(0)))) if axis != 1]
    scale = tape.summed(tape.op("Mul", call.first_dy, x_hat()), others) if call.wants(1) else None
    return scale, tape.summed(call.first_dy, others) if call.wants(2) else None


@gradient("BatchNormalization")
def _batch_norm(call: Call) -> InputGradients:
    """At inference: one factor and one shift for each channel; the statistics are constants."""
    tape, shape = call.tape, call.shape(call.x(0))
    scale, mean, variance = (call.constant(i) for i in (1, 3, 4))
    if scale is None or mean is None or variance is None or call.wants(3) or call.wants(4):
        raise Unsupported("BatchNormalization with computed statistics")
    column = (shape[1], *[1] * (len(shape) - 2))
    inverse = 1 / np.sqrt(variance.astype(np.float64) + call.node.attributes.get_float("epsilon", 1e-5))
    dx = None
    if call.wants(0):
        factor = tape.op("Mul", call.x(1), tape.constant(inverse))
        dx = tape.op("Mul", call.first_dy, tape.reshaped(factor, column))

    def x_hat() -> ir.Value:
        centred = tape.op("Sub", call.x(0), tape.constant(mean.reshape(column)))
        return tape.op("Mul", centred, tape.constant(inverse.reshape(column)))

    return dx, *_scale_and_shift(call, x_hat)


@gradient("ReduceMean", "ReduceSum", "ReduceL2")
def _reduce(call: Call) -> InputGradients:
    tape, shape = call.tape, call.shape(call.x(0))
    axes = call.constant(1)
    listed = call.node.attributes.get_ints("axes", ()) if axes is None else axes.tolist()
    if not listed and call.node.attributes.get_int("noop_with_empty_axes", 0) == 1:
        return [call.first_dy]
    places = {int(a) % len(shape) for a in listed} or set(range(len(shape)))
    kept = [1 if axis in places else size for axis, size in enumerate(shape)]
    dy = tape.reshaped(call.first_dy, kept)
    if call.node.op_type == "ReduceL2":
        dx = tape.op("Mul", call.x(0), tape.op("Div", dy, tape.reshaped(call.y, kept)))
    else:
        count = int(np.prod([shape[axis] for axis in places])) if call.node.op_type == "ReduceMean" else 1
        dx = tape.op("Expand", tape.scaled(dy, 1 / count), tape.constant(list(shape)))
    return [dx]
