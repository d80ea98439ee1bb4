from __future__ import annotations

import pytest

from edgeprune.passes.placement import operands
from edgeprune.passes.tensorrt.int8_nodes import int8_eligible
from tests.passes.graphs import build


def verdict(body: str, values: str, inputs: str, outputs: str) -> str | bool:
    model = build(f'<ir_version: 8, opset_import: ["" : 17]> agraph ({inputs}) => ({outputs}) <{values}> {{ {body} }}')
    found = int8_eligible(model)["y"]
    return True if found is True else str(found)


def conv(weight: str, inputs: str, attributes: str = "", op: str = "Conv") -> str | bool:
    sizes = inputs.split(", ")
    return verdict(
        f"r = Neg(x)  y = {op}{attributes}(r, w)",
        f"float[{weight}] w",
        f"float[{', '.join(sizes)}] x",
        "float[a, b, c, d] y",
    )


@pytest.mark.parametrize(
    ("weight", "attributes", "message"),
    [
        ("32, 32, 3, 3", "", None),
        ("32, 8, 3, 3", "<group = 4>", "8 input channels a group"),
        ("32, 16, 3, 3", "<group = 2>", None),
        ("32, 1, 3, 3", "<group = 32>", None),
        ("8, 32, 3, 3", "", "8 output channels"),
    ],
)
def test_convolutions(weight: str, attributes: str, message: str | None):
    found = conv(weight, "1, 32, 8, 8", attributes)
    assert found is True if message is None else message in str(found)


def test_few_input_channels_are_for_the_image_alone():
    assert "it has 3 input channels" in str(conv("32, 3, 3, 3", "1, 3, 8, 8"))
    image = ("float[1, 3, 8, 8] x", "float[1, n, 6, 6] y")
    assert verdict("y = Conv(x, w)", "float[32, 3, 3, 3] w", *image) is True
    scaled = "s = Mul(x, k)  y = Conv(s, w)"
    assert verdict(scaled, "float k = {2.0}, float[32, 3, 3, 3] w", *image) is True
    assert "no multiple of 16" in str(verdict("y = Conv(x, w)", "float[24, 3, 3, 3] w", *image))


def test_transposed_convolutions_have_their_channels_on_axis_1():
    assert conv("32, 64, 2, 2", "1, 32, 8, 8", op="ConvTranspose") is True
    assert "no grouped INT8 ConvTranspose" in str(conv("32, 32, 2, 2", "1, 32, 8, 8", "<group = 2>", "ConvTranspose"))
    model = build("""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[1, 32, 8, 8] x) => (float[1, 64, 16, 16] y) <float[32, 64, 2, 2] w>
    { y = ConvTranspose<strides = [2, 2]>(x, w) }
    """)
    assert operands(model.graph.node("y")).weights[0][1] == 1


@pytest.mark.parametrize(
    ("a", "b", "op", "message"),
    [
        ("1, 20, 32", "32, 64", "MatMul", None),
        ("N, 20, 32", "32, 64", "MatMul", None),
        ("1, 1, 32", "32, 64", "MatMul", "multiplies a vector"),
        ("1, 20, 32", "32, 1", "MatMul", "multiplies a vector"),
        ("1, 20, 8", "8, 64", "MatMul", "8 inputs (K)"),
        ("1, 20, 32", "32, 10", "MatMul", "10 outputs (N)"),
        ("4, 20, 32", "4, 32, 64", "MatMul", "batch axis"),
        ("64, 32", "32, 64", "Gemm", None),
        ("64, 32", "64, 32", "Gemm<transB = 1>", None),
        ("64, 32", "10, 32", "Gemm<transB = 1>", "10 outputs (N)"),
        ("1, 32", "32, 64", "Gemm", "multiplies a vector"),
        ("N, 32", "32, 64", "Gemm", "multiplies a vector"),
        ("32, 64", "32, 64", "Gemm<transA = 1>", "not the default"),
        ("64, 32", "32, 64", "Gemm<alpha = 0.5>", "not the default"),
    ],
)
def test_matmuls(a: str, b: str, op: str, message: str | None):
    rank = "p, q, r" if op == "MatMul" else "p, q"
    found = verdict(f"y = {op}(x, w)", f"float[{b}] w", f"float[{a}] x", f"float[{rank}] y")
    assert found is True if message is None else message in str(found)


ATTENTION = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[1, 4, 32, 64] q, float[1, 4, 64, 32] k, float[1, 4, 32, 64] v, float[1, 1, 32, 32] mask) => (float[1, 4,
32, 64] o) <float scale = {0.125}, float[32, 32] table>
{
  s = MatMul(q, k)
  t = Mul(s, scale)
  u = Add(t, MASK)
  p = Softmax<axis = -1>(u)
  o = MatMul(p, v)
}
"""


def test_attention_with_a_computed_mask_stays_float():
    found = int8_eligible(build(ATTENTION.replace("MASK", "mask")))
    assert "adds a computed mask" in str(found["s"])
    assert "adds a computed mask" in str(found["o"])
    constant = int8_eligible(build(ATTENTION.replace("MASK", "table")))
    assert constant["s"] is True
    assert constant["o"] is True
    assert "no INT8 form of its own" in str(constant["p"])


def test_quantized_inputs_and_other_types_are_refused():
    pair = "q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  y = Conv(d, w)"
    values = "float s = {0.1}, int8 z = {0}, float[32, 32, 1, 1] w"
    ports = ("float[1, 32, 8, 8] x", "float[1, 32, 8, 8] y")
    assert "quantized already" in str(verdict(pair, values, *ports))
    half = ("float16[1, 32, 8, 8] x", "float16[1, 32, 8, 8] y")
    assert "FLOAT16, not float32" in str(verdict("y = AveragePool<kernel_shape = [1, 1]>(x)", "float u = {1.0}", *half))
