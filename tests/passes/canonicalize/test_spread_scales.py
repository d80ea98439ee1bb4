from __future__ import annotations

import numpy as np
import pytest

from edgeprune.passes.canonicalize.pipeline import canonicalize
from tests.passes.models import node, parse, random, run

READERS = {
    "conv": ("float[1,6,4,4] x", "Conv(x, d)", (5, 6, 1, 1), 0),
    "grouped": ("float[1,6,4,4] x", "Conv<group=2>(x, d)", (4, 3, 1, 1), 0),
    "transposed": ("float[1,6,4,4] x", "ConvTranspose(x, d)", (6, 5, 2, 2), 1),
    "gemm": ("float[3,6] x", "Gemm(x, d)", (6, 5), 1),
    "gemm of the transpose": ("float[3,6] x", "Gemm<transB=1>(x, d)", (5, 6), 0),
    "matmul": ("float[3,6] x", "MatMul(x, d)", (6, 5), 1),
}


@pytest.mark.parametrize(("given", "reader", "shape", "axis"), READERS.values(), ids=READERS)
def test_every_output_channel_gets_the_scale(given: str, reader: str, shape: tuple[int, ...], axis: int) -> None:
    weight = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    text = f"g ({given}) => (float y) {{ d = DequantizeLinear(w, s, z)\n y = {reader} }}"
    model = parse(text, w=weight, s=np.float32(0.01), z=np.uint8(100))
    canonical = canonicalize(model, verify=True)
    dequantize = node(canonical, "DequantizeLinear")
    assert dequantize.attributes["axis"].as_int() == axis
    scale = dequantize.inputs[1]
    assert scale is not None
    assert scale.const_value is not None
    assert scale.const_value.numpy().tolist() == [np.float32(0.01)] * shape[axis]
    x = random(*(int(d) for d in given[6:-3].split(",")))
    np.testing.assert_array_equal(run(canonical, x=x)[0], run(model, x=x)[0])


@pytest.mark.parametrize(
    ("zero_point", "more"), [(0, "y = MatMul(x, d)"), (9, "t = MatMul(x, d)\n y = MatMul(d, t)")], ids=["zero", "both"]
)
def test_others_stay_as_they_are(zero_point: int, more: str) -> None:
    text = f"g (float[6,6] x) => (float y) {{ d = DequantizeLinear(w, s, z)\n {more} }}"
    model = parse(text, w=np.full((6, 6), 7, np.uint8), s=np.float32(0.01), z=np.uint8(zero_point))
    scale = node(canonicalize(model, verify=True), "DequantizeLinear").inputs[1]
    assert scale is not None
    assert scale.const_value is not None
    assert scale.const_value.size == 1
