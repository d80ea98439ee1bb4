from dataclasses import replace

import numpy as np
import pytest

from edgeprune.calibration import IntermediateOutputs
from edgeprune.errors import CalibrationError
from edgeprune.quantization.ranges import (
    BINS,
    CALIBRATORS,
    Histogram,
    Range,
    expected_error,
    extremes,
    histograms,
    propose,
)
from edgeprune.testing.oracle import parse
from tests.small_models import calibration


def histogram_of(x: np.ndarray) -> Histogram:
    counts, edges = np.histogram(x, bins=BINS, range=(float(x.min()), float(x.max())))
    return Histogram(float(edges[0]), float(edges[-1]), counts.astype(np.float64))


def least_error(histogram: Histogram) -> Range:
    """The proposed range with the least expected error of the tensor itself."""
    proposals = propose(histogram)
    best = min(CALIBRATORS, key=lambda name: expected_error(histogram, *proposals[name]))
    return Range(*proposals[best], best)


def quantized(x: np.ndarray, low: float, high: float, levels: int = 256) -> np.ndarray:
    step = (high - low) / (levels - 1)
    zero = np.rint(-low / step)
    return (np.clip(np.rint(x / step) + zero, 0, levels - 1) - zero) * step


def test_expected_error_is_what_quantizing_does() -> None:
    x = np.random.default_rng(0).standard_normal(200_000)
    for low, high in ((-4.0, 4.0), (-2.5, 2.5), (-1.5, 3.0)):
        real = float(((x - quantized(x, low, high)) ** 2).mean())
        # The histogram knows values to a bin's width only, and rounding is counted as uniform.
        assert expected_error(histogram_of(x), low, high) == pytest.approx(real, rel=0.03)


def test_zeros_of_a_relu_carry_no_error() -> None:
    x = np.maximum(np.random.default_rng(0).standard_normal(100_000), 0)
    real = float(((x - quantized(x, 0.0, 4.0)) ** 2).mean())
    assert expected_error(histogram_of(x), 0.0, 4.0) == pytest.approx(real, rel=0.05)


def test_the_expected_error_clips_rare_outliers_and_keeps_flat_values() -> None:
    rng = np.random.default_rng(1)
    outliers = np.concatenate([rng.standard_normal(1_000_000), [60.0]])
    flat = rng.uniform(0, 1, 100_000)
    assert set(propose(histogram_of(flat))) == set(CALIBRATORS)
    # One value in a million at 60: covering it costs every other value more than clipping it does.
    assert least_error(histogram_of(outliers)).high < 40
    assert least_error(histogram_of(flat)).high == pytest.approx(1.0, rel=0.01)


def test_zero_is_inside_and_symmetric_means_symmetric() -> None:
    h = histogram_of(np.random.default_rng(2).uniform(3, 5, 10_000))
    for low, high in propose(h).values():
        assert low <= 0 <= high
    for low, high in propose(h, symmetric=True).values():
        assert low == -high


def test_a_constant_tensor_has_a_range() -> None:
    h = Histogram(0.0, 0.0, np.eye(1, BINS)[0] * 7)
    chosen = least_error(h)
    assert (chosen.low, chosen.high) == (0.0, 0.0)


@pytest.mark.parametrize("shift", [0.0, -3.0])
def test_histograms_stream_over_batches_whose_values_grow(shift: float) -> None:
    """The bins are widened again and again, and the counts are those of one pass with the extremes known."""
    model = parse("g (float[n, 4096] x) => (float[n, 4096] y) { h = Neg(x) y = Neg(h) }")
    rng = np.random.default_rng(3)
    samples = np.stack([k * (rng.standard_normal(4096) + shift) for k in range(1, 13)]).astype(np.float32)
    data = replace(calibration(x=samples), batch_size=1)
    found, wanted = histograms(model, ["h"], data)["h"], histogram_of(-samples)
    assert (found.low, found.high) == (wanted.low, wanted.high)
    assert found.counts.sum() == samples.size
    gap = np.abs(np.cumsum(found.counts) - np.cumsum(wanted.counts))
    assert gap.max() <= wanted.counts.max()  # no value is further off than the next bin


def test_a_value_that_is_not_finite_is_named() -> None:
    model = parse("g (float[n, 4] x) => (float[n, 4] y) { h = Log(x) y = Neg(h) }")
    with pytest.raises(CalibrationError, match="'h' is not finite"):
        histograms(model, ["h"], calibration(x=np.zeros((1, 4), np.float32)))


def test_a_value_of_length_zero_has_a_range() -> None:
    """Exporters pad by nothing: a Slice of length 0 is concatenated."""
    text = """
    g (float[n, 4] x, float[n, 0] nothing) => (float[n, 4] y) {
      e = Neg(nothing)
      y = Concat<axis = 1>(x, e)
    }
    """
    data = calibration(x=np.ones((4, 4), np.float32), nothing=np.ones((4, 0), np.float32))
    found = histograms(parse(text), ["e", "y"], data)
    assert (found["e"].low, found["e"].high) == (0, 0)
    assert propose(found["e"])["max"] == (0, 0)
    outputs = IntermediateOutputs(parse(text), ["e", "y"], 1)
    assert extremes(outputs, data.batches()) == {"e": (0, 0), "y": (1, 1)}
