import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from edgeprune.testing.oracle import canonical, verify
from tests.models import single


def quantized(zero_point: str, weight_type: str = "int8") -> str:
    values = ", ".join(str(v) for v in np.random.default_rng(0).integers(-9 if weight_type == "int8" else 0, 9, 18))
    second = ", ".join(str(v) for v in np.random.default_rng(1).integers(-9 if weight_type == "int8" else 0, 9, 24))
    return f"""g (float[1,3,4,4] x) => (float[1,4,4,4] y)
    <{weight_type}[6,3,1,1] w1 = {{{values}}}, {weight_type}[4,6,1,1] w2 = {{{second}}},
     float[6] s1 = {{0.1, 0.2, 0.3, 0.1, 0.2, 0.3}}, float[4] s2 = {{0.1, 0.2, 0.3, 0.1}}, float sx = {{0.05}},
     {weight_type}[6] z1 = {{0, 0, 0, 0, 0, 0}}, {weight_type}[4] z2 = {{{zero_point}}}, uint8 zx = {{128}}> {{
        qx = QuantizeLinear(x, sx, zx)
        dx = DequantizeLinear(qx, sx, zx)
        d1 = DequantizeLinear<axis=0>(w1, s1, z1)
        h = Conv(dx, d1)
        qh = QuantizeLinear(h, sx, zx)
        dh = DequantizeLinear(qh, sx, zx)
        r = Relu(dh)
        d2 = DequantizeLinear<axis=0>(w2, s2, z2)
        y = Conv(r, d2)
    }}"""


def test_scales_of_an_axis_follow_it() -> None:
    analysis = verify(single(quantized("0, 0, 0, 0")), tolerance=1e-3)
    (group,) = analysis.groups
    assert {(m.value, m.axis) for m in group.members if m.role != "activation"} >= {("w1", 0), ("s1", 0), ("w2", 1)}
    assert analysis.roles["w2", 1] == "consumer"


@pytest.mark.parametrize("zero_point", ["1, 2, 3, 1"])
def test_asymmetric_weights_have_no_zero_of_their_own(zero_point: str) -> None:
    analysis = verify(single(quantized(zero_point)), tolerance=1e-3)
    assert all(analysis.roles.get(("w2", 1)) != "consumer" for _ in analysis.groups)


def test_the_zero_point_may_be_left_out() -> None:
    values = ", ".join(str(v) for v in np.random.default_rng(0).integers(-90, 90, 18))
    model = single(
        f"""g (float[1,3,4,4] x) => (float[1,4,4,4] y)
        <int8[6,3,1,1] w1 = {{{values}}}, float[6] s1 = {{0.1, 0.2, 0.3, 0.1, 0.2, 0.3}}, float sx = {{0.05}},
         int32[6] b1 = {{5, 4, 3, 2, 1, 0}}> {{
            d1 = DequantizeLinear<axis=0>(w1, s1)
            e1 = DequantizeLinear<axis=0>(b1, s1, )
            h = Conv(x, d1, e1)
            q = QuantizeLinear(h, sx)
            d = DequantizeLinear(q, sx)
            y = Conv(d, w2)
        }}""",
        w2=(4, 6, 1, 1),
    )
    (group,) = verify(model, tolerance=1e-4).groups
    assert {(m.value, m.axis) for m in group.members} >= {("w1", 0), ("s1", 0), ("b1", 0), ("w2", 1)}


def asymmetric(second: str = "Conv(r, d2)", shape: str = "4,6,1,1") -> str:
    """Two convolutions with uint8 weights that have one scale and one zero point each."""
    generator = np.random.default_rng(0)
    w1, w2 = (", ".join(str(v) for v in generator.integers(0, 256, n)) for n in (18, 24))
    return f"""g (float[1,3,4,4] x) => (float[1,4,4,4] y)
    <uint8[6,3,1,1] w1 = {{{w1}}}, uint8[{shape}] w2 = {{{w2}}}, float s1 = {{0.01}}, float s2 = {{0.02}},
     uint8 z1 = {{120}}, uint8 z2 = {{131}}, float sx = {{0.05}}, uint8 zx = {{128}}> {{
        qx = QuantizeLinear(x, sx, zx)
        dx = DequantizeLinear(qx, sx, zx)
        d1 = DequantizeLinear(w1, s1, z1)
        h = Conv(dx, d1, b1)
        qh = QuantizeLinear(h, sx, zx)
        dh = DequantizeLinear(qh, sx, zx)
        r = Relu(dh)
        d2 = DequantizeLinear(w2, s2, z2)
        y = {second}
    }}"""


@pytest.mark.parametrize(
    ("second", "shape"), [("Conv(r, d2)", "4,6,1,1"), ("ConvTranspose(r, d2)", "6,4,1,1")], ids=["conv", "transposed"]
)
def test_one_scale_for_asymmetric_weights_is_spread(second: str, shape: str) -> None:
    analysis = verify(single(asymmetric(second, shape), b1=(6,)), tolerance=1e-3)
    (group,) = analysis.groups
    assert group.size == 6
    assert {(m.axis, m.role) for m in group.members if m.value == "s1_spread"} == {(0, "consumer")}


def blocked(k: int = 64, block: int = 16, dtype: ir.DataType = ir.DataType.INT4) -> ir.Model:
    """``y = (x w1) W2``, W2 (k, 5) in blocks of rows that share a scale."""
    generator = np.random.default_rng(0)
    low = 0 if dtype is ir.DataType.UINT4 else -8
    rows = -(-k // block)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w1"], ["h"], "up"),
            helper.make_node("DequantizeLinear", ["w2", "s2", "z2"], ["d2"], "dequantize", axis=0, block_size=block),
            helper.make_node("MatMul", ["h", "d2"], ["y"], "down"),
        ],
        "g",
        [helper.make_tensor_value_info("x", 1, [2, 8])],
        [helper.make_tensor_value_info("y", 1, [2, 5])],
        [
            numpy_helper.from_array(generator.standard_normal((8, k)).astype(np.float32), "w1"),
            helper.make_tensor("w2", dtype.value, [k, 5], generator.integers(low, low + 16, k * 5)),
            numpy_helper.from_array(generator.uniform(0.1, 1, (rows, 5)).astype(np.float32), "s2"),
            helper.make_tensor("z2", dtype.value, [rows, 5], np.full(rows * 5, 7 if low == 0 else 0)),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return canonical(proto)


@pytest.mark.parametrize("dtype", [ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT8])
def test_blocks_that_share_a_scale_go_whole(dtype: ir.DataType) -> None:
    analysis = verify(blocked(dtype=dtype), tolerance=1e-4)
    (group,) = analysis.groups
    assert group.size == 4
    units = {(m.value, m.axis): m.unit.tolist() for m in group.members}
    assert units["w1", 1] == units["w2", 0] == np.repeat(range(4), 16).tolist()
    assert units["s2", 0] == [0, 1, 2, 3]


def test_a_last_block_that_is_not_whole_freezes_the_axis() -> None:
    analysis = verify(blocked(k=60))
    assert analysis.groups == ()
    assert analysis.why("w1", 1)[-1].reason == "its last block of scales is not whole"
