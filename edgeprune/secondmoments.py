"""Second moments of the inputs of linear layers: what rounding, 2:4 masks and equalization weigh weights by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibrate import Calibration
from edgeprune.gather import Sampling, gather_rows
from edgeprune.linear import Linear
from edgeprune.ridge import Moments

Floats = NDArray[Any]

GRAM_BYTES = 512 << 20
"""Matrices held at a time; more layers are gathered in further passes over the data."""
MOST_FEATURES = 4608
"""A wider layer's features are taken for uncorrelated: 512 channels of a 3x3 convolution still are not."""
SAMPLING = Sampling(products=2e10, most_rows=16_384)


@dataclass(frozen=True, eq=False)
class InputMoments:
    """Mean and second moment of a layer's features.

    Attributes:
        mean: shape (groups, features).
        covariance: centred, shape (groups, features, features); diagonal for a layer too wide for more.
        exact: whether the covariance holds correlations.
    """

    mean: Floats
    covariance: Floats
    exact: bool

    def gram(self, group: int, centred: bool) -> Floats:
        """E[h h'] of one group, shape (features, features); centred where a bias takes up the mean."""
        c = self.covariance[group]
        c = c if self.exact else np.diag(c)
        return c if centred else c + np.outer(self.mean[group], self.mean[group])


def input_moments(
    model: ir.Model, linears: Sequence[Linear], data: Calibration, threads: int = 1
) -> Iterator[tuple[Linear, InputMoments]]:
    """Every layer with the moments of its input, as many layers at a time as memory allows.

    Raises:
        CalibrationError: an activation is NaN or infinite; the text names it.
    """
    todo = list(linears)
    while todo:
        wave, todo = _wave(todo)
        found = {layer.node: Moments(diagonal=layer.features > MOST_FEATURES) for layer in wave}
        for layer, x in gather_rows(model, wave, data, SAMPLING, threads):
            found[layer.node].add(x, np.zeros((*x.shape[:2], 0), x.dtype))
        for layer in wave:
            moments = found.pop(layer.node)
            mean, _ = moments.means()
            covariance, _ = moments.covariances()
            yield layer, InputMoments(mean, covariance, not moments.diagonal)


def _wave(todo: list[Linear]) -> tuple[list[Linear], list[Linear]]:
    total = 0
    for count, layer in enumerate(todo):
        size = layer.features if layer.features > MOST_FEATURES else layer.features**2
        total += 8 * layer.groups * size
        if total > GRAM_BYTES and count:
            return todo[:count], todo[count:]
    return todo, []
