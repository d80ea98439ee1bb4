"""Networks with choices are compared, refitted and learned before them, or with the original's."""

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.calibration.comparable import open_comparable
from edgeprune.dependency.solve import analyse
from edgeprune.importance.context import Context
from edgeprune.importance.gradient import fisher
from edgeprune.outputs.choice import Choice
from edgeprune.outputs.find import find_outputs
from edgeprune.passes.prune.prune_channels import prune_channels
from edgeprune.passes.recover.compensate import compensate
from edgeprune.passes.recover.reconstruct import reconstruct, split_for_learning
from edgeprune.testing.oracle import parse
from tests.small_heads import HEADS, head
from tests.small_models import calibration, classifier, images

RNG = np.random.default_rng(0)


def samples(rows: int = 16) -> np.ndarray:
    return RNG.standard_normal((rows, 3, 8, 8)).astype(np.float32)


def test_a_model_without_a_choice_is_compared_as_it_is() -> None:
    model = classifier()
    data = calibration(x=images(8))
    found = open_comparable(model, data)
    assert found.of(model) is model
    assert found.data(data) is data


def test_a_choice_inside_is_fed_with_the_originals() -> None:
    model, data = head("queries"), calibration(x=samples())
    found = open_comparable(model, data)
    (feeds,) = found.data(data).batches(16)
    assert sorted(feeds) == ["picked", "x"]
    given = OnnxRuntime().load(found.of(model)).run(feeds)
    (plain,) = OnnxRuntime().load(model).run({"x": feeds["x"]})
    np.testing.assert_array_equal(given[0], plain)


def test_a_choice_whose_values_are_used_as_well_is_no_input() -> None:
    """As the gate of a mixture of experts. Refits run through it."""
    model = parse(
        """g (float[n,8,16] x) => (float[n,4,9] y)
        <int64[1] four = {4}, int64[1] last = {-1}, int64[3] wide = {1,1,16}> {
            h = MatMul(x, w1) t = Relu(h) b = ReduceMax<axes=[-1], keepdims=0>(t) v, picked = TopK<axis=1>(b, four)
            i = Unsqueeze(picked, last) e = Expand(i, wide) q = GatherElements<axis=1>(t, e)
            s = Sigmoid(v) u = Unsqueeze(s, last) g = Mul(q, u) y = MatMul(g, w2)
        }""",
        w1=(16, 16),
        w2=(16, 9),
    )
    data = calibration(x=RNG.standard_normal((16, 8, 16)).astype(np.float32))
    found = open_comparable(model, data)
    assert found.of(model) is model
    analysis = analyse(model)
    cut = {g.id: np.arange(g.size // 2) for g in analysis.groups}
    assert cut
    refitted = compensate(model, prune_channels(model, analysis, cut), analysis, cut, data)
    assert OnnxRuntime().load(refitted).run(next(iter(data.batches(16))))[0].shape == (16, 4, 9)


def test_weights_of_the_user_go_to_what_is_compared() -> None:
    model, data = head("classifier"), calibration(x=samples())
    outputs = OnnxRuntime().load(model).run(next(iter(data.batches(16))))
    chosen = Choice.parse("index=2").applied_to(find_outputs(model, [outputs]))
    kinds = open_comparable(model, data.judging(chosen)).data(data).outputs
    assert [(s.names, s.kind, s.weight) for s in kinds.specs] == [(("p",), "class scores", 1.0)]


@pytest.mark.parametrize("name", [n for n in HEADS if n != "suppressed"])
def test_heads_that_end_in_a_choice_are_refitted_and_learned(name: str) -> None:
    model: ir.Model = head(name)
    data = calibration(8, x=samples(160))
    analysis = analyse(model)
    cut = {g.id: np.arange(g.size * 3 // 4) for g in analysis.groups}
    pruned = prune_channels(model, analysis, cut)
    fit, probe = split_for_learning(model, data)
    refitted = compensate(model, pruned, analysis, cut, data)
    learned = reconstruct(model, refitted, fit, probe, kept=analysis.kept(cut))
    assert [str(o.name) for o in refitted.graph.outputs] == [str(o.name) for o in model.graph.outputs]
    assert probe.error(refitted) < 0.6 * probe.error(pruned)
    assert learned is not None
    assert probe.error(learned) < probe.error(refitted)


@pytest.mark.parametrize("name", ["classifier", "end to end", "queries"])
def test_gradients_reach_layers_before_a_choice(name: str) -> None:
    model = head(name)
    rankings = fisher(Context(model, analyse(model).groups, calibration(8, x=samples(32))))
    assert all(np.ptp(r.loss) > 0 for r in rankings.values())
