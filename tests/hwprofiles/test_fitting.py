"""The fit of the cost model, its data, and the errors that the profiles claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from edgeprune.devices.targets import load_profile, target_names
from edgeprune.errors import UsageError
from edgeprune.hwprofiles.fitting import PARAMETERS, Problem, families, fit, leave_out, prior, quality
from edgeprune.hwprofiles.published import Counted, Row, read_kernels, read_rows, write_kernels

DATA = Path(__file__).resolve().parents[2] / "hwprofiles" / "data"


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return read_rows(DATA / "published.csv")


@pytest.fixture(scope="module")
def kernels() -> dict[str, Counted]:
    return read_kernels(DATA / "kernels.json.gz")


def stored(target: str) -> np.ndarray:
    """Logarithms of the parameters in a profile, in the fit's order."""
    model = load_profile(target).document["cost_model"]
    values = {
        **model,
        "efficiency": model["efficiency"]["fp16"],
        "int8_efficiency": model["efficiency"].get("int8", 1) / model["efficiency"]["fp16"],
        "fp32_efficiency": model["efficiency"]["fp32"] / model["efficiency"]["fp16"],
        "fused_fp16": model["fused_tails"]["fp16"],
        "fused_int8": model["fused_tails"].get("int8", 1),
    }
    return np.log([values[p.name] for p in PARAMETERS])


def test_every_row_is_complete(rows: list[Row], kernels: Mapping[str, Counted]) -> None:
    for row in rows:
        assert row.source
        assert row.tier in ("A", "B", "C")
        assert row.kernels in kernels
        assert row.latency_ms > 0
        assert row.batch >= 1
        assert row.device().name in target_names()
        assert row.tier != "C" or row.unused


def test_macs_of_known_models(kernels: Mapping[str, Counted]) -> None:
    """Billions of multiply-adds as published for them."""
    published = {"tv_resnet50_224": 4.09, "tv_vgg16_224": 15.47, "tv_mobilenet_v2_224": 0.30, "ul_yolov8x_640": 128.9}
    for model, gmacs in published.items():
        assert sum(k.macs * n for k, n in kernels[model]) / 1e9 == pytest.approx(gmacs, rel=0.01)


@pytest.mark.parametrize(
    ("family", "median", "p90"), [("orin", 0.08, 0.20), ("thor", 0.08, 0.20), ("turing", 0.12, 0.25)]
)
def test_stored_parameters_explain_the_rows(
    family: str, median: float, p90: float, rows: list[Row], kernels: Mapping[str, Counted]
) -> None:
    names = families()[family]
    used = [r for r in rows if r.target in names and not r.unused]
    found = quality(used, Problem(used, kernels).predict_ms(stored(names[0])))
    assert found.median <= median
    assert found.p90 <= p90


def test_claimed_errors_of_the_orin_family_meet_the_promise() -> None:
    """15% at the median, 35% at the 90th percentile, rank correlation 0.97, on models left out of the fit."""
    for name in families()["orin"]:
        error = load_profile(name).error
        assert error is not None
        assert error.median <= 0.15
        assert error.p90 <= 0.35
        assert error.rank_correlation is not None
        assert error.rank_correlation >= 0.97


def test_one_evaluation_of_all_rows_agrees_with_the_model_one_by_one(
    rows: list[Row], kernels: Mapping[str, Counted]
) -> None:
    from edgeprune.costmodel.cost import latencies_us, with_batch

    used = [r for r in rows if r.target == "orin-nx-16"][:4]
    values = stored("orin")
    for row, found in zip(used, Problem(used, kernels).predict_ms(values), strict=True):
        device = row.device()
        times = [
            n * latencies_us([with_batch(k, row.batch)], [row.precision], device)[0] for k, n in kernels[row.kernels]
        ]
        assert (sum(times) + device.call_us) / 1e3 == pytest.approx(found, rel=1e-3)  # profiles hold four digits


def test_fit_recovers_what_made_the_rows(rows: list[Row], kernels: Mapping[str, Counted]) -> None:
    """Rows computed with other parameters are predicted within 3%, a model that was left out included."""
    names = ("ul_yolo11n_640", "ul_yolo11m_640", "tv_resnet50_224", "yolov5s_raw_672")
    chosen = [r for r in rows if r.kernels in names and r.target == "orin" and not r.unused]
    truth = prior() + np.random.default_rng(0).normal(0, 0.15, len(PARAMETERS))
    truth = np.minimum(truth, np.log([p.limit for p in PARAMETERS]) - 1e-3)
    made = [
        replace(r, latency_ms=float(t)) for r, t in zip(chosen, Problem(chosen, kernels).predict_ms(truth), strict=True)
    ]
    seen = [r for r in made if r.kernels != "ul_yolo11m_640"]
    values = fit(Problem(seen, kernels), evaluations=6)
    assert quality(seen, Problem(seen, kernels).predict_ms(values)).p90 < 0.03
    unseen = [r for r in made if r.kernels == "ul_yolo11m_640"]
    assert quality(unseen, Problem(unseen, kernels).predict_ms(values)).p90 < 0.05


def test_launches_are_derived_from_model_files(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> t (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = Relu(x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "relu.onnx")
    write_kernels(tmp_path, tmp_path / "kernels.json.gz")
    ((kernel, count),) = read_kernels(tmp_path / "kernels.json.gz")["relu"]
    assert (kernel.kind, kernel.cout, count) == ("pointwise", 4, 1)
    (tmp_path / "more").mkdir()
    onnx.save(onnx.parser.parse_model(text), tmp_path / "more" / "again.onnx")
    write_kernels(tmp_path / "more", tmp_path / "kernels.json.gz")
    assert sorted(read_kernels(tmp_path / "kernels.json.gz")) == ["again", "relu"]
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match=r"no \.onnx file"):
        write_kernels(tmp_path / "none", tmp_path / "kernels.json.gz")


@pytest.mark.slow
def test_models_left_out_of_the_fit_on_the_orin_family(rows: list[Row], kernels: Mapping[str, Counted]) -> None:
    names = families()["orin"]
    used = [r for r in rows if r.target in names and not r.unused]
    found = quality(used, leave_out(used, kernels, stored("orin"), lambda r: r.kernels))
    assert found.median <= 0.15
    assert found.p90 <= 0.35
    assert found.rank_correlation >= 0.97
    claimed = load_profile("orin-nano-8").error
    assert claimed is not None
    assert found.median == pytest.approx(claimed.median, abs=0.01)


@pytest.mark.slow
def test_devices_left_out_of_the_fit_on_the_orin_family(rows: list[Row], kernels: Mapping[str, Counted]) -> None:
    """Clocks, multiprocessors and bandwidth carry the parameters from one board to another."""
    names = families()["orin"]
    used = [r for r in rows if r.target in names and not r.unused]
    found = quality(used, leave_out(used, kernels, stored("orin"), lambda r: r.target))
    assert found.median <= 0.15
    assert found.p90 <= 0.35
