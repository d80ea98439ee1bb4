from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeprune.passes.canonicalize.pipeline import canonicalize
from tests.passes.models import ops, parse, random, run


def check(call: str, remaining: dict[str, int], **constants: Any) -> None:
    text = f"g (float[2,3,1] x) => (float[a,b,c] y) {{ h = Relu(x)\n m = {call}\n y = Neg(m) }}"
    model = parse(text, **{name: np.asarray(value) for name, value in constants.items()})
    canonical = canonicalize(model, verify=False)
    assert ops(canonical) == {"Relu": 1, "Neg": 1, **remaining}
    x = random(2, 3, 1)
    np.testing.assert_array_equal(run(canonical, x=x)[0], run(model, x=x)[0])


@pytest.mark.parametrize(
    ("call", "constants"),
    [
        ("Identity(h)", {}),
        ("Dropout(h)", {}),
        ("Cast<to=1>(h)", {}),
        ("Reshape(h, s)", {"s": [0, -1, 1]}),
        ("Expand(h, s)", {"s": [1, 3, 1]}),
        ("Transpose<perm=[0,1,2]>(h)", {}),
        ("Slice(h, s, e)", {"s": [0], "e": [99]}),
        ("Pad(h, p)", {"p": [0] * 6}),
        ("Tile(h, p)", {"p": [1, 1, 1]}),
        ("Concat<axis=1>(h)", {}),
        ("Concat<axis=1>(e, h)", {"e": np.zeros((2, 0, 1), np.float32)}),
        ("Sum(h)", {}),
        ("Add(h, z)", {"z": np.float32(0)}),
        ("Mul(o, h)", {"o": np.ones(1, np.float32)}),
        ("Div(h, o)", {"o": np.ones((1, 1, 1), np.float32)}),
        ("Sub(h, z)", {"z": np.zeros((1, 1), np.float32)}),
    ],
)
def test_gone(call: str, constants: dict[str, Any]) -> None:
    check(call, {}, **constants)


@pytest.mark.parametrize(
    ("call", "op", "constants"),
    [
        ("Cast<to=1>(h)", "", {}),
        ("Expand(h, s)", "Expand", {"s": [2, 3, 4]}),
        ("Transpose<perm=[1,0,2]>(h)", "Transpose", {}),
        ("Slice(h, s, e, a, t)", "Slice", {"s": [-1], "e": [-99], "a": [1], "t": [-1]}),
        ("Pad(h, p)", "Pad", {"p": [0, 0, 0, 0, 1, 0]}),
        ("Tile(h, p)", "Tile", {"p": [1, 1, 2]}),
        ("Add(h, z)", "Add", {"z": np.zeros((1, 1, 2), np.float32)}),
        ("Div(o, h)", "Div", {"o": np.float32(1)}),
        ("Mul(h, o)", "Mul", {"o": np.float32(2)}),
    ],
)
def test_kept(call: str, op: str, constants: dict[str, Any]) -> None:
    check(call, {op: 1} if op else {}, **constants)


def test_an_input_that_is_passed_on_stays_an_output() -> None:
    model = parse("g (float[2] x) => (float[2] y, float[2] z) { y = Identity(x)\n h = Relu(x)\n z = Identity(h) }")
    canonical = canonicalize(model, verify=True)
    assert [value.name for value in canonical.graph.outputs] == ["y", "z"]
    assert ops(canonical) == {"Identity": 1, "Relu": 1}


def test_one_value_behind_two_outputs() -> None:
    model = parse("g (float[2] x) => (float[2] y, float[2] z) { h = Relu(x)\n y = Identity(h)\n z = Identity(h) }")
    canonical = canonicalize(model, verify=True)
    assert [value.name for value in canonical.graph.outputs] == ["y", "z"]
