"""ONNX's own node tests: every one whose operators are in the table gives the recorded outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tests.passes.canonicalize.test_backend_nodes import quiet

torch = pytest.importorskip("torch")

from edgeprune.errors import ModelError  # noqa: E402
from edgeprune.executor import GraphModule  # noqa: E402
from edgeprune.executor.registry import operator_of  # noqa: E402

TRAINING = ("batchnorm_example_training", "batchnorm_epsilon_training", "training_dropout")
"""Refused: a deployed graph is not in training mode."""
HALF = ("attention_4d_causal_fp16_expanded",)
"""Half precision, recorded with sums in float32: off by one unit in the last place."""
EMPTY = ("reduce_max_empty_set_bool",)
"""The maximum of no truth values."""


def is_plain(value: Any) -> bool:
    if not isinstance(value, np.ndarray | np.generic):
        return False
    array = np.asarray(value)
    return array.dtype.kind in "fiub" and array.dtype.itemsize <= 8


def in_double(array: np.ndarray) -> np.ndarray:
    return array if array.dtype.kind == "b" else array.astype(np.float64)


def test_operators() -> None:
    from onnx.backend.test.case.node import collect_testcases

    with quiet():
        cases = collect_testcases(None)
    different, compared, refused = [], 0, 0
    for case in cases:
        model = ir.from_proto(case.model)
        if any(operator_of(node) is None for node in model.graph) or any(word in case.name for word in EMPTY):
            continue
        inputs, outputs = case.data_sets[0]
        if not all(map(is_plain, (*inputs, *outputs))):
            continue
        feeds = {info.name: np.asarray(array) for info, array in zip(case.model.graph.input, inputs, strict=True)}
        if any(word in case.name for word in TRAINING):
            with pytest.raises(ModelError, match="is in training mode"):
                GraphModule(model).run(feeds)
            refused += 1
            continue
        found = GraphModule(model).run(feeds).values()
        rtol = 2e-3 if any(word in case.name for word in HALF) else 1e-3  # that of ONNX's own runner
        close = [
            a.shape == b.shape and np.allclose(in_double(a), in_double(b), rtol=rtol, atol=1e-5, equal_nan=True)
            for a, b in zip(found, outputs, strict=True)
        ]
        compared += 1
        if not all(close):
            different.append(case.name)
    assert not different
    assert refused == 8
    assert compared > 1150
