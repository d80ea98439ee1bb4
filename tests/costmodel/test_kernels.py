"""Which kernels a graph becomes, and their sizes."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from edgeprune.costmodel.kernel import Kernel
from edgeprune.costmodel.kernels import kernels_of
from edgeprune.errors import ModelError
from edgeprune.passes.canonicalize.pipeline import canonicalize

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'


def weighted(text: str) -> ir.Model:
    """Graph inputs named w* become initializers of ones: the parser has no syntax for large ones."""
    model = onnx.parser.parse_model(HEADER + text)
    kept = []
    for value in model.graph.input:
        if value.name.startswith("w"):
            dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
            model.graph.initializer.append(numpy_helper.from_array(np.full(dims, 0.5, np.float32), value.name))
        else:
            kept.append(value)
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return canonicalize(ir.from_proto(model), verify=False)


def of(text: str) -> tuple[Kernel, ...]:
    return kernels_of(weighted(text))


def test_bias_residual_and_activation_run_inside_a_convolution() -> None:
    (kernel,) = of("""
        agraph (float[1,16,8,8] x, float[16,16,3,3] w, float[16] wb) => (float[1,16,8,8] y)
        { c = Conv<pads=[1,1,1,1]>(x, w, wb)  s = Add(c, x)  y = Relu(s) }
    """)
    assert (kernel.kind, kernel.epilogue, len(kernel.nodes)) == ("conv", "simple", 3)
    assert (kernel.rows, kernel.cin, kernel.cout, kernel.taps, kernel.groups) == (64, 16, 16, 9, 1)
    assert (kernel.read_positions, kernel.write_positions, kernel.side_elements) == (64, 64, 64)
    assert kernel.macs == 64 * 16 * 16 * 9


@pytest.mark.parametrize(
    ("tail", "epilogue"),
    [
        ("y = Identity(c)", "none"),
        ("y = Relu(c)", "simple"),
        ("s = Sigmoid(c)  y = Mul(c, s)", "complex"),
        ("r = Relu(c)  y = Add(r, x)", "complex"),
    ],
)
def test_tail_of_a_convolution(tail: str, epilogue: str) -> None:
    (kernel,) = of(f"""
        agraph (float[1,16,8,8] x, float[16,16,3,3] w) => (float[1,16,8,8] y)
        {{ c = Conv<pads=[1,1,1,1]>(x, w)  {tail} }}
    """)
    assert kernel.epilogue == epilogue


def test_residual_that_waits_for_the_convolution_is_a_kernel_of_its_own() -> None:
    """Squeeze and excitation: the gate depends on the convolution, so the Mul cannot be its tail."""
    found = [
        k.kind
        for k in of("""
        agraph (float[1,16,8,8] x, float[16,16,3,3] w, float[16,16,1,1] w1) => (float[1,16,8,8] y)
        {
          c = Conv<pads=[1,1,1,1]>(x, w)
          p = GlobalAveragePool(c)
          g = Conv(p, w1)
          s = Sigmoid(g)
          y = Mul(c, s)
        }
    """)
    ]
    assert found == ["conv", "reduce", "conv", "pointwise"]


def test_pointwise_chain_is_one_kernel() -> None:
    (kernel,) = of("agraph (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = Exp(x)  b = Tanh(a)  y = Mul(b, x) }")
    assert (kernel.kind, len(kernel.nodes)) == ("pointwise", 3)
    assert (kernel.read_positions * kernel.cin, kernel.write_positions * kernel.cout) == (256, 256)


def test_depthwise_and_grouped_convolutions() -> None:
    depthwise, grouped = of("""
        agraph (float[1,16,8,8] x, float[16,1,3,3] w, float[32,4,1,1] w1) => (float[1,32,8,8] y)
        { c = Conv<group=16, pads=[1,1,1,1]>(x, w)  y = Conv<group=4>(c, w1) }
    """)
    assert (depthwise.kind, depthwise.taps, depthwise.cout) == ("depthwise", 9, 16)
    assert (grouped.kind, grouped.groups, grouped.cin, grouped.cout) == ("conv", 4, 16, 32)
    assert grouped.macs == 64 * 16 * 32 // 4


def test_attention_is_one_kernel_and_reads_heads_with_strides() -> None:
    """Seven kernels of a transformer block: two norms, four projections, attention."""
    found = of("""
        agraph (float[1,10,32] x, float[32,96] wq, float[32,32] wp, float[32,64] wu, float[64,32] wd,
                float[32] ws, float[32] wb) => (float[1,10,32] y)
        <int64[5] shape = {1,10,3,4,8}, int64[3] back = {1,10,32}, int64[1] zero = {0}, float scale = {0.5}>
        {
          n = LayerNormalization(x, ws, wb)
          p = MatMul(n, wq)
          h = Reshape(p, shape)
          t = Transpose<perm=[2,0,3,1,4]>(h)
          qs, ks, vs = Split<axis=0>(t)
          q = Squeeze(qs, zero)
          k = Squeeze(ks, zero)
          v = Squeeze(vs, zero)
          kt = Transpose<perm=[0,1,3,2]>(k)
          s = MatMul(q, kt)
          m = Mul(s, scale)
          a = Softmax<axis=-1>(m)
          o = MatMul(a, v)
          ot = Transpose<perm=[0,2,1,3]>(o)
          r = Reshape(ot, back)
          z = MatMul(r, wp)
          e = Add(z, x)
          n2 = LayerNormalization(e, ws, wb)
          u = MatMul(n2, wu)
          g = Relu(u)
          d = MatMul(g, wd)
          y = Add(d, e)
        }
    """)
    assert [k.kind for k in found] == ["reduce", "matmul", "attention", "matmul", "reduce", "matmul", "matmul"]
    attention = found[2]
    assert (attention.groups, attention.rows, attention.keys, attention.cin, attention.cout) == (4, 10, 10, 32, 32)
    assert attention.macs == 2 * 4 * 10 * 10 * 8
    assert [k.weighted for k in found if k.kind == "matmul"] == [True] * 4


def test_concat_of_feature_maps_is_one_copy_per_operand() -> None:
    found = of("""
        agraph (float[1,8,4,4] x, float[8,8,1,1] w, float[8,8,1,1] w1) => (float[1,16,4,4] y)
        { a = Conv(x, w)  b = Conv(x, w1)  y = Concat<axis=1>(a, b) }
    """)
    assert [k.kind for k in found] == ["conv", "conv", "concat"]
    assert found[2].repeats == 2
    assert found[2].write_positions * found[2].cout * found[2].repeats == 16 * 16


def test_custom_operator_is_unknown() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "com.acme" : 1]>
        agraph (float[1,4] x) => (float[1,4] y) { s = com.acme.Swoosh(x)  y = Relu(s) }
    """)
    value = onnx.helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, [1, 4])
    model.graph.value_info.append(value)
    for i, node in enumerate(model.graph.node):
        node.name = f"n{i}"
    assert [k.kind for k in kernels_of(ir.from_proto(model))] == ["unknown", "pointwise"]


