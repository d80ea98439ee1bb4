import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.passes.x86.quantize_x86 import quantize_x86, values_to_quantize
from edgeprune.testing.oracle import feeds_for, parse
from tests.passes.x86.test_quantize_x86 import fused_ops, model_and_ranges, relative_error

MLP = """
g (float[BATCH, 6, 16] x) => (float[BATCH, 6, 16] y) {
  h = MatMul(x, w1)
  a = Add(b1, h)
  e = Erf(a)
  p = MatMul(e, w2)
  s = Add(p, b2)
  y = Add(s, x)
}
"""
SIZES = {"w1": (16, 32), "b1": (32,), "w2": (32, 16), "b2": (1, 16)}


def matmuls(model: ir.Model) -> list[str]:
    return [str(n.name) for n in model.graph if n.op_type == "MatMul"]


@pytest.mark.parametrize("batch", ["1", "batch"])
def test_a_matmul_with_a_bias_is_one_int8_kernel_with_fixed_and_open_batch(batch: str, tmp_path) -> None:
    model, ranges = model_and_ranges(MLP.replace("BATCH", batch), **SIZES)
    changed = quantize_x86(model, matmuls(model), ranges)
    # Two layers of 8 bits stay within a few per cent of the largest output.
    assert relative_error(model, changed) < 0.03
    assert [tuple(map(str, v.shape)) for v in changed.graph.outputs] == [(batch, "6", "16")]
    ops = fused_ops(changed, tmp_path)
    assert ops.count("QGemm") == 2
    assert not {"DequantizeLinear", "Gemm", "MatMul", "MatMulIntegerToFloat"} & set(ops)


def test_ranges_use_the_names_of_the_float_model() -> None:
    model, ranges = model_and_ranges(MLP.replace("BATCH", "1"), **SIZES)
    assert values_to_quantize(model, matmuls(model)) == ["x", "e"]
    names = [n.name for n in quantize_x86(model, matmuls(model), ranges).graph]
    assert set(matmuls(model)) <= set(names)


def test_a_larger_batch_gives_the_results_of_single_samples() -> None:
    model, ranges = model_and_ranges(MLP.replace("BATCH", "batch"), **SIZES)
    run = OnnxRuntime().load(quantize_x86(model, matmuls(model), ranges)).run
    feeds = {"x": np.random.default_rng(0).standard_normal((3, 6, 16)).astype(np.float32)}
    (together,) = run(feeds)
    alone = np.concatenate([run({"x": feeds["x"][i : i + 1]})[0] for i in range(3)])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)  # the same INT8 values


def test_an_activation_whose_depth_is_not_inferred() -> None:
    text = """
    g (float[1, 6, 16] x, int64[3] sizes) => (float[1, 6, 16] y) {
      v = Reshape(x, sizes)
      a = MatMul(v, w)
      y = Add(a, b)
    }
    """
    model = parse(text, w=(16, 16), b=(16,))
    changed = quantize_x86(model, matmuls(model), {"v": (-4.0, 4.0)})
    feeds = {"x": feeds_for(model, 0)["x"], "sizes": np.array([1, 6, 16], dtype=np.int64)}
    (want,), (got,) = (OnnxRuntime().load(m).run(feeds) for m in (model, changed))
    assert float(np.abs(want - got).max() / np.abs(want).max()) < 0.02  # one layer of 8 bits


def test_matmuls_of_one_value_share_its_rows() -> None:
    text = """
    g (float[1, 6, 16] x) => (float[1, 6, 16] q, float[1, 6, 16] k) {
      a = MatMul(x, w1)
      q = Add(a, b1)
      b = MatMul(x, w2)
      k = Add(b, b2)
    }
    """
    model, ranges = model_and_ranges(text, w1=(16, 16), b1=(16,), w2=(16, 16), b2=(16,))
    changed = quantize_x86(model, matmuls(model), ranges)
    assert [v.name for v in changed.graph.outputs] == ["q", "k"]
    assert sum(n.op_type == "QuantizeLinear" for n in changed.graph) == 1
    assert sum(n.op_type == "Reshape" for n in changed.graph) == 3
    assert relative_error_of_all(model, changed) < 0.02


