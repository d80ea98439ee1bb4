"""The masked-equivalence oracle: check a rule in onnxruntime.

A pruned model must equal the dense model with zeros in the weights that read the removed positions (role ``consumer``).
Authors of a rule build a small graph with their operator and call :func:`verify`;
:mod:`edgeprune.testing.random_graph` builds random graphs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph as graphs
from edgeprune.dependency import Analysis, Cut, analyse
from edgeprune.errors import ModelError
from edgeprune.passes.prune import masked, prune_channels

Feeds = Mapping[str, NDArray[Any]]


def parse(text: str, seed: int = 0, **shapes: Sequence[int]) -> ir.Model:
    """A model from ``onnx.parser`` text, with shapes inferred.

    Args:
        text: a model, or a graph (opset 17 is added).
        seed: of the weights.
        shapes: initializer name -> shape; weights are normal, scaled by the square root of their fan-in.
    """
    stripped = text.strip()
    proto = onnx.parser.parse_model(
        stripped if stripped.startswith("<") else '<ir_version: 8, opset_import: ["" : 17]>\n' + stripped
    )
    rng = np.random.default_rng(seed)
    for name, shape in shapes.items():
        fan_in = max(int(np.prod(shape[1:])), 1)
        array = (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return canonical(proto)


def canonical(proto: onnx.ModelProto) -> ir.Model:
    """The canonical form of a model in memory."""
    from edgeprune.passes.canonicalize import canonicalize

    model: ir.Model = canonicalize(ir.serde.deserialize_model(proto), verify=False)
    return model


def feeds_for(model: ir.Model, seed: int) -> dict[str, NDArray[Any]]:
    """Random inputs: normal for floating-point inputs, 0 or 1 for others; open dimensions are 2."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.inputs:
        if value.is_initializer() or value.shape is None or value.dtype is None:
            continue
        lengths = [d if isinstance(d, int) else 2 for d in value.shape.dims]
        random = rng.standard_normal(lengths) if value.dtype.is_floating_point() else rng.integers(0, 2, lengths)
        feeds[value.name or ""] = random.astype(value.dtype.numpy())
    return feeds


def run(model: ir.Model, feeds: Feeds) -> list[NDArray[Any]]:
    """Run a model in onnxruntime on one thread, without optimizations that change the order of sums."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = ort.InferenceSession(graphs.to_bytes(model), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def error(model: ir.Model, analysis: Analysis, cut: Cut, seeds: Sequence[int] = (0, 1)) -> float:
    """Largest difference between pruned and masked model, relative to the variation of the output between two inputs.

    Raises:
        AssertionError: shapes differ, or an output is not finite.
        ModelError, PassError: from pruning.
    """
    pruned = prune_channels(model, analysis, cut)
    onnx.checker.check_model(ir.to_proto(pruned), full_check=True)
    dense = masked(model, analysis, cut)
    runs = [(run(dense, f), run(pruned, f)) for f in (feeds_for(model, seed) for seed in seeds)]
    worst = 0.0
    for k, first in enumerate(runs[0][0]):
        spread = float(np.abs(first.astype(np.float64) - runs[-1][0][k]).max(initial=0.0))
        for want, have in ((a[k], b[k]) for a, b in runs):
            assert want.shape == have.shape, f"output {k} has shape {have.shape}, not {want.shape}"
            assert np.isfinite(want).all(), f"output {k} of the dense model is not finite"
            assert np.isfinite(have).all(), f"output {k} of the pruned model is not finite"
            difference = float(np.abs(want.astype(np.float64) - have).max(initial=0.0))
            worst = max(worst, difference / (spread + 0.02 * float(np.abs(want).max(initial=0.0)) + 1e-9))
    return worst


def exact_error(model: ir.Model, analysis: Analysis, cut: Cut, seed: int = 0) -> float:
    """As :func:`error`, in double precision with ONNX's reference implementation: slow, but without FP32 rounding.

    A random graph may amplify the last bit of a sum a thousandfold; an error in a rule is as large here as in FP32.
    """
    from onnx.reference import ReferenceEvaluator

    feeds = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in feeds_for(model, seed).items()}
    dense, pruned = (_double(m) for m in (masked(model, analysis, cut), prune_channels(model, analysis, cut)))
    pairs = zip(ReferenceEvaluator(dense).run(None, feeds), ReferenceEvaluator(pruned).run(None, feeds), strict=True)
    return max(float(np.abs(a - b).max() / (np.abs(a).max() + 1e-9)) for a, b in pairs)


def _double(model: ir.Model) -> onnx.ModelProto:
    """The model with float64 in place of float32."""
    proto: onnx.ModelProto = ir.to_proto(model)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    del proto.graph.value_info[:]
    return proto


def random_cut(analysis: Analysis, rng: np.random.Generator, only: str | None = None) -> Cut:
    """Keep at least one random unit of every group, or of one group; no axis becomes empty."""
    cut: Cut = {}
    for group in analysis.groups:
        if group.size > 1 and only in (None, group.id):
            count = int(rng.integers(1, group.size))
            cut[group.id] = np.sort(rng.permutation(group.size)[:count])
    while cut and _empties(analysis, cut):
        cut.popitem()
    return cut


def _empties(analysis: Analysis, cut: Cut) -> bool:
    """Whether a cut leaves an axis empty: cuts of two groups may together remove all positions of their product."""
    try:
        analysis.kept(cut)
    except ModelError:
        return True
    return False


def verify(model: ir.Model, *, seed: int = 0, tolerance: float = 1e-4) -> Analysis:
    """Cut every group by itself, then all together, and check each cut with the oracle.

    Args:
        model: canonical.
        seed: of the cuts.
        tolerance: of the relative error; FP32 sums in another order differ by about 1e-6.

    Raises:
        AssertionError: a cut changes the model; the text names its group.
    """
    analysis = analyse(model)
    rng = np.random.default_rng(seed)
    for only in [g.id for g in analysis.groups] + [None]:
        cut = random_cut(analysis, rng, only)
        if not cut:
            continue
        worst = error(model, analysis, cut)
        assert worst <= tolerance, f"relative error {worst:.1e} after cutting {only or 'all groups'}"
    return analysis
