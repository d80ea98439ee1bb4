from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeprune.passes.canonicalize.pipeline import canonicalize
from edgeprune.passes.verify.equality import verify_equal
from tests.passes.models import node, ops, parse, random

SCALES = np.array([1, 1, 2, 3], np.float32)


@pytest.mark.parametrize(
    ("opset", "call", "constants"),
    [
        (10, 'Resize<mode="nearest">(x, s)', {"s": SCALES}),
        (10, 'Resize<mode="linear">(x, s)', {"s": SCALES}),
        (10, 'Resize<mode="nearest">(x, s)', {"s": np.array([1, 1, 0.4, 0.7], np.float32)}),
        (9, 'Upsample<mode="linear">(x, s)', {"s": SCALES}),
        (7, 'Upsample<mode="nearest", scales=[1.0, 1.0, 1.5, 2.0]>(x)', {}),
        (11, "Softmax(x)", {}),
        (11, "Softmax<axis=3>(x)", {}),
        (11, "LogSoftmax<axis=2>(x)", {}),
        (7, "Pad<pads=[0,0,1,1,0,0,1,1], value=1.5>(x)", {}),
        (7, "Clip<max=0.5>(x)", {}),
        (7, "Slice<starts=[1], ends=[3], axes=[2]>(x)", {}),
        (7, "Dropout<ratio=0.3>(x)", {}),
        (11, "ReduceSum<axes=[1], keepdims=1>(x)", {}),
        (7, "AveragePool<kernel_shape=[2,2], pads=[1,1,1,1]>(x)", {}),
        (7, "PRelu(x, s)", {"s": random(2, 1, 1)}),
        (7, "BatchNormalization(x, s, s, s, s)", {"s": np.array([0.5, 2], np.float32)}),
    ],
)
def test_operators_of_old_opsets(opset: int, call: str, constants: dict[str, Any]) -> None:
    text = f"g (float[1,2,4,4] x) => (float[a,b,c,d] y) {{ h = {call}\n y = Relu(h) }}"
    model = parse(text, opset=opset, ir_version=4, **constants)
    canonical = canonicalize(model, verify=False)
    assert canonical.opset_imports[""] == 13
    assert verify_equal(model, canonical), "onnxruntime runs both"


def test_a_slope_ran_along_the_channels_before_opset_7() -> None:
    """With as many columns as channels, opset 7 would broadcast it along the columns, and say nothing."""
    slope = np.array([0.1, 0.7], np.float32)
    model = parse("g (float[1,2,3,2] x) => (float[a,b,c,d] y) { y = PRelu(x, s) }", opset=6, ir_version=4, s=slope)
    canonical = canonicalize(model, verify=False)
    value = node(canonical, "PRelu").inputs[1]
    assert value is not None
    assert value.const_value is not None
    assert tuple(value.const_value.shape) == (2, 1, 1)


@pytest.mark.parametrize(
    ("opset", "text", "constants"),
    [
        (11, "g (float[2,3,4] x) => (float[a,b,c] y) { y = Hardmax<axis=1>(x) }", {}),
        (
            10,
            'g (float[1,2,4,4] x) => (float[a,b,c,d] y) { y = Resize<mode="nearest">(x, s) }',
            {"s": np.array([1, 1, 0.5, 2], np.float32)},
        ),
        (
            11,
            """g (bool c, float[2] x) => (float[2] y) {
                y = If(c) <then_branch = t () => (float[2] a) { a = Relu(x) },
                           else_branch = e () => (float[2] b) { b = Neg(x) }>
            }""",
            {},
        ),
    ],
)
def test_what_cannot_be_converted_stays(opset: int, text: str, constants: dict[str, Any]) -> None:
    canonical = canonicalize(parse(text, opset=opset, ir_version=4, **constants), verify=True)
    assert canonical.opset_imports[""] == opset


def test_a_softmax_of_unknown_rank_is_one_node_again() -> None:
    text = """g (float[n,4,c] x, int64[3] s) => (float[a,b,d] y) {
        r = Reshape(x, s)
        h = Softmax<axis=2>(r)
        y = Relu(h) }"""
    model = parse(text, opset=12, ir_version=4)
    assert ops(canonicalize(model, verify=False)) == {"Reshape": 1, "Softmax": 1, "Relu": 1}
