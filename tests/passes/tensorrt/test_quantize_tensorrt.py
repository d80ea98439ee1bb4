from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.errors import PassError
from edgeprune.passes.placement import residual_inputs, shared_scales
from edgeprune.passes.tensorrt.quantize_tensorrt import quantize_tensorrt, values_to_quantize
from edgeprune.testing.oracle import parse
from tests.passes.graphs import RESIDUAL, build, observed

CONVOLUTIONS = ["stem", "c1", "c2", "narrow", "y"]


def scales(model: ir.Model) -> dict[str, list[float]]:
    """Value -> scales of the QuantizeLinear nodes that read it."""
    found: dict[str, list[float]] = {}
    for node in model.graph:
        if node.op_type == "QuantizeLinear":
            source, scale = node.inputs[0], node.inputs[1]
            assert source is not None
            assert scale is not None
            assert scale.const_value is not None
            found.setdefault(str(source.name), []).append(float(scale.const_value.numpy()))
    return found


def test_inputs_are_quantized_and_outputs_are_not():
    model = build(RESIDUAL)
    assert values_to_quantize(model, CONVOLUTIONS) == ["image", "x", "r1", "s", "cat"]
    quantized = quantize_tensorrt(model, CONVOLUTIONS, observed(model))
    assert set(scales(quantized)) == {"image", "x", "r1", "s", "cat"}
    assert all(len(each) == 1 for each in scales(quantized).values())
    readers = {str(c.name): c.op_type for v in quantized.graph.node("c2").outputs for c in v.consumers()}
    assert readers == {"sum": "Add"}  # the branch that the convolution computes reaches the Add as it is
    add = quantized.graph.node("sum")
    assert [v.producer().op_type for v in add.inputs if v is not None] == ["Conv", "DequantizeLinear"]  # type: ignore[union-attr]


def test_a_concat_shares_one_scale_through_a_pool():
    model = build(RESIDUAL)
    ranges = {**observed(model), "s": (0.0, 3.0), "cat": (-7.0, 5.0)}
    found = scales(quantize_tensorrt(model, CONVOLUTIONS, ranges))
    assert found["s"] == found["cat"] == pytest.approx([7 / 127], rel=1e-6)
    assert found["r1"] != found["cat"]


def test_a_concat_that_no_int8_node_reads_joins_nothing():
    model = build(RESIDUAL)
    values = [v for n in model.graph for v in n.outputs if v.name in ("s", "x")]
    assert shared_scales(model.graph, values) == []


def test_of_two_convolutions_the_later_one_is_fused():
    model = build("""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[1, 32, 8, 8] x) => (float[1, 32, 8, 8] y) <float[32, 32, 1, 1] w1, float[32, 32, 1, 1] w2>
    { short = Conv(x, w1)  long = Conv(x, w2)  y = Add(short, long) }
    """)
    nodes = [n for n in model.graph if n.op_type == "Conv"]
    assert [(add.name, value.name) for add, value in residual_inputs(nodes)] == [("y", "short")]
    assert [(add.name, value.name) for add, value in residual_inputs(nodes[:1])] == [("y", "long")]
    assert list(residual_inputs([])) == []


@pytest.mark.parametrize(
    "body",
    [
        "c = Conv(x, w)  y = Add(c, c)",
        "c = Conv(x, w)  y = Add(c, k)",
        "c = Conv(x, w)  r = Relu(c)  y = Add(r, x)",
        "c = Conv(x, w)  s = Add(c, x)  y = Mul(s, c)",
        "c = Conv(x, w)  p = GlobalAveragePool(x)  y = Add(c, p)",
    ],
    ids=["itself", "constant", "activation between", "read elsewhere", "broadcast"],
)
def test_additions_that_are_no_fused_residual(body: str):
    model = build(f"""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[1, 32, 8, 8] x) => (float[1, 32, 8, 8] y) <float[32, 32, 1, 1] w, float[32, 1, 1] k> {{ {body} }}
    """)
    assert list(residual_inputs([model.graph.node("c")])) == []


def test_float16_nodes_have_scales_that_float16_holds_and_pairs_of_their_own():
    model = build(RESIDUAL)
    found = scales(quantize_tensorrt(model, ["c1", "c2"], observed(model), half=["c1"]))
    assert len(found["x"]) == 2  # c1 in float16, the residual of the Add in float32
    assert any(float(np.float16(s)) == s for s in found["x"])


def test_a_weight_that_two_nodes_share_is_quantized_for_each():
    model = build("""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[1, 32, 8, 8] x) => (float[1, 32, 8, 8] y) <float[32, 32, 1, 1] w>
    { a = Conv(x, w)  b = Conv(a, w)  y = Conv(b, w) }
    """)
    quantized = quantize_tensorrt(model, ["a", "b"], {"x": (-1, 1), "a": (-1, 1)})
    weights = [n.inputs[1] for n in quantized.graph if n.op_type == "Conv"]
    kinds = [v.producer().op_type if v is not None and v.producer() is not None else "float" for v in weights]  # type: ignore[union-attr]
    assert kinds == ["DequantizeLinear", "DequantizeLinear", "float"]


@pytest.mark.parametrize(
    ("int8", "ranges", "message"),
    [
        (["nobody"], {}, "no node 'nobody'"),
        (["x"], {}, "'x' cannot be INT8: Relu has no INT8 form"),
        (["c1"], {}, "no range is given for 'x'"),
        (["c1"], {"x": (0.0, float("inf"))}, "range of 'x'"),
        (["c1"], {"x": (1.0, 0.0)}, "range of 'x'"),
    ],
)
def test_refusals(int8: list[str], ranges: dict[str, tuple[float, float]], message: str):
    with pytest.raises(PassError, match=message):
        quantize_tensorrt(build(RESIDUAL), int8, ranges)


def test_old_opsets_are_refused():
    model = build(RESIDUAL.replace('"" : 17', '"" : 12'))
    with pytest.raises(PassError, match="opset 13"):
        quantize_tensorrt(model, [], {})


def test_positions_are_not_quantized_as_a_residual() -> None:
    model = parse(
        """
        g (float[1, 16, 8, 8] x, float[1, 2, 8, 8] at, float[1, 16, 8, 8] image) => (float[1, 16, 8, 8] y) {
          c = Conv<pads=[1, 1, 1, 1]>(x, w)
          r = Relu(c)
          step = Conv<pads=[1, 1, 1, 1]>(r, v)
          moved = Add(at, step)
          grid = Transpose<perm=[0, 2, 3, 1]>(moved)
          y = GridSample(image, grid)
        }""",
        w=(16, 16, 3, 3),
        v=(2, 16, 3, 3),
    )
    nodes = [n for n in model.graph if n.op_type == "Conv"]
    assert list(residual_inputs(nodes)) == []
