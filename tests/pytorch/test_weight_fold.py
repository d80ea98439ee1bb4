"""What was folded into a layer is found in the checkpoint by value."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.pytorch.weight_form import Folded, Layer, Match, Norm, Shift
from edgeprune.pytorch.weight_match import Matcher

RANDOM = np.random.default_rng(0)


def draw(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def norm(prefix: str, channels: int, epsilon: float) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The tensors of a BatchNormalization, its scale and its shift."""
    gamma, beta, mean = RANDOM.uniform(0.5, 1.5, channels), RANDOM.standard_normal(channels), draw(channels)
    variance = RANDOM.uniform(0.5, 2, channels)
    scale = gamma / np.sqrt(variance + epsilon)
    tensors = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance}
    return {f"{prefix}{k}": v.astype(np.float32) for k, v in tensors.items()}, scale, beta - mean * scale


@pytest.mark.parametrize("epsilon", [1e-5, 1e-3])
@pytest.mark.parametrize("own_bias", [False, True])
def test_a_folded_normalization_is_found_by_value(epsilon: float, own_bias: bool):
    first, scale, shift = norm("b.bn.", 6, epsilon)
    other, *_ = norm("a.bn.", 6, epsilon)
    state = {"a.conv.weight": draw(6, 4, 3, 3), **other, "b.conv.weight": draw(6, 4, 3, 3), **first}
    if own_bias:
        state["b.conv.bias"] = draw(6)
    folded = (state["b.conv.weight"] * scale.reshape(-1, 1, 1, 1)).astype(np.float32)
    bias = (shift + scale * state.get("b.conv.bias", 0.0)).astype(np.float32)
    matcher = Matcher(state)
    assert matcher.layer(Layer("n", "onnx::Conv_1", "onnx::Conv_2", 0), folded, bias) is None
    found, moved = matcher.matches["onnx::Conv_1"], matcher.matches["onnx::Conv_2"]
    assert isinstance(found, Match)
    assert isinstance(moved, Shift)
    assert (found.key, found.folded) == ("b.conv.weight", Folded(Norm("b.bn.", epsilon)))
    np.testing.assert_allclose(found.value(state, found.rows), folded, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moved.value(state, moved.rows), bias, rtol=1e-5, atol=1e-5)
    assert matcher.notes == []


@pytest.mark.parametrize("normalized", [False, True])
def test_a_folded_layer_scale_is_found_by_value(normalized: bool):
    first, scale, shift = norm("blocks.1.bn.", 6, 1e-5) if normalized else ({}, np.ones(6), np.zeros(6))
    # A block's own vector comes before its layers; before training, all blocks have the same vector.
    gammas = {f"blocks.{i}.gamma": np.full((6, 1, 1), 1e-2, np.float32) for i in range(3)}
    state = {**gammas, "blocks.1.fc.weight": draw(6, 4), "blocks.1.fc.bias": draw(6), **first}
    weight = (state["blocks.1.fc.weight"].T * scale * 1e-2).astype(np.float32)
    bias = ((state["blocks.1.fc.bias"] * scale + shift) * 1e-2).astype(np.float32)
    matcher = Matcher(state)
    assert matcher.layer(Layer("n", "w", "b", 1), weight, bias) is None
    found, moved = matcher.matches["w"], matcher.matches["b"]
    assert isinstance(found, Match)
    assert isinstance(moved, Shift)
    expected = Norm("blocks.1.bn.", 1e-5) if normalized else None
    assert found.folded == moved.folded == Folded(expected, "blocks.1.gamma")
    np.testing.assert_allclose(found.value(state, found.rows), weight, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(moved.value(state, moved.rows), bias, rtol=1e-5, atol=1e-7)
