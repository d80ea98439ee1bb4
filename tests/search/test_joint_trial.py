"""Whole candidates, cut and refitted at once."""

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.build.x86_builder import X86Builder
from edgeprune.dependency.groups import Ranking
from edgeprune.dependency.solve import analyse
from edgeprune.importance import rank
from edgeprune.importance.context import Context
from edgeprune.latency.block_network import network
from edgeprune.passes.prune.prune_channels import prune_channels
from edgeprune.recovery.output_error import Probe
from edgeprune.search import joint_trial as module
from edgeprune.search.joint_trial import JointTrial, open_joint_trial
from edgeprune.search.pricing import typical_ranges
from edgeprune.search.problem import Candidate
from edgeprune.testing.oracle import parse
from tests.siamese import pairs, siamese
from tests.small_models import calibration, class_scores

TEXT = """
g (float[n, 4, 8, 8] x) => (float[n, 5] y) {
  h = Conv<pads=[1, 1, 1, 1]>(x, w1, b1)
  r = Relu(h)
  k = Conv<pads=[1, 1, 1, 1]>(r, w2)
  s = Relu(k)
  p = GlobalAveragePool(s)
  f = Flatten(p)
  m = MatMul(f, w3)
  y = Add(m, b3)
}
"""


class EmptyCache:
    def arrays(self, what, settings, compute):
        return compute()


def opened() -> JointTrial:
    """Channels 8 to 15 of both convolutions are twice channels 0 to 7: half of them can be removed without an error."""
    model = parse(TEXT, w1=(16, 4, 3, 3), b1=(16,), w2=(16, 16, 3, 3), w3=(16, 5), b3=(5,))
    for name in ("w1", "b1", "w2"):
        value = model.graph.initializers[name]
        array = value.const_value.numpy().copy()
        array[8:] = 2 * array[:8]
        value.const_value = ir.Tensor(array, name=name)
    analysis = analyse(model)
    data = calibration(x=np.random.default_rng(0).standard_normal((48, 4, 8, 8)).astype(np.float32))
    data = class_scores(data)
    net = network(model, analysis)
    rankings = rank("obs", model, analysis, data, 8)
    # The second channel of each pair is removed first.
    rankings = {g: Ranking(np.arange(16)[::-1].copy(), r.loss) for g, r in rankings.items()}
    builder = X86Builder(model, net, rankings, data)
    ranges = typical_ranges(model, net, data, builder, EmptyCache())
    return open_joint_trial(Context(model, analysis.groups, data), analysis, builder, Probe(model, data, 24, 1), ranges)


def candidate(trial: JointTrial, width: int, fmt: str = "fp32") -> Candidate:
    formats = tuple(fmt if fmt in f else "fp32" for f in trial.builder.network.int8_nodes)
    return Candidate(np.full(len(trial.analysis.groups), width), formats, 0.0, 0.0)


def test_duplicate_channels_are_removed_without_error() -> None:
    trial = opened()
    assert len(trial.analysis.groups) == 2
    assert trial.error(candidate(trial, 16)) == pytest.approx(0, abs=1e-9)
    # Exact except for the damping, which is 1% of the mean variance.
    half = trial.error(candidate(trial, 8))
    assert half < 1e-3
    assert trial.error(candidate(trial, 4)) > 10 * half
    refits = len(trial._refits)
    assert trial.error(candidate(trial, 8)) == half
    assert len(trial._refits) == refits


def test_int8_adds_to_the_error() -> None:
    trial = opened()
    assert trial.error(candidate(trial, 8, "int8")) > trial.error(candidate(trial, 8))


def test_layers_beyond_the_memory_limit_are_not_refitted(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = opened()
    monkeypatch.setattr(module, "COVARIANCE_BYTES", 4 * 16**2)
    small = opened()
    assert set(small.layers) < set(whole.layers)
    assert small.error(candidate(small, 8)) > whole.error(candidate(whole, 8))


def test_the_cache_of_refits_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = opened()
    first = [trial.error(candidate(trial, w)) for w in (8, 4)]
    monkeypatch.setattr(module, "CACHED_BYTES", 1)
    assert [trial.error(candidate(trial, w)) for w in (8, 4)] == first


def test_the_dense_network_is_not_changed() -> None:
    trial = opened()
    x = np.random.default_rng(1).standard_normal((4, 4, 8, 8)).astype(np.float32)
    before = OnnxRuntime().load(trial.dense).run({"x": x})[0]
    trial.error(candidate(trial, 4, "int8"))
    np.testing.assert_array_equal(OnnxRuntime().load(trial.dense).run({"x": x})[0], before)


def test_a_candidate_that_drops_a_branch() -> None:
    text = """
    g (float[n, 16, 8, 8] x) => (float[n, 5, 8, 8] y) {
      h = Conv<pads=[1, 1, 1, 1]>(x, w1, b1)
      r = Relu(h)
      k = Conv(r, w2)
      s = Add(k, x)
      t = Relu(s)
      y = Conv(t, w3)
    }
    """
    model = parse(text, w1=(24, 16, 3, 3), b1=(24,), w2=(16, 24, 1, 1), w3=(5, 16, 1, 1))
    analysis = analyse(model)
    assert len(analysis.groups) == 1
    x = np.random.default_rng(0).standard_normal((32, 16, 8, 8)).astype(np.float32)
    data = calibration(x=x)
    net = network(model, analysis)
    builder = X86Builder(model, net, rank("l2", model, analysis), data)
    trial = open_joint_trial(Context(model, analysis.groups, data), analysis, builder, Probe(model, data, 32, 1), {})
    dropped = Candidate(np.array([0]), tuple("fp32" for _ in net.blocks), 0.0, 0.0)
    plain = trial.probe.error(prune_channels(model, analysis, builder.cut(np.array([0]))))
    assert 0 < trial.error(dropped) < plain
    delivered = builder.float_model(np.array([0]))
    assert [n.op_type for n in delivered.graph] == ["Conv", "Relu", "Conv"]
    assert trial.probe.error(delivered) < trial.error(dropped)
    in_int8 = builder.build(np.array([0]), candidate(trial, 0, "int8").formats)
    assert sum(n.op_type == "QuantizeLinear" for n in in_int8.graph) >= 2
    # The noise of 8 bits: two roundings of activations, each with about 1e-5 of their variance.
    assert trial.probe.error(in_int8) < trial.probe.error(delivered) + 1e-3
    assert net.geometries[0].features(np.array([0]), net.sizes, 16).tolist() == [0.0] * 6
    assert net.geometries[1].features(np.array([0]), net.sizes, 16)[:3].tolist() == [1.0, 0.0, 0.0]


def test_a_shared_layer_is_refitted_once_for_all_its_inputs() -> None:
    model, feeds = siamese(), pairs(48)
    analysis, data = analyse(model), calibration(**feeds)
    net = network(model, analysis)
    builder = X86Builder(model, net, rank("l2", model, analysis, data, 8), data)
    trial = open_joint_trial(Context(model, analysis.groups, data), analysis, builder, Probe(model, data, 24, 1), {})
    widths = net.sizes * 3 // 4
    cut = trial._cut(builder.cut(widths))
    same = OnnxRuntime().load(cut).run({"a": feeds["a"], "b": feeds["a"]})[0]
    np.testing.assert_array_equal(same, 0)
    plain = prune_channels(model, analysis, builder.cut(widths))
    assert trial.probe.error(cut) < trial.probe.error(plain)
