"""ONNX's own backend tests: each is pruned or left whole, and canonicalized with open sizes, and computes the same.

To be pruned, a test stands between two linear layers, and its matrices and vectors are weights.
"""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeprune.dependency import analyse
from edgeprune.graph import model_io as graphs
from edgeprune.passes.canonicalize.pipeline import canonicalize
from edgeprune.passes.prune import masked, prune_channels
from edgeprune.testing import random_cut
from tests.passes.canonicalize.test_backend_nodes import RANDOM, REFUSALS, in_onnxruntime, in_reference, quiet, same


def pruned(proto: onnx.ModelProto, feeds: dict[str, Any], path: Path) -> str:
    """Cut a model at random, and compare it with what it must equal; whether it was cut, and how they compare."""
    path.write_bytes(proto.SerializeToString())
    dense = canonicalize(graphs.load(path), verify=False)
    analysis = analyse(dense)
    cut = random_cut(analysis, np.random.default_rng(0))
    what = "pruned" if cut else "whole"
    wanted = graphs.to_bytes(masked(dense, analysis, cut)) if cut else proto.SerializeToString()
    return f"{what}, {compared(wanted, graphs.to_bytes(prune_channels(dense, analysis, cut)), feeds)}"


def opened(proto: onnx.ModelProto, feeds: dict[str, Any], path: Path) -> str:
    """Canonicalize a model with all sizes of its inputs open, and compare it with the model before."""
    loose = deepcopy(proto)
    for value in loose.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            dim.dim_param = f"{value.name}_{axis}"
    path.write_bytes(loose.SerializeToString())
    canonical = canonicalize(graphs.load(path), verify=False)
    return compared(loose.SerializeToString(), graphs.to_bytes(canonical), feeds)


def compared(wanted: bytes, have: bytes, feeds: dict[str, Any]) -> str:
    for runner in (in_onnxruntime, in_reference):
        try:
            expected = runner(wanted, feeds)
        except REFUSALS:
            continue
        return "same" if alike(expected, runner(have, feeds)) else "different"
    return "not runnable"


def alike(expected: list[Any], found: list[Any]) -> bool:
    """As ``same``; floats up to the order in which a layer adds, which depends on the number of channels."""
    return all(
        same(a, b)
        or (
            isinstance(a, np.ndarray)
            and a.dtype == b.dtype == np.float32
            and a.shape == b.shape
            and np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)
        )
        for a, b in zip(expected, found, strict=True)
    )


def with_weights(proto: onnx.ModelProto, feeds: dict[str, Any]) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The model with matrices, kernels and biases as weights: the first input of a node stays an input."""
    data = {node.input[0] for node in proto.graph.node if node.input}
    weights = [name for name, value in feeds.items() if name not in data and weighs(value)]
    fixed = deepcopy(proto)
    kept = [value for value in fixed.graph.input if value.name not in weights]
    del fixed.graph.input[:]
    fixed.graph.input.extend(kept)
    fixed.graph.initializer.extend(onnx.numpy_helper.from_array(feeds[name], name) for name in weights)
    return fixed, {name: value for name, value in feeds.items() if name not in weights}


def between_layers(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model between two linear layers along axis 1, so that the channels which its nodes handle can be cut.

    The layers average, so values stay in the domain of the operator.
    """
    whole = deepcopy(proto)
    if not any(opset.domain == "" for opset in proto.opset_import):
        return whole
    graph = whole.graph
    start = next((value for value in graph.input if mixable(value)), None)
    if start is not None:
        for node in graph.node:
            node.input[:] = [f"{name}__mixed" if name == start.name else name for name in node.input]
        graph.node.insert(0, mixing(graph, start, start.name, f"{start.name}__mixed"))
    end = next((value for value in graph.output if mixable(value)), None)
    if end is not None:
        for node in graph.node:
            node.output[:] = [f"{name}__plain" if name == end.name else name for name in node.output]
            node.input[:] = [f"{name}__plain" if name == end.name else name for name in node.input]
        graph.node.append(mixing(graph, end, f"{end.name}__plain", end.name))
    return whole


def mixable(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    return tensor.elem_type == onnx.TensorProto.FLOAT and 2 <= len(dims) <= 5 and dims[1].dim_value > 1


def mixing(graph: onnx.GraphProto, value: onnx.ValueInfoProto, source: str, result: str) -> onnx.NodeProto:
    """A 1x1 convolution, or a MatMul of a matrix, that averages over axis 1; its weight is added to the graph."""
    rank, size = len(value.type.tensor_type.shape.dim), value.type.tensor_type.shape.dim[1].dim_value
    weight = np.random.default_rng(size).random((size, size)).astype(np.float32)
    weight /= weight.sum(axis=0 if rank == 2 else 1, keepdims=True)
    stored = weight if rank == 2 else weight.reshape(size, size, *(1,) * (rank - 2))
    graph.initializer.append(onnx.numpy_helper.from_array(stored, f"{result}__weight"))
    return onnx.helper.make_node("MatMul" if rank == 2 else "Conv", [source, f"{result}__weight"], [result])


def weighs(value: Any) -> bool:
    """Whether a value of a test is a tensor of floats with axes: a matrix, a kernel or a bias. Weights are finite."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim > 0 and np.isfinite(value).all()


@pytest.mark.parametrize("step", [10, pytest.param(1, marks=pytest.mark.slow)], ids=["every tenth", "all"])
@pytest.mark.parametrize("check", [pruned, opened])
def test_operators(check: Any, step: int, tmp_path: Path) -> None:
    from onnx.backend.test.case.node import collect_testcases

    with quiet():
        cases = collect_testcases(None)[::step]
    results: Counter[str] = Counter()
    different = []
    for case in cases:
        inputs = case.data_sets[0][0] if case.data_sets else []
        feeds = {info.name: value for info, value in zip(case.model.graph.input, inputs, strict=False)}
        model = case.model
        if check is pruned:
            model, feeds = with_weights(model, feeds)
            model = between_layers(model)
        result = check(model, feeds, tmp_path / "model.onnx")
        results[result] += 1
        if "different" in result and not any(word in case.name for word in RANDOM):
            different.append(case.name)
    print(dict(results))
    assert not different
    assert sum(count for result, count in results.items() if "same" in result) > 0.85 * len(cases)
