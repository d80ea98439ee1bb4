"""Faster forms for x86 compute the same."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.passes.x86.lower_x86 import lower_x86
from tests.passes.models import node, ops, parse, random, run

TEXT = """
net (float[n,4,6,5] x) => (float[n,4,6,5] y, float[n,4,6,5] z) {{
    p = {op}<axis={axis}>(x)
    y = Relu(p)
    z = {op}<axis=2>(p)
}}"""


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [0, 1, -2])
def test_softmax_goes_over_the_last_axis(op: str, axis: int) -> None:
    model = parse(TEXT.format(op=op, axis=axis))
    lowered = lower_x86(model)
    assert ops(lowered)["Transpose"] == 4
    assert all(n.attributes.get_int("axis") == -1 for n in lowered.graph if n.op_type == op)
    assert [v.name for v in lowered.graph.outputs] == ["y", "z"]
    x = random(3, 4, 6, 5)
    for got, want in zip(run(lowered, x=x), run(model, x=x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", ["n,4,6,5", "n,4,1,1"])
def test_the_last_axis_and_single_positions_stay(shape: str) -> None:
    axis = -1 if shape == "n,4,6,5" else 1
    model = parse(f"net (float[{shape}] x) => (float[{shape}] y) {{ y = Softmax<axis={axis}>(x) }}")
    assert lower_x86(model) is model


def test_values_keep_their_names() -> None:
    model = parse(TEXT.format(op="Softmax", axis=1))
    lowered = lower_x86(model)
    relu = node(lowered, "Relu")
    assert relu.inputs[0] is not None
    assert relu.inputs[0].name == "p"
