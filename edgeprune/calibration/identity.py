"""The key of cached statistics: the model, the calibration data, this program, its libraries and the processor."""

from __future__ import annotations

import functools
import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

import edgeprune
import edgeprune.passes
from edgeprune.calibration.calibration import Calibration
from edgeprune.dependency import OpenedModel

_LIBRARIES = ("numpy", "onnx-ir", "onnxruntime", "scipy")


def identity_of(opened: OpenedModel, data: Calibration, device: str) -> str:
    """A text that differs if a statistic of the opened model on the data may differ."""
    shapes = {str(v.name): str(v.shape) for v in opened.fixed.graph.inputs}
    groups = [(g.id, g.size) for g in opened.analysis.groups]
    libraries = {name: version(name) for name in _LIBRARIES}
    weights = _external_weights(opened.original)
    facts = (opened.sha256, weights, digest(data), shapes, groups, program(), libraries, device, data.outputs)
    return "\n".join(map(str, facts))


def digest(data: Calibration) -> str:
    """SHA-256 of all samples, in order, with their names, types and shapes."""
    total = hashlib.sha256()
    for feeds in data.batches():
        for name, array in sorted(feeds.items()):
            total.update(f"{name} {array.dtype} {array.shape}".encode())
            total.update(_bytes(array))
    return total.hexdigest()


@functools.cache
def program() -> str:
    """SHA-256 of this program's source: results of another version are not used."""
    total = hashlib.sha256(edgeprune.__version__.encode())
    for folder in (*edgeprune.__path__, *edgeprune.passes.__path__):
        for file in sorted(Path(folder).rglob("*.py")):
            total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()


def _external_weights(model: ir.Model) -> str:
    """SHA-256 of the weights outside the model's own file: the digest of that file does not cover them."""
    total = hashlib.sha256()
    for name, value in sorted(model.graph.initializers.items()):
        if isinstance(value.const_value, ir.ExternalTensor):
            total.update(name.encode() + _bytes(value.const_value.numpy()))
    return total.hexdigest()


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
