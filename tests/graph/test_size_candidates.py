"""Candidates for sizes of open axes."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from edgeprune.graph import data_inputs, infer_shapes, open_axes, size_candidates

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[n, 2, h, w] x, float[2, t] s) => (float[n, 2, p, q] y)
{
    y = MaxPool<kernel_shape = [5, 5], strides = [5, 5]>(x)
}
"""


def model() -> ir.Model:
    return infer_shapes(ir.from_proto(onnx.parser.parse_model(TEXT)))


def test_open_axes() -> None:
    assert [v.name for v in data_inputs(model())] == ["x", "s"]
    assert open_axes(model()) == [("x", 0), ("x", 2), ("x", 3), ("s", 1)]


def test_the_stride_divides_the_first_candidates() -> None:
    first = next(size_candidates(model(), batch=3))
    assert first["x"][:2] == (3, 2)
    assert first["x"][2] % 5 == first["x"][3] % 5 == 0
    assert first["s"][0] == 2


def test_candidates_do_not_repeat_and_try_unequal_sizes() -> None:
    found = [tuple(shapes["x"]) for shapes in size_candidates(model(), {"s": (2, 7)})]
    assert len(set(found)) == len(found)
    assert any(h != w for _, _, h, w in found)


def test_many_open_axes_are_not_all_combined() -> None:
    inputs = ", ".join(f"float[n, a{k}, b{k}, c{k}] s{k}" for k in range(8))
    many = f"""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph ({inputs}) => (float[n, p, q, r] y) {{ y = Identity(s0) }}
    """
    found = size_candidates(infer_shapes(ir.from_proto(onnx.parser.parse_model(many))))
    assert len(next(found)) == 8
