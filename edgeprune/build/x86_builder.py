"""From a candidate to a model for onnxruntime on x86, or on Arm."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx_ir as ir

from edgeprune.build.model_builder import Bounds, ModelBuilder
from edgeprune.graph import asymmetric_scale
from edgeprune.latency import Format
from edgeprune.passes.quantize import fake_quantizer, relax_clips
from edgeprune.passes.x86 import lower_x86, quantize_x86, signed_activations, values_to_quantize
from edgeprune.quantization import Quantizer


class X86Builder(ModelBuilder):
    """Builds models of one network for onnxruntime on x86."""

    def lowered(self, model: ir.Model, formats: Sequence[Format]) -> ir.Model:
        """A float model of the network in these formats, lowered to onnxruntime."""
        model = self.low_rank.factored(model, formats)
        int8 = self.int8_nodes(model, formats)
        if not int8:
            return lower_x86(model)
        bounds = self.bounds(model, self.values_to_quantize(model, int8), self.data)
        rounded = self.rounded(model, int8, bounds)
        if self.trained:
            rounded, int8, bounds = relax_clips(rounded, int8, bounds, symmetric=False)
        return self.quantized(lower_x86(rounded, int8), int8, bounds)

    def quantized(self, model: ir.Model, int8: Collection[str], bounds: Bounds) -> ir.Model:
        """The float model with these nodes in INT8."""
        return quantize_x86(model, int8, bounds, weight_bits=self.weight_bits)

    def quantizer(self, low: float, high: float) -> Quantizer:
        """What UINT8 with a zero point does to an activation in this range."""
        scale, zero = asymmetric_scale(low, high)
        return fake_quantizer(float(scale), int(zero), 0, 255)

    def values_to_quantize(self, model: ir.Model, int8: Collection[str]) -> list[str]:
        """Names of the activations for which `quantized` needs a range."""
        return values_to_quantize(model, int8)


class ArmBuilder(X86Builder):
    """Builds models of one network for onnxruntime on Arm: the same with signed activations.

    Losses are computed with unsigned ones, which are equal and which this machine runs faster if it is x86.
    """

    def lowered(self, model: ir.Model, formats: Sequence[Format]) -> ir.Model:
        """A float model of the network in these formats, lowered to onnxruntime."""
        return signed_activations(super().lowered(model, formats))
