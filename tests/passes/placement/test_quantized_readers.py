from __future__ import annotations

from edgeprune.passes.placement import operands, quantized_readers, weight_axis
from tests.passes.graphs import RESIDUAL, build


def test_readers_are_the_int8_nodes_and_the_addition_of_a_residual() -> None:
    model = build(RESIDUAL)
    found = {str(v.name): [n.name for n in nodes] for v, nodes in quantized_readers(model, ["c1", "c2", "y"]).items()}
    assert found == {"x": ["c1", "sum"], "r1": ["c2"], "cat": ["y"]}


def test_operands_tell_activations_from_weights() -> None:
    node = build(RESIDUAL).graph.node("c1")
    found = operands(node)
    assert [v.name for v in found.activations] == ["x"]
    assert [(v.name, axis) for v, axis in found.weights] == [("w1", 0)]
    assert weight_axis(node) == 0
