from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeprune.graph import model_io as graphs
from edgeprune.graph import remove_dead
from edgeprune.passes.layout import channels_first
from edgeprune.testing.oracle import feeds_for, run
from tests.passes.layout.keras_like import Keras

Build = Callable[[Keras, str], str]
RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


SAME: dict[str, Build] = {
    "unary": lambda k, x: k.op("Sigmoid", x),
    "channel": lambda k, x: k.op("Add", x, k.constant(normal(6))),
    "row and channel": lambda k, x: k.op("Mul", k.constant(normal(3, 6)), x),
    "whole": lambda k, x: k.op("Sub", x, k.constant(normal(1, 2, 3, 6))),
    "scalar": lambda k, x: k.op("Max", x, k.constant(np.float32(0.1))),
    "slope": lambda k, x: k.op("PRelu", x, k.constant(normal(1, 1, 6))),
    "where": lambda k, x: k.op("Where", k.op("Greater", x, k.constant(normal(6))), x, k.op("Neg", x)),
    "softmax": lambda k, x: k.op("Softmax", x, axis=-1),
    "softmax of rows": lambda k, x: k.op("Softmax", x, axis=1),
    "concat": lambda k, x: k.op("Concat", x, k.constant(normal(1, 2, 3, 2)), k.op("Exp", x), axis=-1),
    "split": lambda k, x: k.op("Mul", *k.op("Split", x, k.constant([3, 3]), outputs=2, axis=3).split()),
    "slice": lambda k, x: k.op("Slice", x, k.constant([1, 1]), k.constant([3, 6]), k.constant([2, -1])),
    "slice from the first axes": lambda k, x: k.op("Slice", x, k.constant([0, 1]), k.constant([1, 2])),
    "slice by steps": lambda k, x: k.op("Slice", x, *(k.constant([v]) for v in (5, 0, 3, -2))),
    "pad": lambda k, x: k.op("Pad", x, k.constant([0, 1, 2, 0, 0, 0, 1, 3])),
    "reflected": lambda k, x: k.op("Pad", x, k.constant([0, 1, 2, 0, 0, 0, 1, 0]), mode="reflect"),
    "mean": lambda k, x: k.op("Mul", x, k.op("ReduceMean", x, axes=[1, 2], keepdims=1)),
    "mean of channels": lambda k, x: k.op("Mul", x, k.op("ReduceMean", x, axes=[-1], keepdims=1)),
    "sum": lambda k, x: k.op("Mul", x, k.op("ReduceSum", x, k.constant([2]), keepdims=1)),
    "sum of all": lambda k, x: k.op("Mul", x, k.op("ReduceSum", x, keepdims=1)),
    "chosen": lambda k, x: k.op("Gather", x, k.constant([5, 0, 3]), axis=3),
    "tile": lambda k, x: k.op("Tile", x, k.constant([1, 2, 1, 3])),
    "expand": lambda k, x: k.op("Expand", k.op("ReduceMax", x, axes=[3], keepdims=1), k.constant([1, 2, 3, 4])),
    "resize": lambda k, x: k.op("Resize", x, "", k.constant(np.float32([1, 2, 3, 1])), mode="nearest"),
    "resize to sizes": lambda k, x: k.op("Resize", x, "", "", k.constant([1, 4, 4, 6]), mode="nearest"),
    "sums so far": lambda k, x: k.op("CumSum", x, k.constant(3)),
    "largest": lambda k, x: k.op("TopK", x, k.constant([2]), outputs=2, axis=-1).split()[0],
    "row": lambda k, x: k.op(
        "Mul",
        x,
        k.op("Reshape", k.op("Tanh", k.op("ReduceMean", x, axes=[1, 2], keepdims=0)), k.constant([-1, 1, 1, 6])),
    ),
    "unsqueezed row": lambda k, x: k.op(
        "Mul", x, k.op("Unsqueeze", k.op("ReduceMean", x, axes=[1, 2], keepdims=0), k.constant([1, 2]))
    ),
    "size": lambda k, x: k.op("Div", x, k.op("Cast", k.op("Gather", k.op("Shape", x), k.constant(3), axis=0), to=1)),
    "resize to its own size": lambda k, x: k.op("Resize", x, "", "", k.op("Shape", x), mode="nearest"),
    "quantized": lambda k, x: k.op(
        "DequantizeLinear",
        k.op(
            "QuantizeLinear", x, k.constant(np.float32(0.1) + abs(normal(6))), k.constant(np.zeros(6, np.int8)), axis=3
        ),
        k.constant(np.ones(6, np.float32)),
        k.constant(np.zeros(6, np.int8)),
        axis=3,
    ),
}
"""Operators with a channels-last result."""

