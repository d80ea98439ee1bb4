from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.passes.x86 import int8_eligible, quantize_x86, signed_activations
from edgeprune.testing.oracle import parse
from tests.passes.graphs import RESIDUAL, build, feeds_for, observed, run

HARD_SWISH = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[1, 3, 16, 16] x) => (float[1, 16, 32, 32] y)
<float[16, 3, 3, 3] w1, float[16] b1, float[16, 16, 3, 3] w2, float[16] b2, float[4] scales = {1.0, 1.0, 2.0, 2.0}>
{
  a = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
  h = HardSwish(a)
  u = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(h, , scales)
  y = Conv<pads = [1, 1, 1, 1]>(u, w2, b2)
}
"""


def quantized(text: str) -> ir.Model:
    model = build(text)
    int8 = [name for name, verdict in int8_eligible(model).items() if verdict]
    return quantize_x86(model, int8, {**observed(model), **{str(v.name): (-4.0, 4.0) for v in model.graph.inputs}})


def types(model: ir.Model) -> set[ir.DataType | None]:
    return {v.dtype for n in model.graph for v in (*n.inputs, *n.outputs) if v is not None}


@pytest.mark.parametrize("text", [RESIDUAL, HARD_SWISH])
def test_the_graph_for_arm_has_no_unsigned_bytes_and_computes_the_same_bits(text: str) -> None:
    """Clips, padded images and repeated pixels work on bytes too: their constants shift with the values."""
    unsigned = quantized(text)
    signed = signed_activations(unsigned)
    assert ir.DataType.UINT8 in types(unsigned)
    assert ir.DataType.UINT8 not in types(signed)
    assert [n.op_type for n in signed.graph] == [n.op_type for n in unsigned.graph]
    feeds = feeds_for(unsigned)
    for one, other in zip(run(unsigned, feeds), run(signed, feeds), strict=True):
        np.testing.assert_array_equal(one, other)


def test_onnxruntime_fuses_it_as_well() -> None:
    unsigned = quantized(RESIDUAL)
    feeds = feeds_for(unsigned)
    (one,), (other,) = (OnnxRuntime().load(m).run(feeds) for m in (unsigned, signed_activations(unsigned)))
    assert np.linalg.norm(one - other) < 0.02 * np.linalg.norm(one)  # fused kernels round a few values otherwise


@pytest.mark.parametrize(
    "text",
    [
        "g (float[1, 4] x) => (float[1, 4] y) { y = Relu (x) }",
        "g (uint8[1, 4] x) => (uint8[1, 4] y) { y = Max (x, x) }",
    ],
)
def test_a_model_without_quantized_values_or_with_bytes_of_its_own_stays(text: str) -> None:
    model = parse(text)
    assert signed_activations(model) is model
