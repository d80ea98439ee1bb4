"""Runs a model that also returns inner values: all statistics over activations use it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import with_outputs


class IntermediateOutputs:
    """Runs a model in onnxruntime and returns the named inner values."""

    def __init__(self, model: ir.Model, names: Iterable[str], threads: int = 1):
        self.names = tuple(dict.fromkeys(names))
        from edgeprune.backends import OnnxRuntime

        self._runner = OnnxRuntime(threads, spinning=False).load(with_outputs(model, self.names))
        self._inputs = {p.name for p in self._runner.inputs}

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The named values of one batch, by name."""
        outputs = self._runner.run({k: v for k, v in feeds.items() if k in self._inputs})
        return dict(zip(self.names, (np.asarray(o) for o in outputs), strict=True))
