"""The examples: that their scripts parse and name what exists, and, where their libraries are, that they run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

from edgeprune.gate.gate import gate
from edgeprune.report.model import Report

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*/run.sh"))


def module(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_example_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def run(name: str, out: Path, **environment: str) -> str:
    """What an example prints."""
    script = EXAMPLES / name / "run.sh"
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "CI": "true", **environment}
    done = subprocess.run([script, out], env=env, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("folder", sorted(p for p in EXAMPLES.iterdir() if p.is_dir()), ids=lambda p: p.name)
def test_every_example_says_what_it_does(folder: Path):
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.parent.name)
def test_scripts_parse(script: Path):
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)


def test_their_data_fits_their_models(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SIZE", "64")
    (image, *_) = module(EXAMPLES / "yolo-orin" / "images.py").calibration()
    assert image["images"].shape == (1, 3, 64, 64)
    assert 0 <= image["images"].min() <= image["images"].max() <= 1
    (image, *_) = module(EXAMPLES / "vit" / "nets.py").calibration()
    assert image["x"].shape == (1, 3, 224, 224)
    (image, *more) = module(EXAMPLES / "segmentation" / "masks.py").calibration()
    assert image["images"].shape == (1, 3, 64, 64)
    assert image["images"].dtype == np.float32
    assert len(more) == 31


@pytest.mark.slow
def test_yolo_for_orin(tmp_path: Path):
    pytest.importorskip("ultralytics")
    pytest.importorskip("onnx_graphsurgeon")
    run("yolo-orin", tmp_path, SIZE="160", WEIGHTS="", COMPILE_FLAGS="--speedup 1.1")
    outputs = [o.name for o in onnx.load(tmp_path / "orin" / "model.onnx", load_external_data=False).graph.output]
    assert outputs == ["num_dets", "det_boxes", "det_scores", "det_classes"]
    assert gate(Report.load(tmp_path / "orin"), max_predicted_ms=4).passed


@pytest.mark.slow
def test_vit_and_back(tmp_path: Path):
    pytest.importorskip("timm")
    said = run("vit", tmp_path, RATIO="0.5", SECONDS_EACH="0.1")
    assert "checked: outputs of the cut module against model.onnx" in said
    assert (tmp_path / "vit.pruned.pt").is_file()


@pytest.mark.slow
def test_segmentation(tmp_path: Path):
    pytest.importorskip("torchvision")
    run("segmentation", tmp_path, SIZE="64", WEIGHTS="", MAX_DROP="50")
    accuracy = Report.load(tmp_path / "segmentation.cpu").accuracy
    assert accuracy is not None
    assert accuracy.kind == "evaluation"
