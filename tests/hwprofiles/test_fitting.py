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
from edgeprune.hwprofiles.fitting import HARNESSES, NAMES, PARAMETERS, Problem, families, fit, leave_out, prior, quality
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
    model, fitted = (load_profile(target).document[key] for key in ("cost_model", "fitted"))
    values = {
        **model,
        **fitted["harness"],
        "efficiency": model["efficiency"]["fp16"],
        "int8_efficiency": model["efficiency"].get("int8", 1) / model["efficiency"]["fp16"],
        "fp32_efficiency": model["efficiency"]["fp32"] / model["efficiency"]["fp16"],
        "fused_fp16": model["fused_tails"]["fp16"],
        "fused_int8": model["fused_tails"].get("int8", 1),
    }
    return np.log([max(values[p.name], 1e-3) for p in PARAMETERS])


def test_every_row_is_complete(rows: list[Row], kernels: Mapping[str, Counted]) -> None:
    for row in rows:
        assert row.source
        assert row.tier in ("A", "B", "C")
        assert kernels[row.kernels]
        assert row.latency_ms > 0
        assert row.batch >= 1
        assert row.device().name in target_names()
        assert row.tier != "C" or row.unused
        assert row.harness in HARNESSES


def test_macs_of_known_models(kernels: Mapping[str, Counted]) -> None:
    """Billions of multiply-adds as published for them."""
    published = {"tv_resnet50_224": 4.09, "tv_vgg16_224": 15.47, "tv_mobilenet_v2_224": 0.30, "ul_yolov8x_640": 128.9}
    for model, gmacs in published.items():
        assert sum(k.macs * n for k, n in kernels[model]) / 1e9 == pytest.approx(gmacs, rel=0.01)


@pytest.mark.parametrize(
    ("family", "median", "p90"), [("orin", 0.04, 0.11), ("thor", 0.05, 0.10), ("turing", 0.12, 0.25)]
)
def test_stored_parameters_explain_the_rows(
    family: str, median: float, p90: float, rows: list[Row], kernels: Mapping[str, Counted]
) -> None:
    names = families()[family]
    used = [r for r in rows if r.target in names and not r.unused]
    found = quality(used, Problem(used, kernels).predict_ms(stored(names[0])))
    assert found.median <= median
    assert found.p90 <= p90


def test_every_image_size_and_power_mode_is_predicted_without_bias(
    rows: list[Row], kernels: Mapping[str, Counted]
) -> None:
    """YOLOv8 from 160 to 1120 pixels within 10% at the median of each size; 15 W and FP32 within 5% of zero."""
    used = [r for r in rows if r.target in families()["orin"] and not r.unused]
    errors = Problem(used, kernels).predict_ms(stored("orin")) / [r.latency_ms for r in used] - 1
    for size in (160, 480, 640, 800, 960, 1120):
        assert np.median(np.abs(errors[[f"_{size}+nms" in r.kernels for r in used]])) <= 0.10
    assert abs(np.median(errors[[r.power_mode == "15W" for r in used]])) <= 0.05
    assert abs(np.median(errors[[r.precision == "fp32" for r in used]])) <= 0.05


def test_a_transformer_is_fitted_in_each_precision(rows: list[Row], kernels: Mapping[str, Counted]) -> None:
    """ViT-B/16 on Orin Nano: FP32, FP16, and INT8 in its Linears, which gains 1.15 times, not two."""
    used = [r for r in rows if r.kernels == "timm_vit_base_patch16_224" and not r.unused]
    found = dict(zip([r.precision for r in used], Problem(used, kernels).predict_ms(stored("orin")), strict=True))
    assert set(found) == {"fp32", "fp16", "int8"}
    for row in used:
        assert found[row.precision] == pytest.approx(row.latency_ms, rel=0.12)
    assert 1.1 < found["fp16"] / found["int8"] < 1.35


def test_kernels_at_another_image_size_are_those_of_the_stored_one_by_area(kernels: Mapping[str, Counted]) -> None:
    large, small = (sum(k.macs * n for k, n in kernels[f"ul_yolov8n_{size}"]) for size in (640, 320))
    assert small == pytest.approx(large / 4, rel=1e-3)
    plugin = [k for k, _ in kernels["ul_yolov8n_320+nms"] if k.kind == "nms"]
    assert [(k.rows, k.cin) for k in plugin] == [(2100, 84)]
    with pytest.raises(KeyError, match="no_such_model"):
        kernels["no_such_model_640"]
    with pytest.raises(ValueError, match="attention"):
        kernels["timm_vit_base_patch16_384"]


def test_claimed_errors_of_the_orin_family_meet_the_promise() -> None:
    """On models left out of the fit: 5% at the median, 15% at the 90th percentile, over the rows of the family."""
    for name in families()["orin"]:
        error = load_profile(name).error
        assert error is not None
        assert error.median <= 0.06
        assert error.p90 <= 0.18
        assert error.families["convolutional"]["median"] <= 0.05
        assert error.families["convolutional"]["p90"] <= 0.15
        assert error.families["transformer"]["median"] <= 0.10
        assert error.families["transformer"]["p90"] <= 0.15
        assert all(of["median"] <= 0.05 for of in error.precisions.values())
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
        python_us = np.exp(values[NAMES.index("python_us")]) * (row.harness == "python")
        # Profiles hold four digits.
        assert (sum(times) + device.call_us + python_us) / 1e3 == pytest.approx(found, rel=1e-3)


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
    found = quality(used, leave_out(used, kernels, stored("orin"), lambda r: r.architecture))
    assert found.median <= 0.05
    assert found.p90 <= 0.15
    assert found.rank_correlation >= 0.97
    claimed = load_profile("orin-nx-8").error
    assert claimed is not None
    assert found.median == pytest.approx(claimed.median, abs=0.01)


@pytest.mark.slow
def test_devices_left_out_of_the_fit_on_the_orin_family(rows: list[Row], kernels: Mapping[str, Counted]) -> None:
    """Clocks, multiprocessors and bandwidth carry the parameters from one board to another."""
    names = families()["orin"]
    used = [r for r in rows if r.target in names and not r.unused]
    found = quality(used, leave_out(used, kernels, stored("orin"), lambda r: r.target))
    assert found.median <= 0.05
    assert found.p90 <= 0.15
