"""From a choice to a model that TensorRT builds: cut, refit what stays, and state every precision in the graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgeprune.backends import simulation
from edgeprune.build.x86_builder import Builder
from edgeprune.calibration import Calibration, IntermediateOutputs
from edgeprune.dependency import Ranking, analyse
from edgeprune.graph import convert_opset, find_linears, symmetric_scale
from edgeprune.latency import INT8, Format, is_sparse
from edgeprune.passes.prune import sparsify, sparsity_eligible
from edgeprune.passes.quantize import fake_quantizer
from edgeprune.passes.tensorrt import int8_eligible, lower_tensorrt, quantize_tensorrt, values_to_quantize
from edgeprune.quantization import Quantizer

SPARSE_STEPS = {"fp16": 16, INT8: 32}
"""Multiples that the input and output channels of a 2:4 product have, by precision (TensorRT's alignment)."""

PER_CHANNEL_OPSET = 13

EXTREMES_ITEMS = 16
"""Samples on which it is looked what would overflow in float16; twice as much is allowed for."""


@dataclass(eq=False)
class TensorRtBuilder(Builder):
    """Builds models of one network for TensorRT.

    Attributes:
        versions: TensorRT versions that must take them all.
    """

    symmetric: ClassVar[bool] = True

    versions: tuple[str, ...] = ()
    _converted: dict[int, tuple[ir.Model, ir.Model]] = field(default_factory=dict)
    _extremes: dict[int, tuple[ir.Model, dict[str, tuple[float, float]]]] = field(default_factory=dict)

    def describe(self) -> str:
        """What the error of a format depends on besides the model and its ranges."""
        return f"{super().describe()}, {' '.join(self.versions)}"

    def for_timing(self, data: Calibration) -> TensorRtBuilder:
        """A builder of the same networks with weights and ranges that only serve timing: it is much faster.

        The first units of every group stay, and nothing is refitted.
        """
        groups = self.network.analysis.groups
        first = {g.id: Ranking(np.arange(g.size)[::-1].copy(), np.zeros(g.size + 1)) for g in groups}
        return TensorRtBuilder(
            self.dense,
            self.network,
            first,
            data,
            threads=self.threads,
            refitted=False,
            float_format=self.float_format,
            versions=self.versions,
        )

    def lowered(self, model: ir.Model, formats: Sequence[Format]) -> ir.Model:
        """A float model of the network in these formats, as TensorRT takes it."""
        int8, sparse = self.int8_nodes(model, formats), self.sparse_nodes(model, formats)
        model = self._sparsified(model, sparse, int8)
        ranges = self.bounds(model, self.values_to_quantize(model, int8), self.data)
        model = self.rounded(model, int8 - sparse, ranges)
        if self.float_format == "fp16":
            ranges = self._extremes_of(model) | ranges
        precision = {str(n.name): INT8 if n.name in int8 else self.float_format for n in model.graph}
        return lower_tensorrt(model, precision, ranges, target_versions=self.versions)

    def simulated(self, model: ir.Model) -> ir.Model:
        """What onnxruntime runs here to tell what a built model computes."""
        return simulation.rounded_float32(model)

    def quantizer(self, low: float, high: float) -> Quantizer:
        """What integers over this range do to an activation: symmetric, all 256 of them."""
        return fake_quantizer(float(symmetric_scale(low, high)), 0, -128, 127)

    def _sparsified(self, model: ir.Model, nodes: Collection[str], int8: Collection[str]) -> ir.Model:
        """The model with these nodes 2:4, in the order of channels in which that costs least."""
        if not nodes:
            return model
        # Noise says nothing of which weights matter, and time does not ask: then the large ones stay.
        if self.data.is_random or not self.refitted:
            return sparsify(model, sorted(nodes), None, method="magnitude", int8=int8, threads=self.threads)
        groups = analyse(model).groups
        return sparsify(model, sorted(nodes), self.data, int8=int8, groups=groups, threads=self.threads)

    def sparse_nodes(self, model: ir.Model, formats: Sequence[Format]) -> frozenset[str]:
        """Names of the model's nodes whose weights these formats make 2:4; what does not fit by now stays dense."""
        chosen = {n for block, f in zip(self.network.blocks, formats, strict=True) if is_sparse(f) for n in block.nodes}
        if not chosen:
            return frozenset()
        int8 = self.int8_nodes(model, formats)
        fits = {step: sparse_fits(model, step) for step in set(SPARSE_STEPS.values())}
        return frozenset(n for n in chosen if n in fits[SPARSE_STEPS[INT8 if n in int8 else "fp16"]])

    def _extremes_of(self, model: ir.Model) -> dict[str, tuple[float, float]]:
        # The model is kept beside its ranges, so that its id stays its own.
        if id(model) not in self._extremes:
            found = extremes(model, self.data.subset(EXTREMES_ITEMS), self.threads)
            self._extremes[id(model)] = (model, found)
        return self._extremes[id(model)][1]

    def int8_nodes(self, model: ir.Model, formats: Sequence[Format]) -> frozenset[str]:
        """Names of the model's nodes that these formats put on integers; what is too narrow by now stays float."""
        eligible = int8_eligible(model)
        return frozenset(n for n in super().int8_nodes(model, formats) if eligible[n])

    def quantized(self, model: ir.Model, int8: Collection[str], bounds: Mapping[str, tuple[float, float]]) -> ir.Model:
        """The float model with these nodes on integers, all others in float32: what integers alone cost."""
        return quantize_tensorrt(self._per_channel(model), int8, bounds)

    def _per_channel(self, model: ir.Model) -> ir.Model:
        """The model in an opset that knows scales per channel; converted once."""
        if model.graph.opset_imports.get("", 0) >= PER_CHANNEL_OPSET:
            return model
        if id(model) not in self._converted:
            self._converted[id(model)] = (model, convert_opset(model, PER_CHANNEL_OPSET))
        return self._converted[id(model)][1]

    def values_to_quantize(self, model: ir.Model, int8: Collection[str]) -> list[str]:
        """Names of the activations whose ranges `quantized` needs for these nodes."""
        return values_to_quantize(model, int8)


def sparse_fits(model: ir.Model, step: int) -> frozenset[str]:
    """Names of the nodes whose weights can be 2:4 and whose channels are multiples of ``step``."""
    eligible, linears = sparsity_eligible(model), find_linears(model)
    return frozenset(
        name
        for name, layer in linears.items()
        if eligible[name] and layer.features // layer.taps % step == 0 and layer.outputs % step == 0
    )


def extremes(model: ir.Model, data: Calibration, threads: int) -> dict[str, tuple[float, float]]:
    """Smallest and largest number of every float32 activation; nothing for random data, which shows no range."""
    if data.is_random:
        return {}
    names = [str(o.name) for n in model.graph for o in n.outputs if o.name and o.dtype == ir.DataType.FLOAT]
    found: dict[str, tuple[float, float]] = {}
    intermediate = IntermediateOutputs(model, names, threads)
    for feeds in data.batches(1):
        for name, x in intermediate.run(feeds).items():
            if x.size:
                low, high = found.get(name, (float("inf"), float("-inf")))
                found[name] = (min(low, float(x.min())), max(high, float(x.max())))
    return found
