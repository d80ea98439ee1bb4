import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.calibration.intermediate_outputs import IntermediateOutputs
from edgeprune.errors import PassError
from edgeprune.passes.x86.int8_nodes import int8_eligible
from edgeprune.passes.x86.quantize_x86 import quantize_x86, values_to_quantize
from edgeprune.testing.oracle import feeds_for, parse

CNN = """
g (float[1, 8, 12, 12] x) => (float[1, 10] y) {
  c = Conv<pads=[1, 1, 1, 1]>(x, w1, b1)
  r = Relu(c)
  d = Conv<pads=[1, 1, 1, 1]>(r, w2, b2)
  s = Add(d, r)
  a = Relu(s)
  p = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(a)
  g = GlobalAveragePool(p)
  f = Flatten(g)
  y = Gemm<transB=1>(f, w3, b3)
}
"""
WEIGHTS = {"w1": (16, 8, 3, 3), "b1": (16,), "w2": (16, 16, 3, 3), "b2": (16,), "w3": (10, 16), "b3": (10,)}


def model_and_ranges(text: str = CNN, **weights: tuple[int, ...]) -> tuple[ir.Model, dict[str, tuple[float, float]]]:
    model = parse(text, **(weights or WEIGHTS))
    names = [str(o.name) for n in model.graph for o in n.outputs] + [str(v.name) for v in model.graph.inputs]
    seen = [IntermediateOutputs(model, names).run(feeds_for(model, seed)) for seed in range(4)]
    bounds = {n: (min(float(s[n].min()) for s in seen), max(float(s[n].max()) for s in seen)) for n in names}
    return model, bounds


def relative_error(model: ir.Model, changed: ir.Model) -> float:
    feeds = feeds_for(model, 0)
    runtime = OnnxRuntime()
    (want,), (got,) = runtime.load(model).run(feeds), runtime.load(changed).run(feeds)
    return float(np.abs(want - got).max() / np.abs(want).max())


def eligible(model: ir.Model) -> list[str]:
    return [name for name, ok in int8_eligible(model).items() if ok]


def fused_ops(model: ir.Model, tmp_path) -> list[str]:
    import onnx
    import onnxruntime as ort

    from edgeprune.graph import model_io as graph

    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(graph.to_bytes(model), options, providers=["CPUExecutionProvider"])
    return [n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node]


def test_a_model_in_int8_stays_close_and_fuses(tmp_path) -> None:
    model, ranges = model_and_ranges()
    changed = quantize_x86(model, eligible(model), ranges)
    # 8 bits: a step is 1/255 of a range; five layers of it stay within a few per cent of the largest output.
    assert relative_error(model, changed) < 0.05
    ops = fused_ops(changed, tmp_path)
    assert ops.count("QLinearConv") == 2
    assert "Conv" not in ops
    assert "Relu" not in ops
    assert {"QLinearAdd", "QGemm"} <= set(ops)


def test_nothing_chosen_changes_nothing() -> None:
    model, ranges = model_and_ranges()
    assert relative_error(model, quantize_x86(model, [], ranges)) == 0


def test_only_the_chosen_nodes_are_quantized() -> None:
    model, ranges = model_and_ranges()
    second = [str(n.name) for n in model.graph if n.op_type == "Conv"][1:]
    assert values_to_quantize(model, second) == ["r", "d"]
    changed = quantize_x86(model, second, ranges)
    float_readers = [n for n in changed.graph if n.op_type == "Conv"]
    assert float_readers[0].inputs[0].producer() is None
    assert float_readers[1].inputs[0].producer().op_type == "DequantizeLinear"


def test_a_relu_absorbed_by_the_convolution_needs_no_range_between() -> None:
    model, _ = model_and_ranges()
    assert "c" not in values_to_quantize(model, eligible(model))


def test_no_float_weight_stays_beside_the_quantized_ones() -> None:
    model, ranges = model_and_ranges()
    changed = quantize_x86(model, eligible(model), ranges)
    assert not {"w1", "w2", "w3", "b1", "b2", "b3"} & set(changed.graph.initializers)
    assert all(value.uses() for value in changed.graph.initializers.values())


def test_moved_values_share_their_scale() -> None:
    model, ranges = model_and_ranges()
    changed = quantize_x86(model, eligible(model), ranges)
    scales = changed.graph.initializers
    assert scales["a_scale"].const_value.numpy() == scales["p_scale"].const_value.numpy()


