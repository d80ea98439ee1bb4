"""ONNX's own backend tests: each is pruned or left whole, and canonicalized with open sizes, and computes the same."""

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
        return "same" if same(expected, runner(have, feeds)) else "different"
    return "not runnable"


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
        result = check(case.model, feeds, tmp_path / "model.onnx")
        results[result] += 1
        if "different" in result and not any(word in case.name for word in RANDOM):
            different.append(case.name)
    print(dict(results))
    assert not different
    assert sum(count for result, count in results.items() if "same" in result) > 0.85 * len(cases)
