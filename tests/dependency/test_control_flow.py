"""Loop and Scan: what their bodies read is frozen with the reason, what lies outside is cut as ever."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from edgeprune.dependency.solve import Analysis
from edgeprune.testing.oracle import canonical, verify

BODIES = {
    "Loop": """
        t = Loop(three, true, h) <body = step (int64 i, bool more, float[2,6] state) => (bool again, float[2,6] next) {
            again = Identity(more)
            p = MatMul(state, ws)
            next = Add(p, h)
        }>""",
    "Scan": """
        t, all = Scan<
            num_scan_inputs = 1, body = step (float[2,6] state, float[8] row) => (float[2,6] next, float[6] o) {
            o = MatMul(row, w1)
            p = MatMul(state, ws)
            next = Add(p, o)
        }>(h, x)""",
}


def analysed(body: str) -> Analysis:
    """``x -> h``, a body that reads ``h`` or its weight, and a perceptron behind it."""
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,8] x) => (float[2,3] y) <int64 three = {{3}}, bool true = {{1}}> {{
            h = MatMul(x, w1)
            {body}
            wide = MatMul(t, w2)
            active = Relu(wide)
            y = MatMul(active, w3)
        }}"""
    )
    generator = np.random.default_rng(0)
    for name, shape in (("w1", (8, 6)), ("ws", (6, 6)), ("w2", (6, 10)), ("w3", (10, 3))):
        array = (generator.standard_normal(shape) / 3).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return verify(canonical(proto))


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_what_a_body_reads_is_frozen(body: str) -> None:
    analysis = analysed(body)
    assert [g.size for g in analysis.groups] == [10]
    for tensor, axis in (("w1", 1), ("ws", 0), ("ws", 1), ("w2", 0)):
        last = analysis.why(tensor, axis)[-1]
        assert (last.reason, last.node) == ("control flow", analysis.relations.nodes[1].name)
