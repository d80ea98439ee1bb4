from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.simulation import load, rounded_float32
from edgeprune.errors import BackendError
from edgeprune.passes.tensorrt.lower_tensorrt import lower_tensorrt
from tests.passes.graphs import RESIDUAL, TRANSFORMER, build, feeds_for, observed, run
from tests.passes.simulation import strict_float16
from tests.passes.tensorrt.test_lower_tensorrt import everything


@pytest.mark.parametrize("text", [RESIDUAL, TRANSFORMER], ids=["residual", "transformer"])
@pytest.mark.parametrize("versions", [("10.3", "11.0"), ("8.6",)], ids=["10.3 and 11", "8.6"])
def test_it_computes_what_the_graph_says(text: str, versions: tuple[str, ...]):
    model = build(text)
    lowered = lower_tensorrt(model, everything(model, "fp16"), observed(model), target_versions=versions)
    feeds = feeds_for(model, 3)
    np.testing.assert_array_equal(load(lowered).run(feeds)[0], run(strict_float16(lowered), feeds)[0])
    assert any(v.dtype == ir.DataType.FLOAT16 for n in lowered.graph for v in n.outputs)  # the model is not touched


def test_every_rounding_happens():
    model = build("""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[1000] x) => (float[1000] y) { a = Mul(x, x)  y = Mul(a, x) }
    """)
    lowered = lower_tensorrt(model, {"a": "fp16", "y": "fp16"}, {"x": (-3, 3), "a": (0, 9)}, target_versions=["11.0"])
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    half = x.astype(np.float16)
    expected = ((half * half) * half).astype(np.float32)  # numpy rounds each product to float16
    np.testing.assert_array_equal(load(lowered).run({"x": x})[0], expected)


def test_fills_are_rounded_too():
    model = build("""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[2] x) => (float[2] y) <int64[1] size = {2}>
    { o = ConstantOfShape<value = float[1] {0.1}>(size)  y = Mul(o, x) }
    """)
    lowered = lower_tensorrt(model, {"o": "fp16", "y": "fp16"}, {}, target_versions=["11.0"])
    assert load(lowered).run({"x": np.ones(2, np.float32)})[0].tolist() == [float(np.float16(0.1))] * 2


def test_models_with_float16_ports_stay_as_they_are():
    model = build("""
    <ir_version: 8, opset_import: ["" : 17]> agraph (float16[2] x) => (float16[2] y) { y = Relu(x) }
    """)
    assert len(rounded_float32(model).graph) == 1


def test_plugins_cannot_be_simulated():
    model = build("""
    <ir_version: 8, opset_import: ["" : 17, "TRT" : 1]> agraph (float[2] x) => (float[2] y) { y = TRT.Swoosh_TRT(x) }
    """)
    with pytest.raises(BackendError, match="cannot simulate the lowered model"):
        load(model)