def test_concat_shares_a_scale_only_for_similar_ranges() -> None:
    text = """
    g (float[1, 8, 6, 6] x) => (float[1, 8, 6, 6] y) {
      a = Conv(x, w1, b1)
      b = Conv(x, w2, b2)
      c = Concat<axis=1>(a, b)
      y = Conv(c, w3)
    }
    """
    weights = {"w1": (8, 8, 1, 1), "b1": (8,), "w2": (8, 8, 1, 1), "b2": (8,), "w3": (8, 16, 1, 1)}
    model, ranges = model_and_ranges(text, **weights)
    alike = quantize_x86(model, eligible(model), ranges | {"a": (-3, 3), "b": (-4, 4), "c": (-4, 4)}).graph.initializers
    assert alike["a_scale"].const_value.numpy() == alike["b_scale"].const_value.numpy()
    apart = quantize_x86(
        model, eligible(model), ranges | {"a": (-1, 1), "b": (-90, 90), "c": (-90, 90)}
    ).graph.initializers
    assert apart["a_scale"].const_value.numpy() < apart["b_scale"].const_value.numpy() / 50


def test_a_graph_output_keeps_its_name_and_is_dequantized() -> None:
    text = "g (float[1, 8, 6, 6] x) => (float[1, 8, 6, 6] y) { y = Conv(x, w1, b1) }"
    model, ranges = model_and_ranges(text, w1=(8, 8, 1, 1), b1=(8,))
    changed = quantize_x86(model, eligible(model), ranges)
    (output,) = changed.graph.outputs
    assert output.name == "y"
    assert output.producer().op_type == "DequantizeLinear"
    assert relative_error(model, changed) < 0.03


def test_a_dead_channel_with_a_bias_does_not_overflow() -> None:
    text = "g (float[1, 4, 6, 6] x) => (float[1, 4, 6, 6] y) { y = Conv(x, w1, b1) }"
    model, ranges = model_and_ranges(text, w1=(4, 4, 1, 1), b1=(4,))
    weight = model.graph.initializers["w1"]
    array = weight.const_value.numpy().copy()
    array[1] = 1e-25
    weight.const_value = ir.Tensor(array, name="w1")
    bias = model.graph.initializers["b1"]
    bias.const_value = ir.Tensor(np.array([0.1, 5.0, -0.2, 0.3], np.float32), name="b1")
    changed = quantize_x86(model, eligible(model), ranges | {"y": (-5.0, 6.0)})
    assert relative_error(model, changed) < 0.03


def test_matmul_gives_floats_to_a_float_node() -> None:
    text = "g (float[4, 16] x) => (float[4, 8] y) { h = MatMul(x, w1) y = Tanh(h) }"
    model, ranges = model_and_ranges(text, w1=(16, 8))
    matmul = [n for n in eligible(model) if "h" in values_of(model, n)]
    assert values_to_quantize(model, matmul) == ["x"]
    assert relative_error(model, quantize_x86(model, matmul, ranges)) < 0.03


def values_of(model: ir.Model, node: str) -> list[str]:
    return [str(o.name) for n in model.graph if n.name == node for o in n.outputs]


@pytest.mark.parametrize(
    ("int8", "drop", "reason"),
    [(["nothing"], None, "has no node 'nothing'"), (None, "r", "no range is given for 'r'")],
)
def test_refusals_name_the_node_or_value(int8: list[str] | None, drop: str | None, reason: str) -> None:
    model, ranges = model_and_ranges()
    ranges.pop(drop or "", None)
    with pytest.raises(PassError, match=reason):
        quantize_x86(model, int8 or eligible(model), ranges)


def test_a_node_without_an_int8_kernel_is_refused() -> None:
    model, ranges = model_and_ranges("g (float[4, 16] x) => (float[4, 16] y) { y = Tanh(x) }", w=(1,))
    (name,) = (str(n.name) for n in model.graph)
    with pytest.raises(PassError, match="no INT8 kernel for Tanh"):
        quantize_x86(model, [name], ranges)


SWISHES = {
    "spelled out": "s = Add(c, three) k = Clip(s, zero, six) p = Mul(c, k) q = Div(p, six)",
    "as sigmoid": "k = HardSigmoid<alpha=0.16666667, beta=0.5>(c) q = Mul(c, k)",
    "as one": "q = HardSwish(c)",
}


