from __future__ import annotations

import numpy as np
import pytest

from edgeprune.dependency import analyse
from edgeprune.graph import model_io as graphs
from edgeprune.graph import remove_dead
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.passes.layout import flatten_rows
from edgeprune.testing.oracle import feeds_for, run
from tests.passes.layout.keras_like import TO_LAST, Keras


def classifier(k: Keras, x: str, *, gemm: bool = False, target: tuple[int, int] = (-1, 24)) -> str:
    last = k.op("Relu", k.op("Add", k.op("Transpose", x, perm=TO_LAST), k.weight(6)))
    row = k.op("Reshape", last, k.constant(target))
    return k.op("Gemm", row, k.weight(5, 24), transB=1) if gemm else k.op("MatMul", row, k.weight(24, 5))


@pytest.mark.parametrize("gemm", [False, True])
@pytest.mark.parametrize("target", [(-1, 24), (0, -1), (2, 24)])
def test_rows_are_reordered(gemm: bool, target: tuple[int, int]) -> None:
    k = Keras(2, 6, 2, 2)
    model = graphs.infer_shapes(k.model(classifier(k, "x", gemm=gemm, target=target)))
    feeds = feeds_for(model, 0)
    before = run(model, feeds)
    assert flatten_rows(model) == 1
    remove_dead(model.graph)
    graphs.check(model, "the folded model")
    assert not any(node.op_type == "Transpose" for node in model.graph)
    np.testing.assert_allclose(run(model, feeds)[0], before[0], rtol=1e-5, atol=1e-6)


def test_a_row_that_another_node_reads_stays() -> None:
    k = Keras(2, 6, 2, 2)
    y = classifier(k, "x")
    row = next(name for node in k.nodes if node.op_type == "Reshape" for name in node.output)
    assert flatten_rows(graphs.infer_shapes(k.model(y, row, ranks=(2, 2)))) == 0


def test_channels_before_a_keras_classifier_are_cut() -> None:
    k = Keras(1, 4, 4, 3)
    x = k.between(k.op("Relu", k.conv("x", 3, 6)), "MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    model = canonicalize(k.model(k.dense(k.op("Reshape", x, k.constant([-1, 24])), 24, 5)))
    assert sum(node.op_type == "Transpose" for node in model.graph) == 1
    assert [group.size for group in analyse(model).groups] == [6]
