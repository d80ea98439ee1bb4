"""Reordered channels compute the same, and 2:4 loses less."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.dependency.groups import Group
from edgeprune.dependency.solve import analyse
from edgeprune.passes.prune.permute_channels import permute_channels
from edgeprune.passes.prune.sparsify import sparsify
from edgeprune.testing.oracle import feeds_for, parse
from tests.passes.models import run

RESIDUAL = """
g (float[2, 8, 6, 6] x) => (float[2, 5] y) {
  a = Conv(x, w1, b1)
  r = Relu(a)
  d = Conv<kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=16>(r, w2)
  e = Conv(d, w3)
  s = Add(e, r)
  p = GlobalAveragePool(s)
  f = Flatten(p)
  y = Gemm<transB=1>(f, w4, b4)
}
"""
CONCAT = """
g (float[2, 8, 6, 6] x) => (float[2, 8, 6, 6] y) {
  a = Conv(x, w1)
  b = Conv(x, w2)
  c = Concat<axis=1>(a, b)
  y = Conv(c, w3)
}
"""


def residual() -> ir.Model:
    model = parse(
        RESIDUAL,
        w1=(16, 8, 1, 1),
        b1=(16,),
        w2=(16, 1, 3, 3),
        w3=(16, 16, 1, 1),
        w4=(5, 16),
        b4=(5,),
    )
    for name in ("w3", "w4"):  # the first channels of every eight matter most: their own order is a bad one
        value = model.graph.initializers[name]
        array = value.const_value.numpy().copy()
        array[:, np.arange(16) % 8 >= 4] *= 0.02
        value.const_value = ir.Tensor(array, name=name)
    return model


def groups_of(model: ir.Model) -> tuple[Group, ...]:
    return analyse(model).groups


def layers_of(model: ir.Model, *values: str) -> list[str]:
    return [str(n.name) for n in model.graph if n.outputs[0].name in values]


def test_the_outputs_stay_and_weights_move() -> None:
    model = residual()
    layers = layers_of(model, "e", "y")
    permuted = permute_channels(model, groups_of(model), layers)
    feeds = feeds_for(model, 0)
    np.testing.assert_allclose(run(permuted, **feeds)[0], run(model, **feeds)[0], rtol=1e-5, atol=1e-6)
    assert (_array(permuted, "w3") != _array(model, "w3")).any()


def test_two_of_four_loses_less_in_the_new_order() -> None:
    model = residual()
    layers = layers_of(model, "e", "y")
    feeds = feeds_for(model, 0)
    wanted = run(model, **feeds)[0]

    def error(groups: tuple[Group, ...]) -> float:
        sparse = sparsify(model, layers, None, method="magnitude", groups=groups)
        return float(((run(sparse, **feeds)[0] - wanted) ** 2).mean())

    assert error(groups_of(model)) < 0.2 * error(())


def test_channels_that_share_an_axis_with_others_stay() -> None:
    model = parse(CONCAT, w1=(8, 8, 1, 1), w2=(8, 8, 1, 1), w3=(8, 16, 1, 1))
    permuted = permute_channels(model, groups_of(model), layers_of(model, "y"))
    for name in ("w1", "w2", "w3"):
        np.testing.assert_array_equal(_array(permuted, name), _array(model, name))


def _array(model: ir.Model, name: str) -> np.ndarray:
    return model.graph.initializers[name].const_value.numpy()
