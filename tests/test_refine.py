from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune import graph as graphs
from tests.passes.models import parse


def output_shape(model: ir.Model) -> str:
    return str(next(value for node in model.graph for value in node.outputs if value.name == "y").shape)


@pytest.mark.parametrize(
    ("node", "constants", "shape"),
    [
        ("h = Reshape(x, t)", {"t": np.array([-1, 7, 7, 2], np.int64)}, "[64*batch,7,7,2]"),
        ("h = Reshape(x, t)", {"t": np.array([-1, 8, 8, 7, 7, 2], np.int64)}, "[batch,8,8,7,7,2]"),
        ("h = Reshape(x, t)", {"t": np.array([0, 56, -1], np.int64)}, "[batch,56,112]"),
        ("h = Resize(x, , s)", {"s": np.array([1, 2, 1, 1], np.float32)}, "[batch,112,56,2]"),
        ("h = Flatten<axis=2>(x)", {}, "[56*batch,112]"),
    ],
)
def test_a_symbolic_batch_is_kept(node: str, constants: dict[str, np.ndarray], shape: str) -> None:
    model = parse(f"g (float[batch,56,56,2] x) => (float y) {{ {node}\n y = Relu(h) }}", **constants)
    assert output_shape(model) == shape


@pytest.mark.parametrize(
    "node", ["GroupNormalization<num_groups=2>(x, s, b)", "MeanVarianceNormalization<axes=[0, 2, 3]>(x)"]
)
def test_a_normalization_that_onnx_has_no_inference_for(node: str) -> None:
    scales = {name: np.ones(4, np.float32) for name in "sb"}
    text = f"g (float[batch,4,6,6] x) => (float[k,l,m,n] z) {{ h = {node}\n y = GlobalAveragePool(h)\n z = Relu(y) }}"
    assert output_shape(parse(text, opset=21, **scales)) == "[batch,4,1,1]"


def test_a_round_trip_through_windows_finds_the_batch_again() -> None:
    text = """g (float[batch,56,56,2] x) => (float y) {
        a = Reshape(x, t1)
        b = Transpose<perm=[0, 1, 3, 2, 4, 5]>(a)
        c = Reshape(b, t2)
        d = Relu(c)
        y = Reshape(d, t3)
    }"""
    targets = {"t1": [-1, 8, 7, 8, 7, 2], "t2": [-1, 7, 7, 2], "t3": [-1, 8, 8, 7, 7, 2]}
    model = parse(text, **{name: np.array(value, np.int64) for name, value in targets.items()})
    assert output_shape(model) == "[batch,8,8,7,7,2]"


def test_a_declaration_helps_where_nothing_can_be_derived() -> None:
    text = "g (float[n,4] x) => (float[a,b] z) { h = com.acme.Swoosh(x)\n y = Relu(h)\n z = Relu(y) }"
    model = parse(text, extra=', "com.acme" : 1')
    assert output_shape(model) == "None"
    declared = next(iter(model.graph)).outputs[0]
    declared.type, declared.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["n", 7])
    assert output_shape(graphs.infer_shapes(model)) == "[n,7]"
