from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from edgeprune.passes.canonicalize.inline_functions import inline_functions
from edgeprune.passes.canonicalize.pipeline import canonicalize
from tests.passes.models import ops, random, run

TEXT = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
g (float[2,3] x) => (float[2,3] y) {
    a = local.scaled<factor = 2.0>(x)
    b = local.twice(a)
    y = local.scaled<factor = 3.0>(b)
}
<domain: "local", opset_import: ["" : 17]>
scaled<factor>(t) => (u) { k = Constant<value_float: float = @factor>()
 u = Mul(t, k) }
<domain: "local", opset_import: ["" : 17, "local" : 1]>
twice(t) => (u) { m = Add(t, t)
 u = local.scaled<factor = 0.5>(m) }
"""


def test_nested_functions_with_attributes() -> None:
    model = ir.from_proto(onnx.parser.parse_model(TEXT))
    canonical = canonicalize(model, verify=True)
    assert not canonical.functions
    assert set(ops(canonical)) <= {"Mul", "Add"}
    names = [node.name for node in canonical.graph]
    assert len(set(names)) == len(names)
    x = random(2, 3)
    np.testing.assert_allclose(run(canonical, x=x)[0], 6 * x, rtol=1e-6)


LAYERS = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
g (float[1,3,8,8] x) => (float[1,4,8,8] y) {
    [block0] a = local.layer(x, w0)
    [block1] b = local.layer(a, w1)
    y = local.outer(b)
}
<domain: "local", opset_import: ["" : 17]>
layer(t, w) => (u) { k = Constant<value_float: float = 0.5>()
 c = Conv(t, w)
 [scaled] s = Mul(c, k)
 u = Relu(s) }
<domain: "local", opset_import: ["" : 17, "local" : 1]>
outer(t) => (u) { [inner] m = local.twice(t)
 u = Tanh(m) }
<domain: "local", opset_import: ["" : 17]>
twice(t) => (u) { u = Add(t, t) }
"""


def test_nodes_and_values_are_named_after_the_call_and_themselves() -> None:
    model = onnx.parser.parse_model(LAYERS)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(random(4, i, 1, 1), f"w{k}") for k, i in enumerate((3, 4))
    )
    inlined = ir.from_proto(model)
    inline_functions(inlined)
    assert [node.name for node in inlined.graph if node.op_type != "Constant"] == [
        *("block0/Conv", "block0/scaled", "block0/Relu"),
        *("block1/Conv", "block1/scaled", "block1/Relu"),
        *("outer/inner/Add", "outer/Tanh"),
    ]
    values = [value.name for node in inlined.graph for value in node.outputs]
    assert len(set(values)) == len(values)
    assert {"a", "b", "y", "block0/c", "block1/c", "block1/k", "outer/m"} <= set(values)
    assert not any("edgeprune" in key for node in inlined.graph for key in node.metadata_props)
    canonical = canonicalize(ir.from_proto(model), verify=True)
    assert "block1/Conv" in [node.name for node in canonical.graph]
