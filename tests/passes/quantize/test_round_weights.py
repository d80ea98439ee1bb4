"""Rounded weights: on the grid, no worse for any layer, and biases that keep means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from edgeprune.calibration.calibration import Calibration, open_calibration
from edgeprune.graph.linear_layers import find_linears
from edgeprune.graph.qdq import asymmetric_scale, quantize_weight
from edgeprune.graph.set_weights import layer_matrix
from edgeprune.passes.quantize.round_weights import fake_quantizer, round_weights
from edgeprune.passes.x86.quantize_x86 import quantize_x86
from tests.passes.models import parse, random, run
from tests.siamese import pairs, siamese
from tests.small_models import calibration

NETWORK = """
net (float[n,4,9,9] x) => (float[n,5] y) {
    a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1, b1)
    r = Relu(a)
    d = Conv<group=8, kernel_shape=[3,3]>(r, w2)
    p = GlobalAveragePool(d)
    f = Flatten(p)
    y = Gemm<transB=1>(f, w3, b3)
}"""
LAYERS = ["a", "d", "y"]


@pytest.fixture
def model() -> ir.Model:
    found = parse(
        NETWORK,
        w1=random(8, 4, 3, 3, seed=1),
        b1=random(8, seed=2),
        w2=random(8, 1, 3, 3, seed=3),
        w3=random(5, 8, seed=5),
        b3=random(5, seed=6),
    )
    for node in found.graph:
        node.name = str(node.outputs[0].name)
    return found


@pytest.fixture
def samples() -> NDArray[Any]:
    return 1 + random(48, 1, 9, 9, seed=7) + 0.3 * random(48, 4, 9, 9, seed=8)


@pytest.fixture
def data(model: ir.Model, samples: NDArray[Any], tmp_path: Path) -> Calibration:
    np.savez(tmp_path / "x.npz", x=samples)
    return open_calibration(str(tmp_path / "x.npz"), model)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_quantizer_finds_the_grid_and_changes_nothing_more(model: ir.Model, data: Calibration, bits: int) -> None:
    rounded = round_weights(model, LAYERS, data, weight_bits=bits)
    for layer in find_linears(rounded).values():
        for w in layer_matrix(rounded, layer):
            integers, scale, _ = quantize_weight(w.astype(np.float32), 0, bits)
            np.testing.assert_allclose(integers * scale[:, None], w, rtol=1e-6, atol=1e-7)


def test_a_layer_alone_loses_no_more_than_by_rounding_to_nearest(
    model: ir.Model, data: Calibration, samples: NDArray[Any]
) -> None:
    """At 4 bits, where rounding matters most; outputs of the first layer per channel, without their mean."""
    wanted = run(_first_layer(model), x=samples)[0]

    def error(search: bool) -> NDArray[Any]:
        found = round_weights(model, ["a"], data, weight_bits=4, search=search)
        return np.asarray((run(_first_layer(found), x=samples)[0] - wanted).var(axis=(0, 2, 3)))

    best, nearest = error(True), error(False)
    assert (best <= nearest * 1.02).all(), "2%: patches are sampled, the damping counts as data"
    assert best.sum() < 0.6 * nearest.sum()


def test_the_bias_takes_up_a_known_shift(model: ir.Model, data: Calibration, samples: NDArray[Any]) -> None:
    """Inputs that clip at 1 lose a mean of E[x] - E[min(x, 1)]: the means of the outputs stay the same."""
    scale, zero = asymmetric_scale(-1.0, 1.0)
    quantizers = {"x": fake_quantizer(float(scale), int(zero), 0, 255)}
    clipped = quantizers["x"](samples)
    assert samples.mean() - clipped.mean() > 0.3
    wanted = run(_first_layer(model), x=samples)[0].mean(axis=(0, 2, 3))
    without = run(_first_layer(model), x=clipped)[0].mean(axis=(0, 2, 3))
    found = round_weights(model, ["a"], data, quantizers=quantizers, search=False)
    corrected = run(_first_layer(found), x=clipped)[0].mean(axis=(0, 2, 3))
    assert np.abs(without - wanted).max() > 0.1
    np.testing.assert_allclose(corrected, wanted, atol=1e-4)


def test_int8_layers_keep_the_mean(model: ir.Model, data: Calibration, samples: NDArray[Any]) -> None:
    bounds = {"x": (float(samples.min()), 1.5), "a": (-40.0, 40.0)}
    scale, zero = asymmetric_scale(*bounds["x"])
    quantizers = {"x": fake_quantizer(float(scale), int(zero), 0, 255)}
    wanted = run(_first_layer(model), x=samples)[0].mean(axis=(0, 2, 3))
    found = _first_layer(round_weights(model, ["a"], data, quantizers=quantizers))
    got = run(quantize_x86(found, ["a"], bounds), x=samples)[0].mean(axis=(0, 2, 3))
    np.testing.assert_allclose(got, wanted, atol=80 / 255 / 4)


def test_a_layer_behind_an_affine_op_sees_the_quantized_values_before_it(
    data: Calibration, samples: NDArray[Any]
) -> None:
    """A shift of 0.004, a tenth of a step, and a clip: only the input of the affine ops is quantized."""
    text = """
    g (float[n, 4, 9, 9] x) => (float[n, 4, 9, 9] y) <float two = {2}, float bit = {0.004}> {
      s = Mul(x, two)
      t = Add(s, bit)
      u = Relu(t)
      y = Conv(u, w, b)
    }
    """
    model = parse(text, w=random(4, 4, 1, 1, seed=9), b=random(4, seed=10))
    nodes = [str(n.name) for n in model.graph]
    bounds = {"x": (-5.0, 5.0), "y": (-30.0, 30.0)}
    scale, zero = asymmetric_scale(*bounds["x"])
    quantizers = {"x": fake_quantizer(float(scale), int(zero), 0, 255)}
    wanted = run(model, x=samples)[0].mean(axis=(0, 2, 3))
    found = round_weights(model, nodes, data, quantizers=quantizers)
    got = run(quantize_x86(found, nodes, bounds), x=samples)[0].mean(axis=(0, 2, 3))
    # The step of y is 60 / 255; the mean of many of its roundings is much closer.
    np.testing.assert_allclose(got, wanted, atol=60 / 255 / 4)


def test_other_layers_stay(model: ir.Model, data: Calibration) -> None:
    rounded = round_weights(model, ["a", "r"], data)
    for name in ("w2", "w3", "b3"):
        np.testing.assert_array_equal(_array(rounded, name), _array(model, name))


def _first_layer(model: ir.Model) -> ir.Model:
    from edgeprune.graph import with_outputs

    return with_outputs(model, ["a"])


def _array(model: ir.Model, name: str) -> NDArray[Any]:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


def test_layers_that_share_a_weight_keep_sharing_weight_and_bias() -> None:
    model, data = siamese(), calibration(**pairs())
    layers = list(find_linears(model))
    rounded = round_weights(model, layers, data, search=False)
    x = pairs()
    np.testing.assert_array_equal(run(rounded, a=x["a"], b=x["a"])[0], 0)
    shared = [str(v.name) for v in rounded.graph.initializers.values() if len(tuple(v.uses())) == 2]
    assert sorted(shared) == ["b1", "b2", "b3", "w1", "w2", "w3"]
    matrix = layer_matrix(rounded, find_linears(rounded)["node_0"])[0]
    integers, scale, _ = quantize_weight(matrix, 0)
    np.testing.assert_allclose(integers * scale[:, None], matrix, rtol=1e-5, atol=1e-7)
    assert (
        rounded.graph.initializers["b1"].const_value.numpy() != model.graph.initializers["b1"].const_value.numpy()
    ).any()
