"""A compile for TensorRT that drops whole branches of a transformer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import edgeprune
from edgeprune import graph
from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.build import Plan
from edgeprune.report import Report
from tests.passes.prune.transformers import ATTENTION, MLP, transformer


def test_a_branch_that_adds_little_is_dropped_with_all_its_kernels(tmp_path: Path) -> None:
    model = transformer(MLP, ATTENTION, MLP, ATTENTION, MLP, factors={"wo1": 0.02, "we2": 0.02, "wo3": 0.02})
    graph.save(model, tmp_path / "net.onnx")
    samples = np.random.default_rng(0).standard_normal((64, 5, 6)).astype(np.float32)
    np.savez(tmp_path / "calib.npz", x=samples)
    edgeprune.compile(
        tmp_path / "net.onnx",
        "orin",
        speedup=1.6,
        precision="fp16",
        tokens="none",
        calibration=str(tmp_path / "calib.npz"),
        out=tmp_path / "out",
    )
    plan, report = Plan.load(tmp_path / "out"), Report.load(tmp_path / "out")
    dropped = [g.id for g in plan.groups if not g.kept]
    assert dropped
    result = graph.load(tmp_path / "out" / "model.onnx")
    dense = graph.load(tmp_path / "out" / "dense.onnx")
    assert sum(n.op_type == "MatMul" for n in result.graph) < sum(n.op_type == "MatMul" for n in dense.graph)
    gone = {layer.node: layer.predicted_us for layer in report.layers if layer.predicted_us == 0}
    assert gone
    assert not {str(n.name) for n in result.graph} & set(gone)
    wanted, got = (OnnxRuntime().load(m).run({"x": samples})[0] for m in (dense, result))
    assert np.square(got - wanted).mean() < 0.05 * wanted.var()