LEAVES: dict[str, tuple[Build, int]] = {
    "mean": (lambda k, x: k.op("ReduceMean", x, axes=[1, 2], keepdims=0), 2),
    "sum of channels": (lambda k, x: k.op("ReduceSum", x, k.constant([3]), keepdims=0), 3),
    "total": (lambda k, x: k.op("ReduceSum", x, keepdims=0), 0),
    "one channel": (lambda k, x: k.op("Gather", x, k.constant(2), axis=3), 3),
    "squeezed": (lambda k, x: k.op("Squeeze", k.op("ReduceMean", x, axes=[1, 2], keepdims=1), k.constant([1, 2])), 2),
    "flattened": (lambda k, x: k.op("Flatten", k.op("ReduceMean", x, axes=[1, 2], keepdims=1)), 2),
    "reshaped": (
        lambda k, x: k.op("Reshape", k.op("ReduceMean", x, axes=[1, 2], keepdims=1), k.constant([0, -1])),
        2,
    ),
    "map": (lambda k, x: k.op("Reshape", k.op("ReduceMean", x, axes=[3], keepdims=1), k.constant([1, 6])), 2),
    "class": (lambda k, x: k.op("Cast", k.op("ArgMax", x, axis=3, keepdims=0), to=1), 3),
}
"""Operators whose result is the same for both orders."""


def check(k: Keras, output: str, rank: int, left: int) -> None:
    model = graphs.infer_shapes(k.model(output, ranks=(rank,)))
    feeds = feeds_for(model, 0)
    before = run(model, feeds)
    assert channels_first(model)
    remove_dead(model.graph)
    graphs.check(model, "the turned model")
    for expected, found in zip(before, run(model, feeds), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert sum(node.op_type == "Transpose" for node in model.graph) == left
    shapes = {value.name: value.shape for node in model.graph for value in node.outputs}
    for node in graphs.infer_shapes(model).graph:
        for value in node.outputs:
            known = shapes[value.name]
            assert known is None or value.shape is None or list(known) == list(value.shape), node.op_type


@pytest.mark.parametrize("name", SAME)
def test_operators_between_transposes_turn(name: str) -> None:
    k = Keras(1, 6, 2, 3)
    last = SAME[name](k, k.op("Transpose", "x", perm=(0, 2, 3, 1)))
    check(k, k.op("Transpose", last, perm=(0, 3, 1, 2)), 4, 0)


@pytest.mark.parametrize("name", LEAVES)
def test_operators_that_need_no_transpose_after_them(name: str) -> None:
    k = Keras(1, 6, 2, 3)
    build, rank = LEAVES[name]
    check(k, build(k, k.op("Transpose", "x", perm=(0, 2, 3, 1))), rank, 0)


@pytest.mark.parametrize(("shape", "last"), [((2, 6, 5), (0, 2, 1)), ((2, 6, 2, 3, 4), (0, 2, 3, 4, 1))])
def test_signals_and_volumes(shape: tuple[int, ...], last: tuple[int, ...]) -> None:
    k = Keras(*shape)
    x = k.op("Relu", k.op("Add", k.op("Transpose", "x", perm=last), k.constant(normal(6))))
    first = tuple(int(axis) for axis in np.argsort(last))
    check(k, k.op("Transpose", k.op("Concat", x, k.op("Neg", x), axis=-1), perm=first), len(shape), 0)
