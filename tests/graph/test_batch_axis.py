"""The axis of the samples of every input, without a run."""

from __future__ import annotations

import pytest

from edgeprune.graph import batch_axes, size_candidates
from edgeprune.testing import parse


@pytest.mark.parametrize(
    ("inputs", "axes"),
    [
        ("float[n,3,h,w] x", {"x": 0}),
        ("float[?,?] x, float[2,?,128] state, int64 rate", {"x": 0, "state": 1}),
        ("float[batch,t] x, float[2,batch,128] state", {"x": 0, "state": 1}),
        ("float[t,batch,4] x", {"x": 1}),
        ("float[t,c] x", {"x": 0}),
        ("float[3,n] x", {"x": 0}),
        ("float[2,words,64] x", {"x": 0}),
        ("float[words,n,4] x", {"x": 0}),
        ("float[1,t,4] x", {"x": 0}),
    ],
)
def test_names_and_leading_layers_tell_the_batch(inputs: str, axes: dict[str, int]) -> None:
    model = parse(f"g ({inputs}) => (float[] y) {{ y = Identity(x) }}")
    assert batch_axes(model) == axes


def test_a_recurrent_operator_tells_the_batch_of_its_sequence() -> None:
    text = "g (float[s,r,4] x) => (float[a,b,c,d] y) { y = GRU<hidden_size=2>(x, w, u) }"
    model = parse(text, w=[1, 6, 4], u=[1, 6, 2])
    assert batch_axes(model) == {"x": 1}
    shapes = next(size_candidates(model))
    assert shapes["x"][1] == 1
    assert shapes["x"][0] > 1
