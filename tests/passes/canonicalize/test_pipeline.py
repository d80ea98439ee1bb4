from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune.errors import ModelError
from edgeprune.graph import model_io as graphs
from edgeprune.passes.canonicalize import pipeline as module
from edgeprune.passes.canonicalize.pipeline import canonicalize
from tests.passes.models import ops, parse, random, run


def test_the_original_is_not_changed() -> None:
    text = "g (float[1,2,4,4] x) => (float[1,2,4,4] y) { h = Conv(x, w)\n i = Identity(h)\n y = Add(i, b) }"
    model = parse(text, w=random(2, 2, 1, 1), b=random(1, 2, 1, 1))
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    canonical = canonicalize(model, verify=True)
    assert ops(canonical) == {"Conv": 1}
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_names_of_inputs_and_outputs_stay() -> None:
    text = "g (float[n,2] first, float[n,2] second) => (float[n,2] sum, float[n,2] same) {"
    model = parse(text + " s = Add(first, second)\n sum = Identity(s)\n t = Relu(s)\n same = Dropout(t) }")
    canonical = canonicalize(model, verify=True)
    assert [value.name for value in canonical.graph.inputs] == ["first", "second"]
    assert [value.name for value in canonical.graph.outputs] == ["sum", "same"]
    assert [str(value.shape) for value in canonical.graph.outputs] == ["[n,2]", "[n,2]"]
    assert ops(canonical) == {"Add": 1, "Relu": 1}


def test_every_node_has_a_name_of_its_own() -> None:
    model = parse("g (float[2] x) => (float[2] y) { a = Relu(x)\n b = Neg(a)\n c = Relu(b)\n y = Neg(c) }")
    for node in model.graph:
        node.name = "same" if node.op_type == "Relu" else None
    names = [node.name for node in canonicalize(model, verify=False).graph]
    assert len(set(names)) == 4
    assert all(names)


def test_an_output_that_is_constant_stays_computed() -> None:
    model = parse("g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x)\n z = Add(c, c) }", c=random(2))
    canonical = canonicalize(model, verify=True)
    assert [value.name for value in canonical.graph.outputs] == ["y", "z"]


def test_bodies_keep_what_they_capture() -> None:
    text = """g (bool c, float[1,2,4,4] x) => (float[1,2,4,4] y) {
        h = Conv(x, w)
        i = Identity(h)
        k = Add(one, one)
        y = If(c) <
            then_branch = t () => (float[1,2,4,4] a) { a = Mul(i, k) },
            else_branch = e () => (float[1,2,4,4] b) { b = Add(i, k) }
        >
    }"""
    model = parse(text, w=random(2, 2, 1, 1), one=np.ones(1, np.float32))
    canonical = canonicalize(model, verify=True)
    assert ops(canonical) == {"Conv": 1, "If": 1}
    x = random(1, 2, 4, 4, seed=3)
    for flag in (True, False):
        expected, found = (run(m, c=np.array(flag), x=x)[0] for m in (model, canonical))
        np.testing.assert_array_equal(found, expected)


def test_axes_of_a_mean_that_became_a_pooling_are_no_weight() -> None:
    """With no normalization to fold, nothing but the mean changes."""
    text = """g (float[1,4,6,6] x) => (float[1,3] y) {
        h = Conv(x, w)
        m = ReduceMean<keepdims=0>(h, axes)
        y = Gemm(m, v) }"""
    model = parse(text, opset=18, w=random(5, 4, 1, 1), v=random(5, 3), axes=np.array([2, 3]))
    result = canonicalize(model)
    assert "GlobalAveragePool" in ops(result)
    assert all(value.uses() for value in result.graph.initializers.values())


def test_quantization_stays_visible() -> None:
    text = """g (float[1,2,4,4] x) => (float[1,2,4,4] y) {
        q = QuantizeLinear(x, s, z)
        d = DequantizeLinear(q, s, z)
        w = DequantizeLinear<axis=0>(wq, ws, wz)
        y = Conv(d, w)
    }"""
    model = parse(
        text,
        s=np.float32(0.1),
        z=np.uint8(128),
        wq=np.arange(4, dtype=np.int8).reshape(2, 2, 1, 1),
        ws=np.float32([0.1, 0.2]),
        wz=np.zeros(2, np.int8),
    )
    assert ops(canonicalize(model, verify=True)) == {"QuantizeLinear": 1, "DequantizeLinear": 2, "Conv": 1}


