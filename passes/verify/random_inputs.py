"""Random inputs of a model at given sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Feeds = dict[str, NDArray[Any]]


def random_feeds(model: ir.Model, shapes: Mapping[str, Sequence[int]], seed: int) -> Feeds | None:
    """Random inputs: normal for floats, 0 or 1 for integers; None if an input is not a tensor of numbers.

    Args:
        model: the model with these inputs.
        shapes: input name -> dimensions, for every input that is no initializer.
        seed: seed of the generator.
    """
    generator = np.random.default_rng(seed)
    feeds: Feeds = {}
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        if not isinstance(value.type, ir.TensorType) or value.dtype in (None, ir.DataType.STRING) or value.name is None:
            return None
        dims = tuple(shapes[value.name])
        dtype = value.type.dtype.numpy()
        floating = value.type.dtype.is_floating_point()
        array = generator.standard_normal(dims) if floating else generator.integers(0, 2, dims)
        if np.size(array) == 1 and len(dims) < 2 and seed == 0:
            array = np.abs(array)  # it may be a factor, such as the scale of a Resize
        feeds[value.name] = np.asarray(array).astype(dtype)
    return feeds
