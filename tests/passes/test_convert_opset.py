from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.errors import PassError
from edgeprune.passes.convert_opset import convert_opset
from tests.passes.graphs import build, feeds_for, run

OLD = """
<ir_version: 6, opset_import: ["" : 11]>
agraph (float[1, 8, 6, 6] x) => (float[1, 8] y) <float[8, 8, 3, 3] w, int64[1] axes = {0}>
{
  c = Conv<pads = [1, 1, 1, 1]>(x, w)
  s = Softmax<axis = 1>(c)
  r = ReduceMean<axes = [2, 3], keepdims = 1>(s)
  q = Squeeze<axes = [2, 3]>(r)
  y = Identity(q)
}
"""


@pytest.mark.parametrize("version", [13, 17, 19, 20])
def test_the_computation_stays(version: int):
    model = build(OLD)
    converted = convert_opset(model, version)
    assert converted.graph.opset_imports[""] == version
    assert (converted.ir_version or 0) >= 8
    feeds = feeds_for(model)
    np.testing.assert_allclose(run(converted, feeds)[0], run(model, feeds)[0], rtol=1e-5, atol=1e-7)
    names = [str(n.name) for n in converted.graph]
    assert len(set(names)) == len(names)
    assert {"c", "r", "q"} <= set(names)
    assert [v.name for v in converted.graph.inputs] == ["x"]
    assert model.graph.opset_imports[""] == 11


def test_large_weights_are_shared_not_copied():
    model = build(OLD)
    before = model.graph.initializers["w"].const_value
    large = ir.tensor(np.zeros((8, 8, 20, 20), np.float32), name="w")
    model.graph.initializers["w"].const_value = large
    assert before is not None
    model.graph.initializers["w"].shape = ir.Shape((8, 8, 20, 20))
    model.graph.node("c").attributes["pads"] = ir.AttrInt64s("pads", [10, 10, 9, 9])
    assert convert_opset(model, 17).graph.initializers["w"].const_value is large


def test_what_an_older_opset_lacks_is_named():
    model = build("""
    <ir_version: 9, opset_import: ["" : 20]> agraph (float[2] x) => (float[2] y) { y = Gelu(x) }
    """)
    with pytest.raises(PassError, match="opset 20 to 17: No Previous Version of Gelu exists"):
        convert_opset(model, 17)
    with pytest.raises(PassError, match="opset 12 is not between"):
        convert_opset(model, 12)


def test_the_same_version_is_a_copy():
    model = build(OLD)
    assert convert_opset(model, 11) is not model
