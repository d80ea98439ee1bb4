"""Names of the module in an exported model: by values, and by the layer where values do not decide."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.pytorch.module_names import restore_names
from edgeprune.pytorch.weight_layers import hint_of
from tests.small_models import build, normal


def scoped(model: ir.Model, **scopes: list[str]) -> ir.Model:
    for node in model.graph:
        if node.name in scopes:
            node.metadata_props["pkg.torch.onnx.name_scopes"] = str(["", *scopes[node.name], "operation"])
    return model


def attention(qkv: np.ndarray, proj: np.ndarray, bias: np.ndarray) -> ir.Model:
    """The transposed weights of two Linears, as the dynamo exporter writes them."""
    model = build(
        """g (float[2, 8] x) => (float[2, 8] y) {
            [node_MatMul_19] a = MatMul(x, val_44)
            [node_linear] b = Add(a, val_45)
            [node_MatMul_20] c = MatMul(b, val_46)
            [node_linear_1] y = Add(c, val_47)
        }""",
        val_44=qkv.T,
        val_45=bias,
        val_46=proj.T,
        val_47=np.zeros(8),
    )
    outer = ["blocks", "blocks.0", "blocks.0.attn"]
    inner = {"node_MatMul_19": "qkv", "node_linear": "qkv", "node_MatMul_20": "proj", "node_linear_1": "proj"}
    return scoped(model, **{node: [*outer, f"blocks.0.attn.{name}"] for node, name in inner.items()})


def test_a_transposed_weight_has_its_name_again():
    qkv, proj = normal(24, 8), normal(8, 24)
    state = {
        "blocks.0.attn.qkv.weight": qkv,
        "blocks.0.attn.qkv.bias": np.zeros(24, np.float32),
        "blocks.0.attn.proj.weight": proj,
        "blocks.0.attn.proj.bias": np.zeros(8, np.float32),
        "head.bias": np.zeros(8, np.float32),
    }
    model = attention(qkv, proj, np.zeros(24))
    assert restore_names(model, state) == 4
    assert set(model.graph.initializers) == set(state) - {"head.bias"}
    assert [node.name for node in model.graph] == [
        "/blocks/0/attn/qkv/MatMul",
        "/blocks/0/attn/qkv/Add",
        "/blocks/0/attn/proj/MatMul",
        "/blocks/0/attn/proj/Add",
    ]
    assert [value.name for value in model.graph[0].inputs] == ["x", "blocks.0.attn.qkv.weight"]


def test_equal_tensors_without_a_layer_keep_their_names():
    model = build("g (float[2, 8] x) => (float[2, 8] y) { y = Add(x, val_1) }", val_1=np.ones(8))
    state = {"a.bias": np.ones(8, np.float32), "b.bias": np.ones(8, np.float32)}
    assert restore_names(model, state) == 0
    tied = np.ones(8, np.float32)
    assert restore_names(model, {"a.bias": tied, "b.bias": tied}) == 1
    assert list(model.graph.initializers) == ["a.bias"]


def test_a_folded_weight_is_named_by_its_layer():
    model = build(
        "g (float[1,3,8,8] x) => (float[1,4,8,8] y) { [n] y = Conv<pads=[1,1,1,1]>(x, w, b) }",
        w=normal(4, 3, 3, 3) * 2,
        b=normal(4),
    )
    model.graph[0].name = "/layers/layers.0/conv/Conv"
    state = {"layers.0.conv.weight": normal(4, 3, 3, 3), "layers.0.conv.bias": np.zeros(4, np.float32)}
    assert restore_names(model, state) == 2
    assert set(model.graph.initializers) == set(state)


def test_a_name_that_another_value_has_is_not_given_twice():
    model = build("g (float[2, 8] pos) => (float[2, 8] y) { y = Add(pos, val_1) }", val_1=normal(8))
    assert restore_names(model, {"pos": normal(8)}) == 0
    assert list(model.graph.initializers) == ["val_1"]


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("/layer1/conv1/Conv", "layer1.conv1."),
        ("/blocks/blocks.0/attn/qkv/MatMul", "blocks.0.attn.qkv."),
        ("/stages.1/blocks/blocks.10/mlp/fc1/Gemm", "stages.1.blocks.10.mlp.fc1."),
        ("/blocks/0/attn/qkv/MatMul", "blocks.0.attn.qkv."),
        ("/Conv", ""),
        ("node_MatMul_19", ""),
    ],
)
def test_the_module_of_a_node(name: str, module: str):
    assert hint_of(ir.Node("", "Conv", [], name=name)) == module
