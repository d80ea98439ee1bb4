"""From a choice to a model that TensorRT builds: cut, refit what stays, and state every precision in the graph."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.analyticmodel import INT8
from edgeprune.builder import Builder
from edgeprune.calibrate import Calibration
from edgeprune.latency import Format
from edgeprune.passes.int8_tensorrt import int8_eligible
from edgeprune.passes.lower_tensorrt import lower_tensorrt
from edgeprune.passes.quantize_tensorrt import values_to_quantize
from edgeprune.ranges import choose_range, histograms
from edgeprune.taps import Taps
from edgeprune.widths import Widths

EXTREMES_ITEMS = 16
"""Samples on which it is looked what would overflow in float16; twice as much is allowed for."""


@dataclass(eq=False)
class TensorRtBuilder(Builder):
    """Builds models of one network for TensorRT.

    Attributes:
        versions: TensorRT versions that must take them all.
    """

    versions: tuple[str, ...] = ()

    def build(self, widths: Widths, formats: Sequence[Format]) -> ir.Model:
        """The network at these widths and formats, lowered."""
        model = self.float_model(widths)
        int8 = self.integer_nodes(model, formats)
        ranges = self.bounds(model, self.values_to_quantize(model, int8), self.data)
        if self.float_format == "fp16":
            ranges = extremes(model, self.data.subset(EXTREMES_ITEMS), self.threads) | ranges
        precision = {str(n.name): INT8 if n.name in int8 else self.float_format for n in model.graph}
        return lower_tensorrt(model, precision, ranges, target_versions=self.versions)

    def integer_nodes(self, model: ir.Model, formats: Sequence[Format]) -> frozenset[str]:
        """Names of the model's nodes that these formats put on integers; what is too narrow by now stays float."""
        eligible = int8_eligible(model)
        return frozenset(n for n in super().integer_nodes(model, formats) if eligible[n])

    def quantized(self, model: ir.Model, int8: Collection[str], bounds: Mapping[str, tuple[float, float]]) -> ir.Model:
        """The float model with these nodes on integers, all others in float32: what integers alone cost."""
        return lower_tensorrt(model, dict.fromkeys(int8, INT8), bounds, target_versions=self.versions)

    def values_to_quantize(self, model: ir.Model, int8: Collection[str]) -> list[str]:
        """Names of the activations whose ranges `quantized` needs for these nodes."""
        return values_to_quantize(model, int8)

    def bounds(self, model: ir.Model, names: Iterable[str], data: Calibration) -> dict[str, tuple[float, float]]:
        """The symmetric range of each of these activations to spread integers over."""
        wanted = list(names)
        if not wanted:
            return {}
        counted = histograms(model, wanted, data, self.threads)
        ranges = {name: choose_range(h, symmetric=True) for name, h in counted.items()}
        return {name: (r.low, r.high) for name, r in ranges.items()}


def extremes(model: ir.Model, data: Calibration, threads: int) -> dict[str, tuple[float, float]]:
    """Smallest and largest number of every float32 activation; nothing for random data, which shows no range."""
    if data.is_random:
        return {}
    names = [str(o.name) for n in model.graph for o in n.outputs if o.name and o.dtype == ir.DataType.FLOAT]
    found: dict[str, tuple[float, float]] = {}
    taps = Taps(model, names, threads)
    for feeds in data.batches(1):
        for name, x in taps.run(feeds).items():
            if x.size:
                low, high = found.get(name, (float("inf"), float("-inf")))
                found[name] = (min(low, float(x.min())), max(high, float(x.max())))
    return found
