"""Runs a model that also returns inner values: all statistics over activations use it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration.calibration import Calibration
from edgeprune.calibration.sources import Feeds
from edgeprune.calibration.statistics_runtime import StatisticsRuntime
from edgeprune.graph import static_shape, with_outputs

ACTIVATION_BYTES = 128 << 20
"""Batches are made so small that their activations stay below this."""


class IntermediateOutputs:
    """Runs a model, in onnxruntime or where `statistics_on` says, and returns the named inner values."""

    def __init__(self, model: ir.Model, names: Iterable[str], threads: int = 1):
        self.names = tuple(dict.fromkeys(names))
        self._runner = StatisticsRuntime(threads, spinning=False, arena=False).load(with_outputs(model, self.names))
        self._inputs = {str(v.name) for v in model.graph.inputs}
        self._static_bytes = _bytes_of(model, self.names)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The named values of one batch, by name."""
        outputs = self._runner.run({k: v for k, v in feeds.items() if k in self._inputs})
        return dict(zip(self.names, (np.asarray(o) for o in outputs), strict=True))

    def batches(self, data: Calibration) -> Iterator[Feeds]:
        """The data in batches whose named values take at most ``ACTIVATION_BYTES``, or of one sample."""
        yield from data.batches(self.batch_size(data))

    def batch_size(self, data: Calibration) -> int:
        """Samples in such a batch; where the graph does not tell the sizes of the values, one sample is run."""
        if not data.batchable:
            return 1
        each = self._static_bytes or sum(a.nbytes for a in self.run(next(iter(data.batches(1)))).values())
        return max(1, min(data.batch_size, ACTIVATION_BYTES // max(1, each)))


def _bytes_of(model: ir.Model, names: Iterable[str]) -> int:
    """Bytes of these values by their shapes in the graph; 0 if a size is open."""
    values = {str(v.name): v for v in model.graph.inputs} | {str(o.name): o for n in model.graph for o in n.outputs}
    total = 0
    for name in names:
        value = values.get(name)
        shape = static_shape(value)
        if value is None or shape is None or value.dtype is None:
            return 0
        total += int(np.prod(shape)) * max(1, value.dtype.bitwidth // 8)
    return total
