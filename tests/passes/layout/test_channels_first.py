from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune import graph as graphs
from edgeprune.dependency import analyse
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.passes.layout import channels_first
from edgeprune.testing.oracle import feeds_for, run
from tests.passes.layout.keras_like import TO_FIRST, TO_LAST, Keras, decoder, excitation, residual


def transposes(model: ir.Model) -> int:
    return sum(node.op_type == "Transpose" for node in model.graph)


@pytest.mark.parametrize(
    ("network", "left"),
    [
        (residual, 1),  # the input of the network
        (lambda: residual(batch="n", size="s"), 1),
        (excitation, 1),
        (decoder, 2),  # and an output that is an image
    ],
)
def test_transposes_round_the_convolutions_go(network: Callable[[], ir.Model], left: int) -> None:
    model = network()
    assert transposes(model) > 7
    canonical = canonicalize(model)  # compares both in onnxruntime
    assert transposes(canonical) == left
    assert [value.name for value in canonical.graph.outputs] == [value.name for value in model.graph.outputs]


def test_a_residual_stream_of_a_keras_export_is_cut() -> None:
    groups = analyse(canonicalize(residual())).groups
    assert sorted(group.size for group in groups) == [4, 8, 24, 24, 32]


def block(*, normalized: bool) -> ir.Model:
    """Two layers of the channels of an image between two convolutions."""
    k = Keras(1, 4, 4, 6)
    x = k.op("Transpose", "x", perm=TO_FIRST)
    weight = k.weight(6, 6, 1, 1)
    x = k.op("Transpose", k.op("Conv", x, weight), perm=TO_LAST)
    if normalized:
        x = k.op("LayerNormalization", x, k.constant(np.ones(6, np.float32)))
    x = k.op("Relu", k.dense(x, 6, 12))
    x = k.op("Add", k.op("Transpose", k.dense(x, 12, 6), perm=TO_FIRST), k.weight(6, 1, 1))
    return graphs.infer_shapes(k.model(k.op("Conv", x, weight), ranks=(4,)))


def test_a_transformer_keeps_its_transposes() -> None:
    assert channels_first(block(normalized=True)) == 0


def test_layers_of_the_channels_of_an_image_become_convolutions() -> None:
    canonical = canonicalize(block(normalized=False))
    assert transposes(canonical) == 1  # the input of the network
    assert sum(node.op_type == "Conv" for node in canonical.graph) == 4
    assert [group.size for group in analyse(canonical).groups] == [12]  # the others are one weight, of the output too


def test_parts_of_a_split_do_not_get_a_transpose_each() -> None:
    """Attention: the keys are turned back, queries and values stay; two Transposes would become three."""
    k = Keras(4, 2, 9, 25)
    q, key, v = k.op("Split", k.op("Transpose", "x", perm=TO_LAST), axis=2, outputs=3).split()
    scores = k.op("MatMul", k.op("Transpose", key, perm=(0, 1, 3, 2)), q)
    turned = k.op("Transpose", k.op("Relu", key), perm=TO_FIRST)
    model = graphs.infer_shapes(k.model(scores, turned, k.op("Neg", v), ranks=(4, 4, 4)))
    before = transposes(model)
    channels_first(model)
    graphs.remove_dead(model.graph)
    assert transposes(model) <= before


@pytest.mark.parametrize("opset", [9, 12])
def test_an_old_model_with_a_body_is_turned_too(opset: int) -> None:
    """The body keeps it from being converted to a newer opset."""
    proto = ir.to_proto(excitation())
    proto.opset_import[0].version = opset
    text = """<ir_version: 8, opset_import: ["" : 12]>
    g (float[1,5] z) => (float[1,5] y) {
      y = Loop(times, , z) <body = b (int64 i, bool go, float[1,5] p) => (bool again, float[1,5] q) {
        again = Identity(go)
        q = Neg(p)
      }>
    }"""
    loop = onnx.parser.parse_model(text).graph.node[0]
    output = proto.graph.output[0].name
    proto.graph.node[-1].output[0] = "z"
    loop.input[2], loop.output[0] = "z", output
    proto.graph.node.append(loop)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(3), "times"))
    canonical = canonicalize(graphs.infer_shapes(ir.from_proto(proto)))
    assert canonical.opset_imports[""] == opset
    assert transposes(canonical) == 1  # the input of the network


def test_two_outputs_of_one_value_stay_two() -> None:
    k = Keras(1, 3, 4, 4)
    x = k.op("Relu", k.op("Transpose", "x", perm=TO_LAST))
    firsts = [k.op("Transpose", x, perm=TO_FIRST) for _ in range(2)]
    model = graphs.infer_shapes(k.model(*firsts, x, ranks=(4, 4, 4)))
    feeds = feeds_for(model, 0)
    before = run(model, feeds)
    canonical = canonicalize(model)
    assert [value.name for value in canonical.graph.outputs] == [*firsts, x]
    for expected, found in zip(before, run(canonical, feeds), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_shared_constant_stays_shared() -> None:
    k = Keras(1, 3, 4, 4)
    scale = k.constant(np.float32([1, 2, 3]))
    x = k.op("Mul", k.op("Relu", k.op("Mul", k.op("Transpose", "x", perm=TO_LAST), scale)), scale)
    model = graphs.infer_shapes(k.model(k.op("Transpose", x, perm=TO_FIRST), ranks=(4,)))
    assert channels_first(model) == 3
    scales = {node.inputs[1] for node in model.graph if node.op_type == "Mul"}
    assert len(scales) == 1