def test_custom_operators_are_untouched() -> None:
    text = "g (float[n,4] x) => (float[n,4] y) { h = Identity(x)\n a = com.acme.Swoosh<k = 3>(h, w)\n y = Relu(a) }"
    model = parse(text, extra=', "com.acme" : 1', w=random(4))
    canonical = canonicalize(model, verify=True)
    assert ops(canonical) == {"Swoosh": 1, "Relu": 1}
    assert next(iter(canonical.graph)).attributes["k"].as_int() == 3


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types(dtype: type[np.floating]) -> None:
    name = {np.float16: "float16", np.float64: "double"}[dtype]
    text = f"g ({name}[1,2,6,6] x) => ({name}[1,3,4,4] y) {{ h = Conv(x, w)\n y = BatchNormalization(h, g, b, m, v) }}"
    ones = np.ones(3, dtype)
    model = parse(text, w=random(3, 2, 3, 3).astype(dtype), g=2 * ones, b=ones, m=ones, v=ones)
    canonical = canonicalize(model, verify=True)
    assert ops(canonical) == {"Conv": 1}
    assert {value.dtype for value in canonical.graph.initializers.values()} == {ir.DataType.from_numpy(np.dtype(dtype))}


def test_bfloat16_weights_are_folded_and_kept() -> None:
    text = "g (bfloat16[2,4] x) => (bfloat16[2,3] y) { t = Transpose(w)\n y = MatMul(x, t) }"
    model = parse(text)
    tensor = ir.Tensor(random(3, 4).astype(ir.DataType.BFLOAT16.numpy()), name="w")
    weight = next(iter(model.graph)).inputs[0]
    assert weight is not None
    weight.const_value, weight.shape, weight.dtype = tensor, ir.Shape([3, 4]), ir.DataType.BFLOAT16
    model.graph.register_initializer(weight)
    canonical = canonicalize(model, verify=False)
    assert ops(canonical) == {"MatMul": 1}
    assert {str(value.shape) for value in canonical.graph.initializers.values()} == {"[4,3]"}
    onnx.checker.check_model(graphs.to_bytes(canonical), full_check=True)


def test_a_wrong_rewrite_is_an_error_not_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = parse("g (float[1,2,4,4] x) => (float[1,2,4,4] y) { h = Conv(x, w)\n y = Relu(h) }", w=random(2, 2, 1, 1))

    def spoil(broken: ir.Model, blocked: object) -> int:
        value = broken.graph.initializers["w"]
        value.const_value = ir.Tensor(random(2, 2, 1, 1, seed=9), name="w")
        return 1

    monkeypatch.setattr(module, "fold_batchnorm", spoil)
    with pytest.raises(ModelError, match="differs from the original"):
        canonicalize(model)


def test_canonical_form_is_stable() -> None:
    text = """g (float[batch,6,8] x) => (float[a,b,c,d] y) {
        h = MatMul(x, w)
        r = Reshape(h, s)
        y = Transpose<perm=[0, 2, 1, 3]>(r)
    }"""
    model = parse(text, w=random(8, 12), s=np.array([0, 6, 3, 4]))
    once = canonicalize(model, verify=True)
    twice = canonicalize(once, verify=True)
    assert [(n.name, n.op_type) for n in once.graph] == [(n.name, n.op_type) for n in twice.graph]
    assert list(once.graph.initializers) == list(twice.graph.initializers)


def test_weights_in_external_data_stay_mapped(tmp_path: Path) -> None:
    text = "g (float[2,64] x) => (float[2,64] y) { h = MatMul(x, w)\n y = Relu(h) }"
    graphs.save(parse(text, w=random(64, 64)), tmp_path / "m.onnx", external_data=True)
    canonical = canonicalize(graphs.load(tmp_path / "m.onnx"), verify=True)
    assert isinstance(canonical.graph.initializers["w"].const_value, ir.ExternalTensor)
