import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.passes.canonicalize.pipeline import canonicalize, name_everything
from edgeprune.passes.canonicalize.pool_means import pool_means
from edgeprune.passes.x86.int8_nodes import int8_eligible
from edgeprune.testing.oracle import feeds_for, parse


def raw(text: str) -> ir.Model:
    """Before canonicalization."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}')
    model: ir.Model = ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto))
    name_everything(model)
    return model


def difference(model: ir.Model, changed: ir.Model) -> float:
    feeds, runtime = feeds_for(model, 0), OnnxRuntime()
    (want,), (got,) = (runtime.load(m).run(feeds) for m in (model, changed))
    assert want.shape == got.shape
    return float(np.abs(want - got).max())


@pytest.mark.parametrize(
    ("mean", "shape", "ops"),
    [
        ("ReduceMean<axes=[2, 3]>(x)", "2, 4, 1, 1", ["GlobalAveragePool"]),
        ("ReduceMean<axes=[-1, -2], keepdims=0>(x)", "2, 4", ["GlobalAveragePool", "Flatten"]),
    ],
)
def test_a_spatial_mean_is_a_pooling_of_its_name(mean: str, shape: str, ops: list[str]) -> None:
    text = f"g (float[2, 4, 5, 7] x) => (float[{shape}] y) {{ y = {mean} }}"
    model, changed = raw(text), raw(text)
    name = str(next(iter(changed.graph)).name)
    assert pool_means(changed) == 1
    assert [n.op_type for n in changed.graph] == ops
    assert next(iter(changed.graph)).name == name
    assert [v.name for v in changed.graph.outputs] == ["y"]
    assert difference(model, changed) < 1e-6  # sums of 35 numbers near 1 in another order


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2, 4, 5, 7] x) => (float[2, 4, 5, 1] y) { y = ReduceMean<axes=[3]>(x) }",
        "g (float[2, 4, 7] x) => (float[2, 4, 1] y) { y = ReduceMean<axes=[2]>(x) }",
        "g (float[2, 4, 5, 7] x) => (float[1, 1, 1, 1] y) { y = ReduceMean(x) }",
        "g (float[2, 4, 5, 7] x) => (float[2, 4, 5, 7] y) { m = ReduceMean<axes=[2, 3]>(x)\n y = Sub(x, m) }",
        "g (int32[2, 4, 5, 7] x) => (int32[2, 4, 1, 1] y) { y = ReduceMean<axes=[2, 3]>(x) }",
    ],
    ids=["one axis", "rank 3", "all axes", "a normalization", "integers"],
)
def test_other_means_stay(text: str) -> None:
    model = raw(text)
    assert pool_means(model) == 0
    assert any(n.op_type == "ReduceMean" for n in model.graph)


def test_a_squeeze_and_excitation_is_on_integers_throughout() -> None:
    model = canonicalize(
        parse(
            """
            g (float[batch, 8, 6, 6] x) => (float[batch, 8, 6, 6] y) {
              c = Conv(x, w1)
              m = ReduceMean<axes=[2, 3]>(c)
              r = Conv(m, w2)
              a = Relu(r)
              e = Conv(a, w3)
              s = HardSigmoid<alpha=0.16667, beta=0.5>(e)
              g = Mul(c, s)
              y = Conv(g, w4)
            }
            """,
            w1=(8, 8, 1, 1), w2=(4, 8, 1, 1), w3=(8, 4, 1, 1), w4=(8, 8, 1, 1),
        )
    )  # fmt: skip
    assert "GlobalAveragePool" in [n.op_type for n in model.graph]
    assert all(reason is True for reason in int8_eligible(model).values())
