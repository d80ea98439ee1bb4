"""Round weights to INT8 so that the layers' outputs change least, and correct the biases for the change of the mean.

Rounding to the nearest integer is not the best for a layer: errors of correlated inputs can cancel (Nagel et al. 2020,
"AdaRound"). AdaRound learns the rounding by gradient. Here it follows from the inputs' second moment, by GPTQ's sweep
and by coordinate descent (`edgeprune.quantization.column_updates`): no output's error grows. The second moment is that
of the inputs as they will be quantized.

The bias then takes up the change of each output's mean by rounding weights *and* activations (Nagel et al. 2019,
section 4.2): b + W E[x] - W_q E[x_q].

Requires a canonical float model. Ensures that weights stay float and lie on the grid of `qdq.quantize_weight`, so that
quantizing them changes nothing more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.calibration import Calibration
from edgeprune.graph import (
    Floats,
    Linear,
    find_linears,
    has_bias,
    layer_bias,
    layer_matrix,
    layers_by_weight,
    quantize_weight,
    set_shared_weights,
)
from edgeprune.passes.quantize.affine_ops import AffineOp, affine_op_of
from edgeprune.quantization import (
    MEANS,
    MOST_FEATURES,
    SAMPLING,
    Grid,
    InputMoments,
    Quantizer,
    input_moments,
    round_rows,
    row_losses,
)


def round_weights(
    model: ir.Model,
    int8: Collection[str],
    calibration: Calibration,
    *,
    quantizers: Mapping[str, Quantizer] | None = None,
    weight_bits: int = 8,
    search: bool = True,
    threads: int = 1,
) -> ir.Model:
    """A copy of the model with the weights of the named nodes on their INT8 grids, and corrected biases.

    Args:
        model: canonical, float.
        int8: names of nodes that will run in INT8; nodes that are no linear layers stay as they are.
        calibration: samples.
        quantizers: value name -> what quantization will do to it (see `fake_quantizer`).
        weight_bits: bits of the grid.
        search: whether the best rounding is searched; otherwise weights are rounded to nearest, and only biases are
            fitted.
        threads: threads of onnxruntime.

    Raises:
        CalibrationError: an activation is not finite on the data.
    """
    copy = graphs.clone(model)
    quantizers = _with_affine_ops(model, int8, quantizers or {})
    linears = find_linears(copy)
    together = {
        weight: layers
        for weight, layers in layers_by_weight(copy, linears.values()).items()
        if all(layer.node in int8 for layer in layers)
    }
    layers = [layer for several in together.values() for layer in several]
    moments = input_moments(
        model,
        layers,
        calibration,
        quantizers=quantizers,
        most_features=MOST_FEATURES if search else 0,
        sampling=SAMPLING if search else MEANS,
        threads=threads,
    )
    for layer, seen in moments:
        if (several := together.pop(layer.weight, None)) is not None:
            _round_layers(copy, several, seen, weight_bits, search)
    return copy


def fake_quantizer(scale: float, zero: int, low: int, high: int) -> Quantizer:
    """What QuantizeLinear and DequantizeLinear with these parameters do to an activation."""

    def rounded(x: Floats) -> Floats:
        steps = np.clip(np.rint(x / np.float32(scale)), low - zero, high - zero)
        return np.asarray(steps * np.float32(scale), dtype=x.dtype)

    return rounded


def _with_affine_ops(
    model: ir.Model, int8: Collection[str], quantizers: Mapping[str, Quantizer]
) -> dict[str, Quantizer]:
    """The quantizers, and those of the outputs of INT8 affine ops, which have the quantized values of their inputs."""
    found, affine_ops = dict(quantizers), dict[str, AffineOp]()
    for node in model.graph:
        affine_op = affine_op_of(node) if node.name in int8 else None
        out = str(node.outputs[0].name)
        if affine_op is None or out in found:
            continue
        if (before := affine_ops.get(str(affine_op.source.name))) is not None:
            affine_op = affine_op.after(before)
        if (quantizer := quantizers.get(str(affine_op.source.name))) is not None:
            affine_ops[out], found[out] = affine_op, _quantizer_after(affine_op, quantizer)
    return found


def _quantizer_after(affine_op: AffineOp, quantizer: Quantizer) -> Quantizer:
    """What quantizing an affine op's input does to its output."""

    def rounded(y: Floats) -> Floats:
        kind = y.dtype.type
        x = quantizer((y - kind(affine_op.shift)) / kind(affine_op.slope))
        seen = kind(affine_op.slope) * x + kind(affine_op.shift)
        if np.isfinite([affine_op.low, affine_op.high]).any():
            seen = np.clip(seen, affine_op.low, affine_op.high)
        return np.asarray(seen * (y != 0))  # zeros from padding are exact

    return rounded


def _round_layers(model: ir.Model, layers: Sequence[Linear], seen: InputMoments, bits: int, search: bool) -> None:
    """Round the weight of one layer, or of several layers that share it."""
    layer = layers[0]
    matrix = layer_matrix(model, layer)
    bias = layer_bias(model, layer)
    rounded = np.empty_like(matrix)
    for g in range(layer.groups):
        scale = quantize_weight(matrix[g], 0, bits)[1].astype(np.float64)
        grid = Grid(scale, 2 ** (bits - 1) - 1)
        if search and seen.exact:
            gram = seen.gram(g, centred=has_bias(layer))
            rounded[g] = _keeping_scale(matrix[g], round_rows(matrix[g], gram, grid), gram, grid)
        else:
            rounded[g] = grid.snap(matrix[g])
    wanted = np.einsum("gof,gf->go", matrix, seen.true_mean)
    bias = bias + wanted - np.einsum("gof,gf->go", rounded, seen.mean)
    set_shared_weights(model, layers, rounded, bias)


def _keeping_scale(matrix: Floats, rounded: Floats, gram: Floats, grid: Grid) -> Floats:
    """The rounded rows, with the largest weight of each at the end of the grid, so that quantizing finds the same grid.

    A row that loses more than by rounding to nearest is rounded to nearest.
    """
    nearest = grid.snap(matrix)
    fixed = rounded.copy()
    rows, largest = np.arange(len(matrix)), np.abs(matrix).argmax(axis=1)
    fixed[rows, largest] = nearest[rows, largest]
    worse = row_losses(fixed - matrix, gram) > row_losses(nearest - matrix, gram)
    return np.asarray(np.where(worse[:, None], nearest, fixed))
