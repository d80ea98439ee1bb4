"""2:4 weights in a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from edgeprune.calibration.calibration import Calibration, open_calibration
from edgeprune.errors import PassError
from edgeprune.graph.qdq import quantize_weight
from edgeprune.passes.prune.sparsify import check_two_of_four, sparsify, sparsity_eligible
from tests.passes.models import parse, random, run
from tests.siamese import pairs, siamese
from tests.small_models import calibration

NETWORK = """
net (float[n,4,9,9] x) => (float[n,5] y) {
    a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1, b1)
    r = Relu(a)
    g = Conv<group=8>(r, wg)
    s = Add(g, r)
    p = GlobalAveragePool(s)
    f = Flatten(p)
    m = MatMul(f, w2)
    q = Relu(m)
    y = Gemm<transB=1>(q, w3, b3)
}"""


@pytest.fixture
def model() -> ir.Model:
    found = parse(
        NETWORK,
        w1=random(8, 4, 3, 3, seed=1),
        b1=random(8, seed=2),
        wg=random(8, 1, 1, 1, seed=3),
        w2=random(8, 12, seed=4),
        w3=random(5, 12, seed=5),
        b3=random(5, seed=6),
    )
    for node in found.graph:
        node.name = str(node.outputs[0].name)
    return found


@pytest.fixture
def data(model: ir.Model, tmp_path: Path) -> Calibration:
    shared = random(64, 1, 9, 9, seed=7)
    np.savez(tmp_path / "x.npz", x=shared + 0.3 * random(64, 4, 9, 9, seed=8))
    return open_calibration(str(tmp_path / "x.npz"), model)


def feeds(data: Calibration) -> Mapping[str, NDArray[Any]]:
    return next(iter(data.batches(64)))


LAYERS = ["a", "m", "y"]


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt", "awp"])
@pytest.mark.parametrize("int8", [False, True])
def test_named_layers_are_two_of_four_and_no_others_change(
    model: ir.Model, data: Calibration, method: Any, int8: bool
) -> None:
    found = sparsify(model, LAYERS, data, method=method, int8=LAYERS if int8 else ())
    check_two_of_four(found, LAYERS)
    assert all((_weight(found, name) != 0).mean() <= 0.5 for name in ("w1", "w2", "w3"))
    np.testing.assert_array_equal(_weight(found, "wg"), _weight(model, "wg"))
    if int8:
        for name, axis in (("w1", 0), ("w2", 1), ("w3", 0)):
            integers, scale, _ = quantize_weight(_weight(model, name), axis)
            column = [1] * integers.ndim
            column[axis] = -1
            steps = _weight(found, name) / scale.reshape(column)
            np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)


def test_weights_of_a_convolution_are_sparse_along_input_channels(model: ir.Model, data: Calibration) -> None:
    w = _weight(sparsify(model, ["a"], data, method="sparsegpt"), "w1")
    assert ((w != 0).sum(axis=1) <= 2).all(), "of 4 input channels, for each output channel and kernel position"


def test_data_makes_the_outputs_closer(model: ir.Model, data: Calibration) -> None:
    x = feeds(data)
    wanted = run(model, **x)[0]

    def error(method: Any) -> float:
        return float(((run(sparsify(model, LAYERS, data, method=method), **x)[0] - wanted) ** 2).mean())

    naive = error("magnitude")
    assert error("wanda") < 0.7 * naive
    assert error("sparsegpt") < 0.7 * naive
    assert error("awp") < 0.7 * naive


def test_the_bias_takes_up_the_mean(model: ir.Model, data: Calibration) -> None:
    """A layer's mean output over the calibration data stays the same."""
    x = feeds(data)
    wanted = run(model, **x)[0]
    found = run(sparsify(model, ["y"], data, method="wanda"), **x)[0]
    np.testing.assert_allclose(found.mean(axis=0), wanted.mean(axis=0), atol=1e-5)


def test_refusals(model: ir.Model) -> None:
    eligible = sparsity_eligible(model)
    assert {n for n, ok in eligible.items() if ok} == set(LAYERS)
    assert "grouped" in str(eligible["g"])
    with pytest.raises(PassError, match="'g' cannot be 2:4: it is a grouped convolution"):
        sparsify(model, ["g"], None, method="magnitude")
    with pytest.raises(PassError, match="no node 'nope'"):
        sparsify(model, ["nope"], None, method="magnitude")
    with pytest.raises(PassError, match="'wanda' needs calibration data"):
        sparsify(model, ["a"], None, method="wanda")
    with pytest.raises(PassError, match="not 2:4"):
        check_two_of_four(model, ["a"])


def _weight(model: ir.Model, name: str) -> NDArray[Any]:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


def test_a_shared_weight_is_made_sparse_once_for_all_its_layers() -> None:
    model, data = siamese(), calibration(**pairs())
    nodes = ["node_2", "node_9"]
    assert all(sparsity_eligible(model)[name] for name in nodes)
    sparse = sparsify(model, nodes, data)
    check_two_of_four(sparse, nodes)
    x = pairs()["a"]
    np.testing.assert_array_equal(run(sparse, a=x, b=x)[0], 0)
    with pytest.raises(PassError, match="shares its weight with 'node_9'"):
        sparsify(model, nodes[:1], data)
