"""Clips that the data never reaches are removed; those that training relies on stay."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from edgeprune.passes.quantize import drop_idle_clips
from tests.small_models import calibration

RELU6 = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n,4] x) => (float[n,4] y) <float low = {LOW}, float high = {HIGH}> {
    d = Mul(x, x)
    n = Sub(d, x)
    c = Clip(n, low, high)
    y = Mul(c, c)
}"""


@pytest.mark.parametrize(
    ("low", "high", "ops"),
    [
        (-9.0, 9.0, ["Mul", "Sub", "Mul"]),  # n lies between -0.25 and 6
        (0.0, 9.0, ["Mul", "Sub", "Relu", "Mul"]),
        (-9.0, 3.0, ["Mul", "Sub", "Clip", "Mul"]),
    ],
)
def test_clips_are_kept_where_values_reach_them(low, high, ops):
    text = RELU6.replace("LOW", str(low)).replace("HIGH", str(high))
    model = ir.serde.deserialize_model(onnx.parser.parse_model(text))
    samples = np.linspace(-2, 3, 64, dtype=np.float32).reshape(16, 4)
    made, ranges = drop_idle_clips(model, {"c": (low, high)}, calibration(x=samples), 1)
    assert [n.op_type for n in made.graph] == ops
    assert ranges == {"c" if len(ops) == 4 else "n": (low, high)}
    assert [n.op_type for n in model.graph] == ["Mul", "Sub", "Clip", "Mul"]
