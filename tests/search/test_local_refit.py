"""Cut one group and refit its consumers."""

import numpy as np
import onnx_ir as ir

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.dependency.solve import analyse
from edgeprune.importance.context import Context
from edgeprune.importance.obs import obs
from edgeprune.passes.prune.prune_channels import prune_channels
from edgeprune.search.local_refit import cut_and_refit
from edgeprune.testing.oracle import parse
from tests.siamese import pairs, siamese
from tests.small_models import calibration

TEXT = """
g (float[n, 4, 8, 8] x) => (float[n, 5, 8, 8] y) {
  h = Conv<pads=[1, 1, 1, 1]>(x, w1, b1)
  r = Relu(h)
  y = Conv(r, w2, b2)
}
"""


def test_duplicate_channels_are_removed_without_error() -> None:
    model = parse(TEXT, w1=(8, 4, 3, 3), b1=(8,), w2=(5, 8, 1, 1), b2=(5,))
    for name in ("w1", "b1"):
        value = model.graph.initializers[name]
        array = value.const_value.numpy().copy()
        array[6:] = 2 * array[1:3]
        value.const_value = ir.Tensor(array, name=name)
    analysis = analyse(model)
    (group,) = analysis.groups
    images = np.random.default_rng(0).standard_normal((32, 4, 8, 8)).astype(np.float32)
    context = Context(model, analysis.groups, calibration(x=images), refits={})
    order = obs(context)[group.id].order
    assert set(order[:2] % 5) == {1, 2}
    kept = np.sort(order[2:])
    assert 6 in context.refits[group.id].matrices
    refitted = cut_and_refit(context, analysis, group, kept, context.refits[group.id])
    plain = prune_channels(model, analysis, {group.id: kept})
    runtime = OnnxRuntime()
    want, got, cut = (runtime.load(m).run({"x": images})[0] for m in (model, refitted, plain))
    scale = np.abs(want).max()
    # Exact except for the damping, which is 1% of the mean variance.
    assert np.abs(want - got).max() / scale < 0.01
    assert np.abs(want - cut).max() / scale > 0.1


def test_a_dropped_branch_leaves_its_mean() -> None:
    text = """
    g (float[n, 8, 8, 8] x) => (float[n, 8, 8, 8] y) {
      h = Conv<pads=[1, 1, 1, 1]>(x, w1, b1)
      r = Relu(h)
      k = Conv(r, w2, b2)
      s = Add(k, x)
      y = Neg(s)
    }
    """
    model = parse(text, w1=(24, 8, 3, 3), b1=(24,), w2=(8, 24, 1, 1), b2=(8,))
    analysis = analyse(model)
    images = np.random.default_rng(0).standard_normal((32, 8, 8, 8)).astype(np.float32)
    context = Context(model, analysis.groups, calibration(x=images), refits={})
    obs(context)
    (group,) = analysis.groups
    refitted = cut_and_refit(context, analysis, group, np.zeros(0, np.int64), context.refits[group.id])
    runtime = OnnxRuntime()
    want, got = (-runtime.load(m).run({"x": images})[0] - images for m in (model, refitted))
    # Float32 sums of 2048 values.
    np.testing.assert_allclose(got, np.broadcast_to(want.mean(axis=(0, 2, 3), keepdims=True), got.shape), atol=1e-4)


def test_a_shared_layer_is_refitted_once_for_all_its_inputs() -> None:
    model, feeds = siamese(), pairs(48)
    analysis = analyse(model)
    context = Context(model, analysis.groups, calibration(**feeds), refits={})
    orders = obs(context)
    runtime = OnnxRuntime()
    for group in analysis.groups:
        refits = context.refits[group.id]
        kept = np.sort(orders[group.id].order[-max(refits.matrices) :])
        plain = prune_channels(model, analysis, {group.id: kept})
        refitted = cut_and_refit(context, analysis, group, kept, refits)
        want, cut, got = (runtime.load(m).run(feeds)[0] for m in (model, plain, refitted))
        assert np.square(want - got).mean() < np.square(want - cut).mean()
        same = runtime.load(refitted).run({"a": feeds["a"], "b": feeds["a"]})[0]
        np.testing.assert_array_equal(same, 0)
