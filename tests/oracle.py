"""A second oracle, over the folder that `edgeprune prune` wrote: onnx, onnxruntime and numpy alone, nothing of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Feeds = Mapping[str, NDArray[Any]]
Runner = Callable[[onnx.ModelProto, Feeds], list[NDArray[Any]]]


def plan_of(folder: Path) -> dict[str, Any]:
    """What plan.json holds."""
    plan: dict[str, Any] = json.loads((folder / "plan.json").read_text())
    return plan


def in_onnxruntime(model: onnx.ModelProto, feeds: Feeds) -> list[NDArray[Any]]:
    """Outputs, with basic graph optimizations only."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def by_reference(model: onnx.ModelProto, feeds: Feeds) -> list[NDArray[Any]]:
    """Outputs by ONNX's reference implementation, which has every type."""
    from onnx.reference import ReferenceEvaluator

    return list(ReferenceEvaluator(model).run(None, dict(feeds)))


def error(folder: Path, run: Runner = in_onnxruntime) -> float:
    """Largest difference between pruned and masked model, relative to how much the output varies with its input.

    Raises:
        AssertionError: the plan does not fit the models, or their outputs differ in shape or are not finite.
    """
    dense, pruned = onnx.load(folder / "dense.onnx"), onnx.load(folder / "model.onnx")
    onnx.checker.check_model(pruned, full_check=True)
    before, after = ({t.name: t for t in model.graph.initializer} for model in (dense, pruned))
    for name, axes in plan_of(folder)["initializers"].items():
        weight = numpy_helper.to_array(before[name]).copy()
        for axis, entry in axes.items():
            kept = np.asarray(entry["kept"])
            assert (np.diff(kept) > 0).all()
            assert name not in after or after[name].dims[int(axis)] == len(kept)
            if entry["role"] == "consumer":
                gone = np.setdiff1d(np.arange(weight.shape[int(axis)]), kept)
                weight[(slice(None),) * int(axis) + (gone,)] = 0
        before[name].CopyFrom(numpy_helper.from_array(weight, name))
    given = [_feeds(dense, seed) for seed in (0, 1)]
    runs = [(run(dense, feeds), run(pruned, feeds)) for feeds in given]
    worst = 0.0
    for k in range(len(dense.graph.output)):
        first, second = (want[k].astype(np.float64) for want, _ in runs)
        spread = np.abs(first - second).max()
        for outputs, have in runs:
            want, got = outputs[k].astype(np.float64), have[k].astype(np.float64)
            assert want.shape == got.shape
            assert np.isfinite(got).all()
            worst = max(worst, float(np.abs(want - got).max() / (spread + 0.02 * np.abs(want).max() + 1e-6)))
    return worst


def _feeds(model: onnx.ModelProto, seed: int) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(seed)
    weights = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name not in weights:
            kind = value.type.tensor_type
            shape = [d.dim_value or 1 for d in kind.shape.dim]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            whole = kind.elem_type in (onnx.TensorProto.BOOL, onnx.TensorProto.INT64, onnx.TensorProto.INT32)
            drawn = random.integers(0, 2, shape) if whole else random.standard_normal(shape)
            feeds[value.name] = np.asarray(drawn).astype(dtype)
    return feeds
