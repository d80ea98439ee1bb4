"""Small folders as compile and prune write them, and data for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeprune.backends import OnnxRuntime
from edgeprune.calibration import open_calibration
from edgeprune.compiler import prune_model
from edgeprune.graph import load, save
from edgeprune.passes.x86 import int8_eligible, quantize_x86, values_to_quantize
from edgeprune.quantization import histograms, range_by
from tests.small_models import build, normal

CLASSIFIER = """net (float[n, 3, 16, 16] images) => (float[n, 5] logits) {
  a0 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (images, w0, b0)
  a = Relu (a0)
  c0 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (a, w1, b1)
  c = Relu (c0)
  d = Conv (c, w2, b2)
  p = GlobalAveragePool (d)
  f = Flatten (p)
  logits = Gemm (f, w3, b3)
}"""


def classifier(samples: np.ndarray) -> ir.Model:
    """Random weights; the mean of the scores is 0 on the samples, so that all classes occur."""
    weights = {"w0": 2 * normal(16, 3, 3, 3), "w1": 2 * normal(32, 16, 3, 3), "w2": 2 * normal(32, 32, 1, 1)}
    weights |= {"b0": normal(16), "b1": normal(32), "b2": 0 * normal(32), "w3": 4 * normal(32, 5)}
    (scores,) = OnnxRuntime().load(build(CLASSIFIER, **weights, b3=np.zeros(5))).run({"images": samples})
    return build(CLASSIFIER, **weights, b3=-scores.mean(axis=0))


def images(file: Path, count: int = 48) -> Path:
    """Smooth random images."""
    rng = np.random.default_rng(0)
    coarse = rng.standard_normal((count, 3, 4, 4)).astype(np.float32)
    np.savez(file, images=coarse.repeat(4, axis=2).repeat(4, axis=3))
    return file


def pruned_folder(path: Path, ratio: float = 0.5) -> tuple[Path, Path]:
    """A pruned classifier without any refit, and its data."""
    data = images(path / "images.npz")
    save(classifier(np.load(data)["images"]), path / "net.onnx")
    prune_model(path / "net.onnx", ratio, criterion="l2", compensate=False, calibration=str(data), out=path / "pruned")
    return path / "pruned", data


def int8_folder(path: Path) -> tuple[Path, Path]:
    """The same with the pruned model in INT8, as onnxruntime runs it."""
    folder, data = pruned_folder(path)
    model = load(folder / "model.onnx")
    save(model, folder / "float.onnx")
    int8 = sorted(int8_eligible(model))
    samples = open_calibration(str(data), model)
    found = histograms(model, values_to_quantize(model, int8), samples, 1)
    ranges = {name: range_by("max", h, symmetric=False) for name, h in found.items()}
    save(quantize_x86(model, int8, {n: (r.low, r.high) for n, r in ranges.items()}), folder / "model.onnx")
    return folder, data


def nodes(model: ir.Model) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(str(n.name), n.op_type, tuple(str(v.name) if v else "" for v in n.inputs)) for n in model.graph]


def arrays(model: ir.Model) -> dict[str, np.ndarray]:
    return {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}
