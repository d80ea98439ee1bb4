"""Second moments of the inputs of linear layers: what rounding, 2:4 masks and equalization weigh weights by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration import Calibration
from edgeprune.graph import Linear
from edgeprune.recovery import Moments, Sampling, gather_rows

Floats = NDArray[Any]

GRAM_BYTES = 512 << 20
"""Matrices held at a time; more layers are gathered in further passes over the data."""
MOST_FEATURES = 4608
"""A wider layer's features are taken for uncorrelated: 512 channels of a 3x3 convolution still are not."""
SAMPLING = Sampling(products=2e10, most_rows=16_384)
MEANS = Sampling(products=0.0, rows_per_feature=0.0, least_rows=4096)
"""Enough for means alone."""


Quantizer = Callable[[Floats], Floats]
"""What rounding does to an activation; zero stays zero, so it may be applied to padded patches."""


@dataclass(frozen=True, eq=False)
class InputMoments:
    """Mean and second moment of a layer's features, as the layer will see them.

    Attributes:
        mean: shape (groups, features).
        covariance: centred, shape (groups, features, features); diagonal for a layer too wide for more.
        exact: whether the covariance holds correlations.
        true_mean: the mean before the features were quantized, shape (groups, features).
    """

    mean: Floats
    covariance: Floats
    exact: bool
    true_mean: Floats

    def gram(self, group: int, centred: bool) -> Floats:
        """E[h h'] of one group, shape (features, features); centred where a bias takes up the mean."""
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

    Args:
        model: whose activations count; all layers of a wave are measured before the first is given out.
        linears: layers of the model.
        data: samples.
        quantizers: value name -> what rounding does to it, for inputs that will be quantized.
        most_features: wider layers get variances alone; 0 for all.
        sampling: how many rows of a layer are looked at.
        threads: of onnxruntime.

    Raises:
        CalibrationError: an activation is NaN or infinite; the text names it.
    """
    todo = list(linears)
    while todo:
        wave, todo = _wave(todo, most_features)
        found = {layer.node: Moments(diagonal=layer.features > most_features) for layer in wave}
        true_sums: dict[str, Floats] = dict.fromkeys(found, np.zeros(1))
        for layer, x in gather_rows(model, wave, data, sampling, threads):
            true_sums[layer.node] = true_sums[layer.node] + x.sum(axis=1, dtype=np.float64)
            quantizer = (quantizers or {}).get(layer.input)
            seen = x if quantizer is None else quantizer(x)
            found[layer.node].add(seen, np.zeros((*x.shape[:2], 0), x.dtype))
        for layer in wave:
            moments = found.pop(layer.node)
            mean, _ = moments.means()
            covariance, _ = moments.covariances()
            true_mean = true_sums[layer.node] / moments.rows
            yield layer, InputMoments(mean, covariance, not moments.diagonal, true_mean)


def _wave(todo: list[Linear], most_features: int) -> tuple[list[Linear], list[Linear]]:
    total = 0
    for count, layer in enumerate(todo):
        size = layer.features if layer.features > most_features else layer.features**2
        total += 8 * layer.groups * size
        if total > GRAM_BYTES and count:
            return todo[:count], todo[count:]
    return todo, []