@pytest.mark.parametrize("swish", SWISHES.values(), ids=SWISHES)
def test_a_hard_swish_is_one_clip_and_one_int8_mul(swish: str, tmp_path) -> None:
    text = f"""
    g (float[1, 8, 12, 12] x) => (float[1, 8, 12, 12] y)
    <float three = {{3}}, float zero = {{0}}, float six = {{6}}, float a = {{1.5}}, float b = {{0.4}}> {{
      c = Conv(x, w1, b1)
      {swish}
      r = Mul(a, q)
      t = Add(r, b)
      y = Conv<pads=[1, 1, 1, 1]>(t, w2, b2)
    }}
    """
    model, ranges = model_and_ranges(text, w1=(8, 8, 1, 1), b1=(8,), w2=(8, 8, 3, 3), b2=(8,))
    nodes = eligible(model)
    assert len(nodes) == len(model.graph)
    changed = quantize_x86(model, nodes, {name: ranges[name] for name in values_to_quantize(model, nodes)})
    # Two layers of 8 bits, as above.
    assert relative_error(model, changed) < 0.03
    ops = fused_ops(changed, tmp_path)
    assert sorted(o for o in ops if o != "Transpose") == [
        "Clip", "DequantizeLinear", "QLinearConv", "QLinearConv", "QLinearMul", "QuantizeLinear",
    ]  # fmt: skip


def test_an_int8_gate_is_clipped_at_its_limits() -> None:
    text = """
    g (float[1, 8, 6, 6] x) => (float[1, 8, 6, 6] y) {
      c = Conv(x, w1, b1)
      p = GlobalAveragePool(c)
      e = Conv(p, w2, b2)
      k = HardSigmoid(e)
      m = Mul(c, k)
      y = Conv(m, w3, b3)
    }
    """
    weights = {"w1": (8, 8, 1, 1), "b1": (8,), "w2": (8, 8, 1, 1), "b2": (8,), "w3": (8, 8, 1, 1), "b3": (8,)}
    model, ranges = model_and_ranges(text, **weights)
    nodes = eligible(model)
    assert "k" not in values_to_quantize(model, nodes)
    assert relative_error(model, quantize_x86(model, nodes, ranges | {"e": (-9.0, 9.0)})) < 0.05


def test_a_concat_shares_no_scale_that_would_undo_a_clip_of_its_operands(tmp_path) -> None:
    text = """
    g (float[1, 8, 6, 6] x) => (float[1, 8, 6, 6] y) {
      c = Conv(x, w1, b1)
      r = Relu(c)
      d = Conv(x, w2, b2)
      k = Concat<axis=1>(r, d)
      y = Conv(k, w3, b3)
    }
    """
    sizes = {"w1": (8, 8, 1, 1), "b1": (8,), "w2": (8, 8, 1, 1), "b2": (8,), "w3": (8, 16, 1, 1), "b3": (8,)}
    model, ranges = model_and_ranges(text, **sizes)
    changed = quantize_x86(model, eligible(model), ranges)
    ops = fused_ops(changed, tmp_path)
    # With negative values behind the Relu, onnxruntime would run its convolution in float.
    assert ops.count("QLinearConv") == 3
    assert ops.count("DequantizeLinear") == 1
    assert relative_error(model, changed) < 0.05  # three layers of 8 bits


@pytest.mark.parametrize("high", [5.0, 6.0, 6.5])
def test_quantized_values_stay_within_the_limits_of_a_clip(high: float, tmp_path) -> None:
    text = """
    g (float[1, 8, 6, 6] x) => (float[1, 8, 6, 6] y) {
      c = Conv(x, w1, b1)
      r = Clip(c, low, high)
      y = Conv(r, w2, b2)
    }
    """
    model = parse(text, w1=(8, 8, 1, 1), b1=(8,), low=(), high=(), w2=(8, 8, 1, 1), b2=(8,))
    for name, limit in (("low", 0.0), ("high", 6.0)):
        model.graph.initializers[name].const_value = ir.tensor(np.float32(limit), name=name)
    ranges = {"x": (-3.0, 3.0), "r": (0.0, high), "y": (-2.0, 2.0)}
    assert fused_ops(quantize_x86(model, eligible(model), ranges), tmp_path).count("QLinearConv") == 2
