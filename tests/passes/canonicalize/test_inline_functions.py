from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

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
