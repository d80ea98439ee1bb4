"""Memory of computed tensors, by hand-counted graphs; float tensors take 4 bytes, int8 one."""

import onnx
import onnx_ir as ir
import pytest

from edgeprune.graph.activation_memory import peak_activation_bytes


def peak(body: str, signature: str = "g (float[1,8] x) => (float[1,8] y)") -> int | None:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {signature} {{ {body} }}')
    return peak_activation_bytes(ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto)))


@pytest.mark.parametrize(
    ("body", "tensors"),
    [
        ("y = Relu(x)", 2),
        ("a = Relu(x) b = Relu(a) y = Relu(b)", 2),  # a is free before y is computed
        ("a = Relu(x) b = Relu(a) y = Add(x, b)", 3),  # x waits for y
        ("a = Relu(x) b = Neg(x) c = Abs(x) d = Add(a, b) y = Add(c, d)", 4),
        ("a = Identity(x) y = Relu(a)", 2),  # a view takes nothing
        ("a = Relu(x) b = Identity(a) c = Neg(b) y = Add(b, c)", 3),  # a lives as long as its view
    ],
)
def test_tensors_live_until_their_last_reader(body: str, tensors: int) -> None:
    assert peak(body) == tensors * 32


def test_quantized_tensors_count_at_their_size() -> None:
    body = """s = Constant<value = float {0.1}>() z = Constant<value = int8 {0}>()
        a = Relu(x) q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z) y = Relu(d)"""
    assert peak(body) == 8 + 32 + 5  # q beside y, and the scale and zero point; x and the first result took 32 + 8 + 5


def test_a_size_that_is_not_known_is_not_guessed() -> None:
    assert peak("y = Relu(x)", "g (float[n,8] x) => (float[n,8] y)") is None
