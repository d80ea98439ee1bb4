from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends import simulation
from edgeprune.engine_check.rounding_noise import (
    EXPLAINED,
    NEGLIGIBLE,
    ROUNDING,
    WITHOUT_NOISE,
    allowed_error,
    error_of,
    with_noise,
)
from edgeprune.passes.tensorrt.lower_tensorrt import lower_tensorrt
from tests.passes.graphs import RESIDUAL, TRANSFORMER, build


@pytest.mark.parametrize("network", [RESIDUAL, TRANSFORMER])
def test_noise_is_about_one_rounding(network: str):
    model = build(network)
    lowered = lower_tensorrt(model, {str(n.name): "fp16" for n in model.graph}, {}, target_versions=["10.3"])
    rng = np.random.default_rng(0)
    feed = {
        str(v.name): rng.standard_normal([int(str(d)) for d in v.shape or ()]).astype(np.float32)
        for v in lowered.graph.inputs
    }
    wanted = simulation.load(lowered).run(feed)
    noisy = simulation.load(with_noise(lowered)).run(feed)
    error = error_of(wanted[:1], noisy[:1])
    assert ROUNDING / 20 < error < 20 * ROUNDING
    assert [v.name for v in with_noise(lowered).graph.outputs] == [v.name for v in lowered.graph.outputs]
    assert all(v.dtype == ir.DataType.FLOAT for v in with_noise(lowered).graph.outputs)


def test_open_sizes_have_noise_too():
    """Without a known width all values get the same factor."""
    text = TRANSFORMER.replace("float[1, 20, 32] x", "float[n, 20, c] x").replace(
        "float[1, 20, 32] y", "float[n, 20, c] y"
    )
    model = build(text)
    noisy = with_noise(model)
    factors = [v.const_value.numpy() for name, v in noisy.graph.initializers.items() if name.endswith("/noise")]
    assert any(factor.shape == () for factor in factors)
    assert all(np.abs(factor - 1).max() <= ROUNDING for factor in factors)


def test_errors():
    one = np.float32([3, 4])
    assert error_of([one], [one]) == 0
    assert error_of([one, one], [one, one * 2]) == pytest.approx(0.5**0.5)
    assert error_of([np.array([1, 2, 3, 4])], [np.array([1, 2, 3, 5])]) == 0.25
    assert error_of([np.float32([np.nan, 1])], [np.float32([7, 1])]) == 0
    assert error_of([one], [np.float32([3, np.nan])]) == np.inf
    assert error_of([one], [one[:1]]) == np.inf
    assert error_of([0 * one], [one]) == np.inf


def test_what_is_explained():
    assert allowed_error(None) == WITHOUT_NOISE
    assert allowed_error(1e-6) == NEGLIGIBLE
    assert allowed_error(0.1) == pytest.approx(0.1 * EXPLAINED)
