"""Range and mean square of activations per channel, from one streaming pass over the calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.calibration import Calibration
from edgeprune.graph import Floats
from edgeprune.recovery import activations


@dataclass(frozen=True, eq=False)
class ChannelRange:
    """Smallest value, largest value and mean square of every channel of an activation; each of shape (channels,)."""

    low: Floats
    high: Floats
    square: Floats


def channel_ranges(
    model: ir.Model, axes: Mapping[str, int], data: Calibration, threads: int = 1
) -> dict[str, ChannelRange]:
    """Value name -> statistics along its channel axis.

    Args:
        model: the model that computes the values.
        axes: value name -> channel axis.
        data: at least one sample.
        threads: threads of onnxruntime.

    Raises:
        CalibrationError: a value is NaN or infinite; the message names it.
    """
    if not axes:
        return {}
    low: dict[str, Floats] = {}
    high: dict[str, Floats] = {}
    square: dict[str, Floats] = dict.fromkeys(axes, np.zeros(1))
    rows = dict.fromkeys(axes, 0)
    for values, _ in activations(model, axes, data, threads):
        for name, x in values.items():
            flat = np.moveaxis(x, axes[name], 0).reshape(x.shape[axes[name]], -1)
            low[name] = np.minimum(low.get(name, np.inf), flat.min(axis=1))
            high[name] = np.maximum(high.get(name, -np.inf), flat.max(axis=1))
            square[name] = square[name] + np.einsum("cr,cr->c", flat, flat, dtype=np.float64)
            rows[name] += flat.shape[1]
    return {n: ChannelRange(low[n], high[n], square[n] / rows[n]) for n in low}
