from __future__ import annotations

import pytest

from edgeprune.passes.openvino.int8_nodes import int8_eligible
from tests.passes.graphs import build


def verdict(body: str, values: str = "", inputs: str = "float[1, 4, 8] x", output: str = "float[1, 4, 8] y") -> str:
    text = f'<ir_version: 8, opset_import: ["" : 17]> agraph ({inputs}) => ({output}) <{values}> {{ {body} }}'
    return str(int8_eligible(build(text))["y"])


def test_layers_and_products_of_activations_may_run_in_int8() -> None:
    assert verdict("y = MatMul(x, w)", "float[8, 8] w") == "True"
    assert verdict("t = Transpose<perm = [0, 2, 1]>(x) y = MatMul(x, t)", output="float[1, 4, 4] y") == "True"
    images = "float[1, 3, 8, 8] x", "float[1, 3, 8, 8] y"
    assert verdict("y = Conv<group = 3>(x, w)", "float[3, 1, 1, 1] w", *images) == "True"


@pytest.mark.parametrize(
    ("body", "values", "message"),
    [
        ("y = Relu(x)", "", "Relu has no INT8 form of its own in OpenVINO"),
        ("y = MatMul(w, x)", "float[4, 4] w", "its left operand is constant"),
        ("y = MatMul(x, w)", "float[2, 8, 8] w", "its weight has a batch axis"),
    ],
)
def test_others_are_refused_with_a_reason(body: str, values: str, message: str) -> None:
    assert message in verdict(body, values, output="float[a, 4, 8] y")


def test_a_convolution_with_a_computed_weight_is_refused() -> None:
    inputs = "float[1, 3, 8, 8] x, float[3, 3, 1, 1] v"
    assert verdict("w = Relu(v) y = Conv(x, w)", "", inputs, "float[1, 3, 8, 8] y") == "its weight is computed"


def test_an_old_opset_allows_no_int8() -> None:
    text = '<ir_version: 8, opset_import: ["" : 12]> agraph (float[1, 4] x) => (float[1, 4] y) { y = MatMul(x, w) }'
    model = build(text.replace("=> (float[1, 4] y)", "=> (float[1, 4] y) <float[4, 4] w>"))
    assert "opset 13" in str(int8_eligible(model)["y"])
