import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.costmodel.blocks import partition
from edgeprune.dependency.solve import analyse
from edgeprune.dependency.widths import axis_lengths
from edgeprune.latency.block_latency import fit_theta, switches
from edgeprune.latency.features import FEATURES, geometries
from edgeprune.testing.oracle import parse

TWO = """
g (float[1, 8, 10, 10] x) => (float[1, 12, 8, 8] y) {
  h = Conv<pads=[1, 1, 1, 1]>(x, w1, b1)
  r = Relu(h)
  y = Conv(r, w2, b2)
}
"""
WEIGHTS = {"w1": (32, 8, 3, 3), "b1": (32,), "w2": (12, 32, 3, 3), "b2": (12,)}


def two_blocks():
    model = parse(TWO, **WEIGHTS)
    lengths = axis_lengths(analyse(model).groups)
    return geometries(model, partition(model), lengths), lengths.sizes


def test_features_count_what_a_convolution_does() -> None:
    (first, second), sizes = two_blocks()
    dense = dict(zip(FEATURES, first.features(sizes, sizes, 16), strict=True))
    assert dense["macs"] == 100 * 32 * 8 * 9
    assert dense["aligned_macs"] == 100 * 32 * 16 * 9
    assert dense["elements_in"] == 8 * 100
    assert dense["elements_out"] == 32 * 100
    assert dense["weight_elements"] == 32 * 8 * 9 + 32
    halved = dict(zip(FEATURES, second.features(sizes // 2, sizes, 16), strict=True))
    assert halved["macs"] == 64 * 16 * 16 * 9  # 12 output channels fill one register of 16
    assert halved["elements_in"] == 16 * 100


def test_a_width_between_two_steps_costs_the_upper_one() -> None:
    (first, _), sizes = two_blocks()
    aligned = [first.features(np.array([w]), sizes, 16)[1] for w in (17, 24, 32)]
    assert len(set(aligned)) == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_the_fit_recovers_a_staircase_and_is_not_negative(seed: int) -> None:
    (first, _), sizes = two_blocks()
    rng = np.random.default_rng(seed)
    theta = rng.uniform(0.5, 1.5, len(FEATURES)) * [3.0, 1e-4, 1e-4, 1e-3, 1e-3, 1e-3]
    x = np.stack([first.features(np.array([w]), sizes, 16) for w in range(4, 33, 2)])
    fitted = fit_theta(x, x @ theta)
    assert (fitted >= 0).all()
    np.testing.assert_allclose(x @ fitted, x @ theta, rtol=0.02)


def test_noise_does_not_make_the_fit_rise_as_widths_shrink() -> None:
    (first, _), sizes = two_blocks()
    rng = np.random.default_rng(0)
    x = np.stack([first.features(np.array([w]), sizes, 16) for w in range(4, 33, 2)])
    times = (x @ [3.0, 1e-4, 1e-4, 1e-3, 1e-3, 1e-3]) * rng.uniform(0.8, 1.25, len(x))
    predicted = [float(f @ fit_theta(x, times)) for f in x]
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(predicted))


@pytest.mark.parametrize(
    ("writer", "reader", "changes"),
    [
        ("fp32", "fp32", False),
        ("fp32", "int8", True),
        ("fp32", "int8-core", True),
        ("int8", "fp32", True),
        ("int8", "int8-core", False),
        ("int8-core", "fp32", False),
        ("int8-core", "int8", False),
    ],
)
def test_conversions_between_formats(writer: str, reader: str, changes: bool) -> None:
    assert switches(writer, reader) is changes
