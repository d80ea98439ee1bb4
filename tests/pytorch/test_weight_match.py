"""The tensor behind an initializer is found by value, by name where values do not say, or not at all."""

from __future__ import annotations

import numpy as np

from edgeprune.pytorch.weight_form import Layer, Match
from edgeprune.pytorch.weight_match import Matcher

RANDOM = np.random.default_rng(0)


def draw(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def test_a_part_of_a_fused_projection_is_found_transposed():
    state = {"qkv.weight": draw(12, 8), "qkv.bias": draw(12)}
    matcher = Matcher(state)
    key = state["qkv.weight"][4:8].T
    assert matcher.layer(Layer("n", "k", "kb", 1), np.ascontiguousarray(key), state["qkv.bias"][4:8]) is None
    found = matcher.matches["k"]
    assert isinstance(found, Match)
    assert (found.key, found.axes, found.bias) == ("qkv.weight", (1, 0), "qkv.bias")
    np.testing.assert_array_equal(found.rows, [4, 5, 6, 7])
    np.testing.assert_array_equal(found.value(state, found.rows), key)


def test_equal_values_are_told_apart_by_name_and_said_otherwise():
    state = {"a.weight": np.ones((4, 4), np.float32), "b.weight": np.ones((4, 4), np.float32)}
    weight = draw(4, 3)
    state |= {"c.weight": weight, "d.weight": weight}
    matcher = Matcher(state)
    assert matcher.layer(Layer("/d/Gemm", "onnx::1", None, 0, hint="d."), weight, None) is None
    named = matcher.matches["onnx::1"]
    assert isinstance(named, Match)
    assert named.key == "d.weight"
    assert matcher.notes == []
    matcher.layer(Layer("n", "onnx::2", None, 0), weight, None)
    assert "has the values of 2 tensors" in matcher.notes[0]


def test_what_comes_from_nothing_is_said():
    found = Matcher({"a.weight": draw(4, 4)}).layer(Layer("n", "a.weights", None, 0), draw(4, 4), None)
    assert found is not None
    assert "the weight 'a.weights' of node 'n', shape (4, 4), comes from no tensor" in found
    assert "the nearest name is 'a.weight'" in found
