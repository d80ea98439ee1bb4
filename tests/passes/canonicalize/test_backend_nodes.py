"""ONNX's own backend tests: every model is canonicalized without changing its outputs."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi import onnxruntime_pybind11_state as state

from edgeprune.graph import model_io as graphs
from edgeprune.passes.canonicalize.pipeline import canonicalize

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
REFUSALS = (
    *(state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented, state.RuntimeException),
    *(ArithmeticError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError),
)
"""What the two implementations raise for what they do not support."""
RANDOM = ("bernoulli", "random", "multinomial", "training_dropout", "dropout_default_mask")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """ONNX's own test generators warn of overflows and deprecations."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def in_onnxruntime(data: bytes, feeds: dict[str, Any]) -> list[Any]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return list(ort.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, feeds))


def in_reference(data: bytes, feeds: dict[str, Any]) -> list[Any]:
    with quiet():
        return list(ReferenceEvaluator(onnx.load_from_string(data)).run(None, feeds))


def same(expected: Any, found: Any) -> bool:
    """Equal bit for bit, but for half precision, whose chains onnxruntime computes in float."""
    if isinstance(expected, list | tuple):
        return len(expected) == len(found) and all(same(a, b) for a, b in zip(expected, found, strict=True))
    if expected is None or found is None:
        return expected is found
    a, b = np.asarray(expected), np.asarray(found)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype == np.float16:
        # Folding a constant rounds it to half precision, onnxruntime's float chain does not: 2 units in the last place.
        return np.allclose(a.astype(float), b.astype(float), rtol=2e-3, atol=1e-3, equal_nan=True)
    if a.dtype.kind == "V":
        return a.tobytes() == b.tobytes()
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def compare(model: onnx.ModelProto, feeds: dict[str, Any], path: Path) -> str:
    """Canonicalize a model and run both; how they compare."""
    path.write_bytes(model.SerializeToString())
    canonical = graphs.to_bytes(canonicalize(graphs.load(path), verify=False))
    onnx.checker.check_model(canonical)
    for runner in (in_onnxruntime, in_reference):
        try:
            expected = runner(model.SerializeToString(), feeds)
        except REFUSALS:
            continue
        return "same" if same(expected, runner(canonical, feeds)) else "different"
    return "not runnable"


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)], ids=["every fifth", "all"])
def test_operators(step: int, tmp_path: Path) -> None:
    from onnx.backend.test.case.node import collect_testcases

    with quiet():
        cases = collect_testcases(None)
    assert len(cases) > 1500
    cases = cases[::step]
    results: Counter[str] = Counter()
    different = []
    for case in cases:
        inputs = case.data_sets[0][0] if case.data_sets else []
        feeds = {info.name: value for info, value in zip(case.model.graph.input, inputs, strict=False)}
        result = compare(case.model, feeds, tmp_path / "model.onnx")
        results[result] += 1
        if result == "different" and not any(word in case.name for word in RANDOM):
            different.append(case.name)
    assert not different
    assert results["same"] > 0.85 * len(cases)


def read(path: Path) -> Any:
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return onnx.numpy_helper.to_array(tensor)


@pytest.mark.parametrize("folder", ["pytorch-converted", "pytorch-operator"])
def test_exported_from_pytorch(folder: str, tmp_path: Path) -> None:
    """Models of opset 6 and later, held against the outputs recorded with them."""
    compared = 0
    for path in sorted((DATA / folder).iterdir()):
        canonical = canonicalize(graphs.load(path / "model.onnx"), verify=False)
        for recorded in path.glob("test_data_set_*"):
            inputs = [read(file) for file in sorted(recorded.glob("input_*.pb"))]
            names = [value.name or "" for value in canonical.graph.inputs]
            found = in_onnxruntime(graphs.to_bytes(canonical), dict(zip(names, inputs, strict=True)))
            for index, output in enumerate(found):
                # The tolerance of ONNX's own runner: these were recorded by other implementations.
                np.testing.assert_allclose(
                    output, read(recorded / f"output_{index}.pb"), rtol=1e-3, atol=1e-7, err_msg=path.name
                )
                compared += 1
    assert compared >= 30


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((DATA / "light").glob("light_*.onnx")), ids=lambda path: path.stem)
def test_light_models(path: Path) -> None:
    """Whole networks of opset 9, whose weights are generated: compared by canonicalize itself."""
    canonical = canonicalize(graphs.load(path), verify=True)
    assert canonical.opset_imports[""] == 13
