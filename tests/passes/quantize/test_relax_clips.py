"""Clips that INT8 does anyway are left out; all others stay."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest

from edgeprune.passes.quantize import relax_clips


def _model(low: str, high: str) -> ir.Model:
    ones = ",".join("1" * 16)
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,4] x) => (float[1,4] y)
    <float low = {{{low}}}, float high = {{{high}}}, float[4,4] w = {{{ones}}}> {{
        c = Clip(x, low, high)
        y = MatMul(c, w)
    }}"""
    model = ir.serde.deserialize_model(onnx.parser.parse_model(text))
    for k, node in enumerate(model.graph):
        node.name = f"n{k}"
    return model


@pytest.mark.parametrize(
    ("low", "high", "range_", "symmetric", "ops"),
    [
        ("-4", "4", (-4.0, 4.0), True, ["MatMul"]),
        ("0", "4", (-4.0, 4.0), True, ["Relu", "MatMul"]),  # a signed range does not cut off what is negative
        ("0", "4", (0.0, 4.0), False, ["MatMul"]),
        ("-1", "4", (-4.0, 4.0), True, ["Clip", "MatMul"]),
        ("-4", "3", (-4.0, 4.0), False, ["Clip", "MatMul"]),
    ],
)
def test_only_what_the_range_cuts_off_is_left_out(low, high, range_, symmetric, ops):
    model = _model(low, high)
    relaxed, int8, ranges = relax_clips(model, {"n0", "n1"}, {"c": range_}, symmetric=symmetric)
    assert [n.op_type for n in relaxed.graph] == ops
    assert int8 == {n.name for n in relaxed.graph}
    read = "c" if len(ops) == 2 else "x"
    assert ranges[read] == range_
    assert [n.op_type for n in model.graph] == ["Clip", "MatMul"]  # not changed


def test_clip_with_a_float_reader_stays():
    relaxed, _, _ = relax_clips(_model("-4", "4"), set(), {"c": (-4.0, 4.0)}, symmetric=True)
    assert [n.op_type for n in relaxed.graph] == ["Clip", "MatMul"]
