from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune import graph as graphs
from tests.passes.models import parse, random


@pytest.mark.parametrize(
    ("text", "weights", "macs"),
    [
        ("g (float[2,4,9,9] x) => (float[2,8,7,7] y) { y = Conv(x, w) }", {"w": (8, 4, 3, 3)}, 2 * 8 * 49 * 36),
        ("g (float[1,4,9,9] x) => (float[1,4,7,7] y) { y = Conv<group=4>(x, w) }", {"w": (4, 1, 3, 3)}, 4 * 49 * 9),
        (
            "g (float[1,4,5,5] x) => (float[1,6,10,10] y) { y = ConvTranspose<strides=[2,2]>(x, w) }",
            {"w": (4, 6, 2, 2)},
            4 * 25 * 6 * 4,
        ),
        ("g (float[3,5,7] x) => (float[3,5,2] y) { y = MatMul(x, w) }", {"w": (7, 2)}, 3 * 5 * 7 * 2),
        ("g (float[7,5] x) => (float[5,2] y) { y = Gemm<transA=1>(x, w) }", {"w": (7, 2)}, 5 * 7 * 2),
        (
            'g (float[2,3,4] x) => (float[2,3,5] y) { y = Einsum<equation="bij,jk->bik">(x, w) }',
            {"w": (4, 5)},
            2 * 3 * 4 * 5,
        ),
        (
            "g (float[6,2,3] x) => (float[6,1,2,4] y) { y = LSTM<hidden_size=4>(x, w, r) }",
            {"w": (1, 16, 3), "r": (1, 16, 4)},
            6 * 2 * (16 * 3 + 16 * 4),
        ),
        ("g (float[batch,7] x) => (float[batch,2] y) { y = MatMul(x, w) }", {"w": (7, 2)}, 14),
        (
            "g (float[2,5,12] q, float[2,7,12] k, float[2,7,8] v) => (float[2,5,8] y) { y = Attention(q, k, v) }",
            {},
            2 * 5 * 7 * (12 + 8),
        ),
        (
            "g (float[1,4,9,9] x, float[1,18,7,7] o) => (float[1,8,7,7] y) { y = DeformConv(x, w, o) }",
            {"w": (8, 4, 3, 3)},
            8 * 49 * 36,
        ),
    ],
)
def test_macs_of_one_node(text: str, weights: dict[str, tuple[int, ...]], macs: int) -> None:
    model = parse(text, **{name: random(*shape) for name, shape in weights.items()})
    next(iter(model.graph)).name = "n"
    assert graphs.count_macs(model) == {"n": macs}
    assert graphs.count_parameters(model) == sum(int(np.prod(shape)) for shape in weights.values())


def test_elementwise_work_is_not_counted() -> None:
    model = parse("g (float[3] x) => (float[3] y) { y = Relu(x) }")
    assert graphs.count_macs(model) == {}


LOOP = """g (float[2,6] x) => (float[2,6] y) <int64 n = {5}, bool t = {1}> {
    y = Loop<body = body (int64 i, bool c, float[2,6] h) => (bool c2, float[2,6] h2) {
        c2 = Identity(c) k = MatMul(h, w) h2 = Relu(k) }>(n, t, x)
}"""
SCAN = """g (float[7,2,6] x, float[2,6] h0) => (float[2,6] y, float[7,2,6] z) {
    y, z = Scan<num_scan_inputs = 1, body = body (float[2,6] h, float[2,6] s) => (float[2,6] h2, float[2,6] o) {
        k = MatMul(s, w) h2 = Add(h, k) o = Identity(h2) }>(h0, x)
}"""
IF = """g (float[2,6] x, bool c) => (float[2,6] y) {
    y = If<then_branch = a () => (float[2,6] p) { p = Relu(x) },
           else_branch = b () => (float[2,6] q) { r = MatMul(x, w) q = MatMul(r, w) }>(c)
}"""


@pytest.mark.parametrize(("text", "macs"), [(LOOP, 5 * 72), (SCAN, 7 * 72), (IF, 2 * 72)])
def test_bodies_count_for_each_of_their_trips_and_an_if_as_its_larger_branch(text: str, macs: int) -> None:
    proto = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]>\n' + text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(random(6, 6), "w"))
    proto.graph.node[0].name = "holder"
    assert graphs.count_macs(graphs.infer_shapes(ir.from_proto(proto))) == {"holder": macs}
