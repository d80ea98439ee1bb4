"""Second moments of the inputs of linear layers: the loss of rounding and of 2:4 masks is computed with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.calibration import Calibration
from edgeprune.graph import Floats, Linear
from edgeprune.recovery import Moments, Sampling, gather_rows, split_by_memory

GRAM_BYTES = 512 << 20
"""Matrices held at a time; more layers are gathered in further passes over the data."""
MOST_FEATURES = 4608
"""The features of a wider layer are treated as uncorrelated. 512 channels of a 3x3 convolution are not wider."""
SAMPLING = Sampling(macs=2e10, most_rows=16_384)
MEANS = Sampling(macs=0.0, rows_per_feature=0.0, least_rows=4096)
"""Enough rows for means alone."""

Quantizer = Callable[[Floats], Floats]
"""What quantization does to an activation; zero stays zero, so it also works on padded patches."""


@dataclass(frozen=True, eq=False)
class InputMoments:
    """Mean and second moment of a layer's features, as the layer will see them.

    Attributes:
        mean: shape (groups, features).
        covariance: centred, shape (groups, features, features); only its diagonal for a layer that is too wide.
        exact: whether the covariance includes correlations.
        true_mean: the mean before the features were quantized, shape (groups, features).
    """

    mean: Floats
    covariance: Floats
    exact: bool
    true_mean: Floats

    def gram(self, group: int, centred: bool) -> Floats:
        """E[h h'] of one group, shape (features, features); centred if a bias takes up the mean."""
        c = self.covariance[group]
        c = c if self.exact else np.diag(c)
        return c if centred else c + np.outer(self.mean[group], self.mean[group])


def input_moments(
    model: ir.Model,
    linears: Sequence[Linear],
    data: Calibration,
    *,
    quantizers: Mapping[str, Quantizer] | None = None,
    most_features: int = MOST_FEATURES,
    sampling: Sampling = SAMPLING,
    threads: int = 1,
) -> Iterator[tuple[Linear, InputMoments]]:
    """Every layer with the moments of its input, as many layers at a time as memory allows.

    Layers that share a weight have the moments of all their inputs together.

    Args:
        model: the model that computes the activations. All layers of one pass are measured before the first is
            yielded, so the caller may change their weights.
        linears: layers of the model.
        data: samples.
        quantizers: value name -> what quantization does to it, for inputs that will be quantized.
        most_features: wider layers get variances alone; 0 means all layers do.
        sampling: how many rows are used for a layer.
        threads: threads of onnxruntime.

    Raises:
        CalibrationError: an activation is NaN or infinite; the message names it.
    """
    by_weight: dict[str, list[Linear]] = {}
    for layer in linears:
        by_weight.setdefault(layer.weight, []).append(layer)
    todo = list(by_weight)
    while todo:
        first = (by_weight[weight][0] for weight in todo)
        sizes = (8 * x.groups * (x.features if x.features > most_features else x.features**2) for x in first)
        wave, todo = split_by_memory(todo, sizes, GRAM_BYTES)
        found = {w: Moments(diagonal=by_weight[w][0].features > most_features) for w in wave}
        true_sums: dict[str, Floats] = dict.fromkeys(found, np.zeros(1))
        layers = [layer for weight in wave for layer in by_weight[weight]]
        for layer, x in gather_rows(model, layers, data, sampling, threads):
            true_sums[layer.weight] = true_sums[layer.weight] + x.sum(axis=1, dtype=np.float64)
            quantizer = (quantizers or {}).get(layer.input)
            found[layer.weight].add(x if quantizer is None else quantizer(x))
        for weight in wave:
            moments = found.pop(weight)
            mean, _ = moments.means()
            covariance, _ = moments.covariances()
            true_mean = true_sums[weight] / moments.rows
            seen = InputMoments(mean, covariance, not moments.diagonal, true_mean)
            yield from ((layer, seen) for layer in by_weight[weight])
