"""From a candidate to a model that TensorRT builds: its graph states every precision."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgeprune.backends import simulation
from edgeprune.build.fp16_effect import worse_in_fp16
from edgeprune.build.model_builder import Bounds, ModelBuilder
from edgeprune.calibration import EXTREMES, Calibration, IntermediateOutputs
from edgeprune.dependency import Ranking, analyse
from edgeprune.graph import convert_opset, find_linears, symmetric_scale
from edgeprune.latency import FLOAT, INT8, Format, is_sparse
from edgeprune.passes.canonicalize import twin_values
from edgeprune.passes.prune import sparsify, sparsity_eligible
from edgeprune.passes.quantize import fake_quantizer, relax_clips
from edgeprune.passes.tensorrt import (
    fp16_eligible,
    int8_eligible,
    lower_tensorrt,
    quantize_tensorrt,
    values_to_quantize,
)
from edgeprune.quantization import Quantizer, extremes

SPARSE_STEPS = {"fp16": 16, INT8: 32}
"""Multiples of the input and output channels of a 2:4 sparse layer, by precision (TensorRT's alignment)."""

PER_CHANNEL_OPSET = 13


@dataclass(eq=False)
class TensorRtBuilder(ModelBuilder):
    """Builds models of one network for TensorRT.

    Attributes:
        versions: TensorRT versions that all have to build the models.
    """

    symmetric: ClassVar[bool] = True

    versions: tuple[str, ...] = ()
    _converted: dict[ir.Model, ir.Model] = field(default_factory=dict)
    _extremes: dict[ir.Model, dict[str, tuple[float, float]]] = field(default_factory=dict)
    _worse: dict[ir.Model, dict[str, str]] = field(default_factory=dict)

    def describe(self) -> str:
        """What the error of a format depends on, besides the model and its ranges."""
        return f"{super().describe()}, {' '.join(self.versions)}"

    def for_timing(self, data: Calibration) -> TensorRtBuilder:
        """A faster builder of the same networks for timing only: any units stay, and nothing is refitted."""
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
            trained=self.trained,
            _worse=self._worse,  # measured on data, not on what this builder is given
        )

    def lowered(self, model: ir.Model, formats: Sequence[Format]) -> ir.Model:
        """A float model of the network in these formats, lowered to TensorRT."""
        model = self.low_rank.factored(model, formats)
        int8, sparse = self.int8_nodes(model, formats), self.sparse_nodes(model, formats)
        model = self._sparsified(model, sparse, int8)
        seen = self._extremes_of(model)  # rounding weights hardly changes them
        ranges = self.bounds(model, self.values_to_quantize(model, int8), self.data)
        model = self.rounded(model, int8 - sparse, ranges)
        if self.trained:
            model, int8, ranges = relax_clips(model, int8, ranges, symmetric=True)
            seen = self._extremes_of(model)
        ranges = seen | ranges
        wide = self._worse_in_fp16()
        precision = {
            str(n.name): INT8 if n.name in int8 else FLOAT if n.name in wide else self.float_format for n in model.graph
        }
        return lower_tensorrt(model, precision, ranges, target_versions=self.versions)

    def fp32_reasons(self) -> dict[str, str]:
        """Node -> why it stays in float32 where other float nodes are in float16: by its range, or by its effect."""
        if self.float_format != "fp16":
            return {}
        eligible = fp16_eligible(self._per_channel(self.dense), self._extremes_of(self.dense))
        return {name: str(verdict) for name, verdict in eligible.items() if not verdict} | self._worse_in_fp16()

    def _worse_in_fp16(self) -> dict[str, str]:
        if self.float_format != "fp16":
            return {}
        if self.dense not in self._worse:
            model = self._per_channel(self.dense)
            eligible = fp16_eligible(model, self._extremes_of(self.dense))
            half = [name for name, verdict in eligible.items() if verdict]
            worse = worse_in_fp16(model, half, self.data, self.threads)
            self._worse[self.dense] = {
                twin: reason for name, reason in worse.items() for twin in {name} | self._twins.get(name, frozenset())
            }
        return self._worse[self.dense]

    def quantized(self, model: ir.Model, int8: Collection[str], bounds: Bounds) -> ir.Model:
        """The float model with these nodes in INT8 and all others in float32: shows the error of INT8 alone."""
        return quantize_tensorrt(self._per_channel(model), int8, bounds)

    def quantizer(self, low: float, high: float) -> Quantizer:
        """What symmetric INT8 over this range does to an activation."""
        return fake_quantizer(float(symmetric_scale(low, high)), 0, -128, 127)

    def values_to_quantize(self, model: ir.Model, int8: Collection[str]) -> list[str]:
        """Names of the activations for which `quantized` needs a range."""
        return values_to_quantize(model, int8)

    def simulated(self, model: ir.Model) -> ir.Model:
        """A model for onnxruntime that computes the same as a built model in TensorRT."""
        return simulation.rounded_float32(model)

    def int8_nodes(self, model: ir.Model, formats: Sequence[Format]) -> frozenset[str]:
        """Names of the model's nodes that are in INT8 in these formats; nodes that became too narrow stay float."""
        eligible = int8_eligible(model)
        return self.all_or_none(model, {n for n in super().int8_nodes(model, formats) if eligible[n]})

    def _sparsified(self, model: ir.Model, nodes: Collection[str], int8: Collection[str]) -> ir.Model:
        """The model with these nodes 2:4 sparse, with channels in an order that loses less."""
        if not nodes:
            return model
        # With random data, and for timing, the large weights stay.
        if self.data.is_random or not self.refitted:
            return sparsify(model, sorted(nodes), None, method="magnitude", int8=int8, threads=self.threads)
        groups = analyse(model).groups
        return sparsify(model, sorted(nodes), self.data, int8=int8, groups=groups, threads=self.threads)

    def sparse_nodes(self, model: ir.Model, formats: Sequence[Format]) -> frozenset[str]:
        """Names of the model's nodes that are 2:4 sparse in these formats; nodes that do not fit stay dense."""
        chosen = {n for block, f in zip(self.network.blocks, formats, strict=True) if is_sparse(f) for n in block.nodes}
        if not chosen:
            return frozenset()
        int8 = self.int8_nodes(model, formats)
        fits = {step: sparse_fits(model, step) for step in set(SPARSE_STEPS.values())}
        return self.all_or_none(model, {n for n in chosen if n in fits[SPARSE_STEPS[INT8 if n in int8 else "fp16"]]})

    @property
    def few_samples(self) -> Calibration:
        """Enough samples for the extremes of activations."""
        return self.data.subset(EXTREMES.of(self.network.macs))

    def _extremes_of(self, model: ir.Model) -> dict[str, tuple[float, float]]:
        """Extremes of all activations; empty where no node computes in float16."""
        if self.float_format != "fp16":
            return {}
        if model not in self._extremes:
            found = float_extremes(model, self.few_samples, self.threads)
            for names in set(twin_values(model).values()):
                seen = [found[name] for name in names if name in found]
                low, high = np.array(seen).T if seen else np.zeros((2, 1))
                found |= {name: (float(low.min()), float(high.max())) for name in names if name in found}
            self._extremes[model] = found
        return self._extremes[model]

    def _per_channel(self, model: ir.Model) -> ir.Model:
        """The model in an opset with per-channel scales; converted once."""
        if model.graph.opset_imports.get("", 0) >= PER_CHANNEL_OPSET:
            return model
        if model not in self._converted:
            self._converted[model] = convert_opset(model, PER_CHANNEL_OPSET)
        return self._converted[model]


def sparse_fits(model: ir.Model, step: int) -> frozenset[str]:
    """Names of the nodes whose weights can be 2:4 sparse and whose channels are multiples of ``step``."""
    eligible, linears = sparsity_eligible(model), find_linears(model)
    return frozenset(
        name
        for name, layer in linears.items()
        if eligible[name] and layer.features // layer.taps % step == 0 and layer.outputs % step == 0
    )


def float_extremes(model: ir.Model, data: Calibration, threads: int) -> dict[str, tuple[float, float]]:
    """Smallest and largest number of every float32 activation; empty for random data."""
    if data.is_random:
        return {}
    names = [str(o.name) for n in model.graph for o in n.outputs if o.name and o.dtype == ir.DataType.FLOAT]
    return extremes(IntermediateOutputs(model, names, threads), data.batches(1))
