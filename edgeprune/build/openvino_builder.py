"""From a candidate to a model for OpenVINO's CPU plugin: its graph states every precision."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx_ir as ir

from edgeprune.build.model_builder import Bounds, ModelBuilder
from edgeprune.graph import asymmetric_scale
from edgeprune.latency import Format
from edgeprune.passes.openvino import lower_openvino, quantize_openvino, values_to_quantize
from edgeprune.passes.quantize import fake_quantizer, relax_clips
from edgeprune.quantization import Quantizer


class OpenVinoBuilder(ModelBuilder):
    """Builds models of one network for OpenVINO; ``float_format`` is the type of all layers that are not in INT8."""

    def lowered(self, model: ir.Model, formats: Sequence[Format]) -> ir.Model:
        """A float model of the network in these formats, lowered to OpenVINO."""
        model = self.low_rank.factored(model, formats)
        int8: Collection[str] = self.int8_nodes(model, formats)
        bounds: Bounds = {}
        if int8:
            bounds = self.bounds(model, self.values_to_quantize(model, int8), self.data)
            model = self.rounded(model, int8, bounds)
            if self.trained:
                model, int8, bounds = relax_clips(model, int8, bounds, symmetric=False)
        return lower_openvino(model, int8, bounds, float_precision=self.float_format, weight_bits=self.weight_bits)

    def quantized(self, model: ir.Model, int8: Collection[str], bounds: Bounds) -> ir.Model:
        """The float model with these nodes in INT8; onnxruntime computes it, with the other nodes in float32."""
        return quantize_openvino(model, int8, bounds, weight_bits=self.weight_bits)

    def quantizer(self, low: float, high: float) -> Quantizer:
        """What UINT8 with a zero point does to an activation in this range."""
        scale, zero = asymmetric_scale(low, high)
        return fake_quantizer(float(scale), int(zero), 0, 255)

    def values_to_quantize(self, model: ir.Model, int8: Collection[str]) -> list[str]:
        """Names of the activations for which `quantized` needs a range."""
        return values_to_quantize(model, int8)
