"""Weights set in place, and carried from a part of a model to the whole."""

import numpy as np

from edgeprune import graph
from tests.small_models import build, normal


def test_weights_of_a_part_go_to_the_whole_with_a_bias_that_is_new() -> None:
    text = "g (float[n,2,4,4] x) => (float[n,3,4,4] y) { h = Conv(x, w) y = Relu(h) }"
    whole = build(text, w=normal(3, 2, 1, 1))
    part = graph.with_outputs(whole, ["h"])
    (layer,) = graph.find_linears(part).values()
    graph.set_weights(part, layer, np.full((1, 3, 2), 2.0), np.array([[1.0, 2.0, 3.0]]))
    found = graph.with_weights_of(whole, part)
    assert [n.op_type for n in found.graph] == ["Conv", "Relu"]
    assert [tuple(v.const_value.numpy().shape) for v in found.graph.node(0).inputs[1:]] == [(3, 2, 1, 1), (3,)]
    assert (found.graph.node(0).inputs[1].const_value.numpy() == 2.0).all()
    assert not (whole.graph.node(0).inputs[1].const_value.numpy() == 2.0).any()
