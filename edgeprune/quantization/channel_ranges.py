"""Statistics of activations channel by channel, in one streaming pass: what equalization weighs against weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration import Calibration, IntermediateOutputs
from edgeprune.recovery import require_finite, sized_batches

Floats = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ChannelRange:
    """Of every channel of a value: least and largest value, and mean square; each of shape (channels,)."""

    low: Floats
    high: Floats
    square: Floats


def channel_ranges(
    model: ir.Model, axes: Mapping[str, int], data: Calibration, threads: int = 1
) -> dict[str, ChannelRange]:
    """Value name -> statistics along its channel axis.

    Args:
        model: gives out the values.
        axes: value name -> channel axis.
        data: at least one sample.
        threads: of onnxruntime.

    Raises:
        CalibrationError: a value is NaN or infinite; the text names it.
    """
    if not axes:
        return {}
    intermediate = IntermediateOutputs(model, axes, threads)
    low: dict[str, Floats] = {}
    high: dict[str, Floats] = {}
    square: dict[str, Floats] = dict.fromkeys(axes, np.zeros(1))
    rows = dict.fromkeys(axes, 0)
    for feeds, _ in sized_batches(data, intermediate):
        for name, x in intermediate.run(feeds).items():
            require_finite(x, name)
            flat = np.moveaxis(x, axes[name], 0).reshape(x.shape[axes[name]], -1)
            low[name] = np.minimum(low.get(name, np.inf), flat.min(axis=1))
            high[name] = np.maximum(high.get(name, -np.inf), flat.max(axis=1))
            square[name] = square[name] + np.einsum("cr,cr->c", flat, flat, dtype=np.float64)
            rows[name] += flat.shape[1]
    return {n: ChannelRange(low[n], high[n], square[n] / rows[n]) for n in low}
