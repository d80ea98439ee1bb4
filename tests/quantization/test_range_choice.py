"""Ranges are chosen by the error at the outputs of the layers that read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.calibration.calibration import open_calibration
from edgeprune.passes.x86.quantize_x86 import quantize_x86
from edgeprune.quantization.range_choice import PER_TENSOR, best_ranges, least_noise, quantized
from edgeprune.quantization.ranges import CALIBRATORS, Range, histograms, propose
from edgeprune.recovery.output_error import Probe
from tests.passes.models import parse, random
from tests.quantization.test_ranges import least_error

TEXT = "net (float[n,16] x) => (float[n,4] y) { y = MatMul(x, w) }"


def chosen(weight_of_outliers: float, folder: Path) -> tuple[Range, Range]:
    """The range by the error at its readers' outputs, and by its own error: the last feature has rare, huge values."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4096, 16)).astype(np.float32)
    x[:3, -1] = 60.0
    np.savez(folder / "x.npz", x=x)
    weight = random(16, 4, seed=1)
    weight[-1] = weight_of_outliers
    model: ir.Model = parse(TEXT, w=weight)
    data = open_calibration(str(folder / "x.npz"), model)
    counted = histograms(model, ["x"], data)
    proposals = {"x": propose(counted["x"])}
    return least_noise(model, counted, proposals, data)["x"], least_error(counted["x"])


def test_outliers_that_no_weight_reads_are_clipped(tmp_path: Path) -> None:
    found, alone = chosen(0.0, tmp_path)
    assert found.high < 20
    assert alone.high > 55


def test_outliers_that_weights_read_are_kept(tmp_path: Path) -> None:
    found, _ = chosen(3.0, tmp_path)
    assert found.high > 55
    assert found.calibrator in CALIBRATORS


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (0.0, 3.0), (-2.0, 0.0)])
def test_rounding_keeps_zero_and_stays_within_half_a_step(low: float, high: float) -> None:
    x = np.linspace(low, high, 501, dtype=np.float32)
    found = quantized(x, low, high)
    step = (high - low) / 255
    assert quantized(np.zeros(3, np.float32), low, high).tolist() == [0, 0, 0]
    assert np.abs(found - x).max() <= 0.51 * step + 0.5 * step  # the zero point is rounded, too
    assert len(np.unique(found)) <= 256


def test_the_calibrator_that_serves_the_output_best_is_taken(tmp_path: Path) -> None:
    """A network whose outliers matter is quantized between the extremes, even if single tensors prefer less."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((512, 16)).astype(np.float32)
    x[::128] *= 40
    np.savez(tmp_path / "x.npz", x=x)
    model = parse(TEXT, w=random(16, 4, seed=1))
    data = open_calibration(str(tmp_path / "x.npz"), model)
    counted = histograms(model, ["x"], data)
    node = str(next(iter(model.graph)).name)
    tried: list[float] = []

    def quantize(ranges: Mapping[str, Range]) -> ir.Model:
        tried.append(ranges["x"].high)
        return quantize_x86(model, [node], {"x": (ranges["x"].low, ranges["x"].high)})

    name, found = best_ranges(model, counted, data, quantize)
    probe = Probe(model, data, 32, 1)
    assert len(tried) == len(CALIBRATORS) + 1
    errors = {high: probe.error(quantize({"x": Range(found["x"].low, high, "")})) for high in tried[: len(CALIBRATORS)]}
    assert name in (*CALIBRATORS, PER_TENSOR)
    assert errors[found["x"].high] <= min(errors.values()) * 1.001
