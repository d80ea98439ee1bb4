from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune.passes.canonicalize.unscatter import unscatter
from edgeprune.testing.oracle import feeds_for, parse, run, verify


def scattered(
    data: tuple[int, ...], box: list[tuple[int, int]], *, shuffled: bool = False, reduction: str = "none"
) -> ir.Model:
    """``x`` with ``u`` written to a box of its positions, before canonicalization."""
    grid = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in box), indexing="ij"), axis=-1)
    if shuffled:
        grid = grid[::-1]
    update = [b - a for a, b in box] + list(data[len(box) :])
    at = f"int64[{','.join(map(str, grid.shape))}] i = {{{','.join(map(str, grid.reshape(-1)))}}}"
    text = (
        f"g (float[{','.join(map(str, data))}] x, float[{','.join(map(str, update))}] u) => (float[?] y)"
        f' <{at}> {{ s = ScatterND<reduction="{reduction}">(x, i, u) y = Neg(s) }}'.replace(
            "float[?]", f"float[{','.join('n' * len(data))}]"
        )
    )
    proto = f'<ir_version: 8, opset_import: ["" : 17]>\n{text}'
    model: ir.Model = ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(proto)))
    return model


@pytest.mark.parametrize(
    ("data", "box"),
    [
        ((2, 5), [(0, 2), (1, 4)]),
        ((2, 5, 3), [(0, 1), (2, 5)]),
        ((4, 3), [(1, 3)]),
        ((1, 2, 5, 6), [(0, 1), (0, 2), (1, 5), (1, 6)]),
        ((2, 3), [(0, 2), (0, 3)]),
    ],
)
def test_a_box_is_pasted(data: tuple[int, ...], box: list[tuple[int, int]]) -> None:
    model = scattered(data, box)
    feeds = feeds_for(model, 0)
    before = run(model, feeds)
    assert unscatter(model) == 1
    assert not any(node.op_type == "ScatterND" and node.outputs[0].uses() for node in model.graph)
    np.testing.assert_array_equal(run(model, feeds)[0], before[0])


def test_other_orders_and_sums_stay() -> None:
    assert unscatter(scattered((4, 3), [(1, 3)], shuffled=True)) == 0
    assert unscatter(scattered((4, 3), [(1, 3)], reduction="add")) == 0


def test_heads_of_an_attention_map_that_is_written_to_can_go() -> None:
    model = parse(
        """g (float[1,4,8] x) => (float[1,4,3] y)
        <int64[1,2,3,3,4] at = {0,0,1,1, 0,0,1,2, 0,0,1,3, 0,0,2,1, 0,0,2,2, 0,0,2,3, 0,0,3,1, 0,0,3,2, 0,0,3,3,
            0,1,1,1, 0,1,1,2, 0,1,1,3, 0,1,2,1, 0,1,2,2, 0,1,2,3, 0,1,3,1, 0,1,3,2, 0,1,3,3},
         int64[4] s = {1, 4, 2, 3}, int64[3] o = {1, 4, 6}> {
            q0 = MatMul(x, wq) q1 = Reshape(q0, s) q = Transpose<perm=[0,2,1,3]>(q1)
            k0 = MatMul(x, wk) k1 = Reshape(k0, s) k = Transpose<perm=[0,2,3,1]>(k1)
            v0 = MatMul(x, wv) v1 = Reshape(v0, s) v = Transpose<perm=[0,2,1,3]>(v1)
            a = MatMul(q, k)
            b = ScatterND(a, at, bias)
            p = Softmax<axis=-1>(b)
            z0 = MatMul(p, v) z1 = Transpose<perm=[0,2,1,3]>(z0) z = Reshape(z1, o)
            y = MatMul(z, wo) }""",
        wq=(8, 6),
        wk=(8, 6),
        wv=(8, 6),
        wo=(6, 3),
        bias=(1, 2, 3, 3),
    )
    assert sorted(g.size for g in verify(model).groups) == [2, 3, 3]