def test_unknown_shape_is_refused_by_name() -> None:
    model = ir.from_proto(onnx.parser.parse_model(HEADER + "agraph (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"))
    with pytest.raises(ModelError, match=r"tensor x is not known.*--shape"):
        kernels_of(model)


def test_recurrence_is_one_small_matmul_after_another() -> None:
    (kernel,) = of("""
        agraph (float[7,1,16] x, float[1,96,16] w, float[1,96,32] w1) => (float[7,1,1,32] y)
        { y = GRU<hidden_size=32>(x, w, w1) }
    """)
    assert (kernel.repeats, kernel.cin, kernel.cout) == (7, 48, 96)
    assert kernel.macs == 7 * 48 * 96


def test_shape_arithmetic_needs_no_kernel() -> None:
    found = of("""
        agraph (float[1,4,8,8] x) => (float[1,256] y)
        <int64[1] zero = {0}, int64[1] rest = {-1}>
        { s = Shape(x)  n = Gather<axis=0>(s, zero)  t = Concat<axis=0>(n, rest)  r = Reshape(x, t)  y = Relu(r) }
    """)
    assert [k.kind for k in found] == ["pointwise"]


def test_einsum_of_two_operands_is_a_batched_matmul() -> None:
    (kernel,) = of("""
        agraph (float[2,6,10,8] q, float[2,6,12,8] k) => (float[2,6,10,12] y)
        { y = Einsum<equation="b h i d, b h j d -> b h i j">(q, k) }
    """)
    assert (kernel.kind, kernel.groups, kernel.rows, kernel.cin, kernel.cout) == ("matmul", 12, 10, 12 * 8, 12 * 12)
    assert kernel.macs == 12 * 10 * 12 * 8
    assert not kernel.weighted


def test_einsum_that_is_no_matmul_is_unknown() -> None:
    (kernel,) = of("""
        agraph (float[4,4] x) => (float[4] y) { y = Einsum<equation="ii->i">(x) }
    """)
    assert kernel.kind == "unknown"


def test_sibling_projections_are_one_kernel() -> None:
    (kernel,) = of("""
        agraph (float[1,10,32] x, float[32,16] wq, float[32,48] wk) => (float[1,10,16] q, float[1,10,48] k)
        { q = MatMul(x, wq)  k = MatMul(x, wk) }
    """)
    assert (kernel.cin, kernel.cout, len(kernel.nodes)) == (32, 64, 2)