@pytest.mark.parametrize(
    ("matmul", "shape"),
    [
        ("Gemm(x, w1, b1)", "4, 16"),
        *((p, s) for p in ("MatMul(x, w1)", "Add(b1, u)") for s in ("4, 16", "1, 6, 16", "b, h, w, 16")),
    ],
)
def test_a_result_read_in_float_and_in_int8_comes_from_an_int8_kernel(matmul: str, shape: str, tmp_path) -> None:
    text = f"""
    g (float[{shape}] x) => (float[{shape}] y) {{
      {"u = MatMul(x, w1)" if matmul.startswith("Add") else ""}
      h = {matmul}
      e = Erf(h)
      m = MatMul(h, w2)
      y = Add(e, m)
    }}
    """
    sizes = {"w1": (16, 16), "w2": (16, 16)} | ({} if matmul.startswith("MatMul") else {"b1": (16,)})
    model = parse(text, **sizes)
    names = [str(n.name) for n in model.graph if n.op_type in ("Gemm", "MatMul")]
    changed = quantize_x86(model, names, dict.fromkeys(values_to_quantize(model, names), (-5.0, 5.0)))
    assert not {"Gemm", "MatMul"} & set(fused_ops(changed, tmp_path))
    x = np.random.default_rng(0).standard_normal((4, 16) if shape[0] == "4" else (1, 6, 16)[-3:]).astype(np.float32)
    feeds = {"x": x.reshape(1, 2, 3, 16) if shape[0] == "b" else x}
    (want,), (got,) = (OnnxRuntime().load(m).run(feeds) for m in (model, changed))
    assert float(np.abs(want - got).max() / np.abs(want).max()) < 0.05  # two layers of 8 bits over wide ranges


def relative_error_of_all(model: ir.Model, changed: ir.Model) -> float:
    feeds, runtime = feeds_for(model, 0), OnnxRuntime()
    pairs = zip(runtime.load(model).run(feeds), runtime.load(changed).run(feeds), strict=True)
    return max(float(np.abs(want - got).max() / np.abs(want).max()) for want, got in pairs)


def test_a_bias_far_above_its_channel_of_weights_fits_32_bits() -> None:
    model, ranges = model_and_ranges(MLP.replace("BATCH", "1"), **SIZES)
    weight, bias = (model.graph.initializers[n] for n in ("w1", "b1"))
    assert weight.const_value is not None
    assert bias.const_value is not None
    smaller, larger = weight.const_value.numpy().copy(), bias.const_value.numpy().copy()
    smaller[:, 3], larger[3] = 1e-12, 1.0
    weight.const_value, bias.const_value = ir.tensor(smaller, name="w1"), ir.tensor(larger, name="b1")
    assert relative_error(model, quantize_x86(model, matmuls(model), ranges)) < 0.03


@pytest.mark.parametrize(
    ("shape", "bias"),
    [("batch, length, 16", (16,)), ("1, 6, 16", (6, 16)), ("1, 6, 16", (1,))],
    ids=["two open sizes", "a number for every row", "one number for all"],
)
def test_other_sums_stay_as_they_are(shape: str, bias: tuple[int, ...]) -> None:
    text = f"g (float[{shape}] x) => (float[{shape}] y) {{ a = MatMul(x, w)\n y = Add(a, b) }}"
    model = parse(text, w=(16, 16), b=bias)
    changed = quantize_x86(model, matmuls(model), {"x": (-3.0, 3.0)})
    assert [n.op_type for n in changed.graph if n.op_type in ("Add", "Gemm", "MatMul")] == ["MatMul", "Add"]


def test_a_relu_behind_a_bias_has_a_range() -> None:
    """The Gemm absorbs the Relu, so what the Relu gives is quantized, although the Add alone has no INT8 kernel."""
    text = """
    g (float[1, 6, 16] x) => (float[1, 6, 16] y) {
      h = MatMul(x, w1)
      a = Add(h, b1)
      r = Relu(a)
      y = MatMul(r, w2)
    }
    """
    model, ranges = model_and_ranges(text, w1=(16, 32), b1=(32,), w2=(32, 16))
    int8 = [str(n.name) for n in model.graph if n.op_type in ("MatMul", "Relu")]
    needed = values_to_quantize(model, int8)
    assert needed == ["x", "r"]
    changed = quantize_x86(model, int8, {name: ranges[name] for name in needed})
    assert relative_error(model, changed) < 0.03
