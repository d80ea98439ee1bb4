from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.errors import PassError
from edgeprune.graph.opset import convert_opset
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


def test_where_no_operator_changed_the_nodes_are_as_they_were():
    model = build(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2, 3, 8, 8] x) => (float[2, 4] y) <float[4, 3, 3, 3] w> {
          c = Conv(x, w)
          r = HardSwish(c)
          p = GlobalAveragePool(r)
          f = Flatten(p)
          y = Softmax(f)
        }
        """
    )
    changed = convert_opset(model, 23)
    assert changed.graph.opset_imports[""] == 23
    assert [(n.op_type, n.name) for n in changed.graph] == [(n.op_type, n.name) for n in model.graph]
    feeds = feeds_for(model, 0)
    for want, got in zip(run(model, feeds), run(changed, feeds), strict=True):
        np.testing.assert_array_equal(got, want)


def test_an_operator_that_changed_goes_through_the_converter():
    graph = "agraph (float[2, 6] x) => (float[2, 3] y, float[2, 3] z) { y, z = Split<axis=1>(x) }"
    model = build(f'<ir_version: 8, opset_import: ["" : 17]> {graph}')
    (split,) = [n for n in convert_opset(model, 23).graph if n.op_type == "Split"]
    assert len(split.inputs) == 2 or split.attributes.get_int("num_outputs", 0) == 2


@pytest.mark.parametrize("version", [13, 18])
def test_marks_of_nodes_and_weights_stay(version: int) -> None:
    model = build(OLD)
    model.graph.node("c").meta["mark"] = "shared"
    model.graph.initializers["w"].meta["mark"] = "folded"
    converted = convert_opset(model, version)
    assert converted.graph.node("c").meta["mark"] == "shared"
    assert converted.graph.initializers["w"].meta["mark"] == "folded"
