"""Changed copies of a network, run from where they differ: the same outputs, less work."""

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.calibration.partial_run import PartialRuns, frontier, unchanged
from edgeprune.dependency.solve import analyse
from edgeprune.graph import model_io as graph
from edgeprune.graph import with_outputs
from edgeprune.passes.prune.prune_channels import prune_channels
from tests.small_models import build, normal


def network() -> ir.Model:
    """A trunk with a skip connection and two outputs, one of them early."""
    return build(
        """g (float[n, 4] x) => (float[n, 5] y, float[n, 6] early) {
            [one] a = MatMul(x, w1)
            [relu] r = Relu(a)
            [two] early = MatMul(r, w2)
            [three] t = MatMul(r, w3)
            [four] f = Tanh(t)
            [five] s = MatMul(f, w4)
            [sum] u = Add(s, early)
            [six] y = MatMul(u, w5)
        }""",
        w1=normal(4, 8),
        w2=normal(8, 6),
        w3=normal(8, 7),
        w4=normal(7, 6),
        w5=normal(6, 5),
    )


def feeds(count: int = 3) -> list[dict[str, np.ndarray]]:
    return [{"x": normal(2, 4, seed=i)} for i in range(count)]


def with_other_weight(model: ir.Model, name: str) -> ir.Model:
    copy = graph.clone(model)
    value = copy.graph.initializers[name]
    value.const_value = ir.tensor(2 * value.const_value.numpy(), name=name)
    return copy


def whole(model: ir.Model) -> list[np.ndarray]:
    runner = OnnxRuntime().load(model)
    batches = [runner.run(batch) for batch in feeds()]
    return [np.concatenate(outputs) for outputs in zip(*batches, strict=True)]


class Counted:
    """Which nodes onnxruntime is given, session by session."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nodes: list[list[str]] = []
        load = OnnxRuntime.load

        def counting(runtime: OnnxRuntime, model: ir.Model, **options: object):
            self.nodes.append([str(n.name) for n in model.graph])
            return load(runtime, model)

        monkeypatch.setattr(OnnxRuntime, "load", counting)


@pytest.mark.parametrize("weight", ["w1", "w2", "w3", "w4", "w5"])
def test_outputs_are_those_of_the_whole_copy(weight: str) -> None:
    model = network()
    copy = with_other_weight(model, weight)
    for got, want in zip(PartialRuns(model, feeds(), 1).outputs(copy), whole(copy), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


def test_forgotten_values_are_computed_again() -> None:
    model = network()
    runs, copy = PartialRuns(model, feeds(), 1), with_other_weight(model, "w4")
    first = runs.outputs(copy)
    assert runs._cached
    runs.forget()
    assert not runs._cached
    for got, want in zip(runs.outputs(copy), first, strict=True):
        np.testing.assert_array_equal(got, want)


def test_only_what_changed_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    runs = PartialRuns(model, feeds(), 1)
    counted = Counted(monkeypatch)
    runs.outputs(with_other_weight(model, "w3"))
    assert counted.nodes == [["one", "relu", "two"], ["three", "four", "five", "sum", "six"]]
    runs.outputs(with_other_weight(model, "w4"))  # from what is held by now
    assert counted.nodes[2:] == [["three", "four"], ["five", "sum", "six"]]
    runs.outputs(with_other_weight(model, "w4"))
    assert counted.nodes[4:] == [["five", "sum", "six"]]
    runs.outputs(graph.clone(model))
    assert len(counted.nodes) == 5


@pytest.mark.parametrize("held", [0, 100, 250])
def test_with_little_room_results_are_the_same(held: int) -> None:
    model = network()
    runs = PartialRuns(model, feeds(), 1, held)
    for weight in ("w4", "w2", "w5", "w3"):
        copy = with_other_weight(model, weight)
        for got, want in zip(runs.outputs(copy), whole(copy), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)
        assert sum(a.nbytes for arrays in runs._cached.values() for a in arrays) <= held


def test_a_cut_network_runs_from_the_layer_that_was_cut() -> None:
    model = network()
    analysis = analyse(model)
    group = next(g for g in analysis.groups if any((m.value, m.axis) == ("w3", 1) for m in g.members))
    pruned = prune_channels(model, analysis, {group.id: np.arange(3)})
    same = unchanged(model, pruned)
    assert {"a", "r", "early"} <= same
    assert not {"t", "f", "s", "u", "y"} & same
    assert frontier(pruned, same) == ({"r", "early"}, True)
    for got, want in zip(PartialRuns(model, feeds(), 1).outputs(pruned), whole(pruned), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


def test_nodes_that_differ_in_an_attribute_or_an_input_are_not_the_same() -> None:
    text = "g (float[2, 4] x) => (float[2, 4] y) { [soft] s = Softmax<axis = %d>(x) [end] y = Add(s, %s) }"
    model, turned, other = (build(text % what) for what in ((1, "x"), (0, "x"), (1, "s")))
    assert unchanged(model, graph.clone(model)) == {"x", "s", "y"}
    assert unchanged(model, turned) == {"x"}
    assert unchanged(model, other) == {"x", "s"}


def test_a_branch_may_read_what_no_node_is_given() -> None:
    model = build(
        """g (float[2, 4] x) => (float[2, 5] y) {
            [one] a = MatMul(x, w1)
            [two] s = ReduceSum<keepdims = 0>(x)
            [three] c = Cast<to = 9>(s)
            [four] b = If (c) <
                then_branch = t () => (float[2, 6] p) { p = Tanh(a) },
                else_branch = e () => (float[2, 6] q) { q = Neg(a) }>
            [five] y = MatMul(b, w2)
        }""",
        w1=normal(4, 6),
        w2=normal(6, 5),
    )
    for weight in ("w1", "w2"):
        copy = with_other_weight(model, weight)
        for got, want in zip(PartialRuns(model, feeds(), 1).outputs(copy), whole(copy), strict=True):
            np.testing.assert_array_equal(got, want)


def test_a_part_has_the_given_inputs_and_outputs() -> None:
    part = with_outputs(network(), ["u"], ["r", "early"])
    assert [v.name for v in part.graph.inputs] == ["r", "early"]
    assert [n.name for n in part.graph] == ["three", "four", "five", "sum"]
    assert set(part.graph.initializers) == {"w3", "w4"}
