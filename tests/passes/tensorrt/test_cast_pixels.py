"""A uint8 input is cast before its pixels are moved; onnxruntime computes the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune.passes.tensorrt.cast_pixels import cast_pixels_first
from edgeprune.testing import run


def model(body: str, results: str = "float[1, 3, 4, 6] y") -> ir.Model:
    text = f'<ir_version: 8, opset_import: ["" : 17]>\nnet (uint8[1, 4, 6, 3] x) => ({results}) {{ {body} }}'
    return ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))


MOVED = {
    "transposed": ("t = Transpose<perm = [0, 3, 1, 2]>(x) y = Cast<to = 1>(t)", "float[1, 3, 4, 6] y"),
    "two moves": ("f = Flatten(x) t = Transpose(f) c = Cast<to = 1>(t) y = Relu(c)", "float[72, 1] y"),
    "two types": (
        "t = Transpose<perm = [0, 3, 1, 2]>(x) y = Cast<to = 1>(t) z = Cast<to = 6>(t)",
        "float[1, 3, 4, 6] y, int32[1, 3, 4, 6] z",
    ),
    "also cast at once": (
        "t = Flatten(x) y = Cast<to = 1>(t) z = Cast<to = 1>(x)",
        "float[1, 72] y, float[1, 4, 6, 3] z",
    ),
}


@pytest.mark.parametrize("name", MOVED)
def test_the_input_goes_into_casts_alone(name: str) -> None:
    dense = model(*MOVED[name])
    result = cast_pixels_first(dense)
    assert {use.node.op_type for use in result.graph.inputs[0].uses()} == {"Cast"}
    onnx.checker.check_model(ir.to_proto(result), full_check=True)
    feeds = {"x": np.arange(72, dtype=np.uint8).reshape(1, 4, 6, 3) * 3}
    for before, after in zip(run(dense, feeds), run(result, feeds), strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)


LEFT = {
    "a uint8 output": ("y = Transpose<perm = [0, 3, 1, 2]>(x)", "uint8[1, 3, 4, 6] y"),
    "quantized pixels": ("t = Flatten(x) y = Mul(t, t) c = Cast<to = 1>(t)", "uint8[1, 72] y, float[1, 72] c"),
}


@pytest.mark.parametrize("name", LEFT)
def test_other_readers_keep_the_pixels(name: str) -> None:
    result = cast_pixels_first(model(*LEFT[name]))
    assert result.graph.inputs[0].uses()[0].node.op_type != "Cast"
