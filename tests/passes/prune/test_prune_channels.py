"""Slicing and repairs; that the result is right is the oracle's business, in tests of the rules."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.dependency.repair import _REPAIRS, repair, repair_of
from edgeprune.dependency.solve import analyse
from edgeprune.errors import ModelError, PassError
from edgeprune.graph import model_io as graphs
from edgeprune.passes.prune.prune_channels import prune_channels
from tests.models import single, sizes

CHAIN = "g (float[1,3,4,4] x) => (float[1,4,4,4] y) { h = Conv(x, w1, b1) r = Relu(h) y = Conv(r, w2) }"
WEIGHTS = {"w1": (6, 3, 1, 1), "b1": (6,), "w2": (4, 6, 1, 1)}


def test_weights_are_sliced_and_the_dense_model_stays() -> None:
    model = single(CHAIN, **WEIGHTS)
    analysis = analyse(model)
    (group,) = analysis.groups
    keep = np.array([0, 2, 5])
    pruned = prune_channels(model, analysis, {group.id: keep})
    assert sizes(pruned) == {"w1": (3, 3, 1, 1), "b1": (3,), "w2": (4, 3, 1, 1)}
    assert sizes(model) == {name: tuple(shape) for name, shape in WEIGHTS.items()}
    dense = {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}
    np.testing.assert_array_equal(pruned.graph.initializers["w1"].const_value.numpy(), dense["w1"][keep])
    np.testing.assert_array_equal(pruned.graph.initializers["w2"].const_value.numpy(), dense["w2"][:, keep])
    shapes = {v.name: tuple(v.shape) for node in pruned.graph for v in node.outputs}
    assert shapes == {"h": (1, 3, 4, 4), "r": (1, 3, 4, 4), "y": (1, 4, 4, 4)}


def test_weights_in_a_file_are_cut_when_they_are_written(tmp_path: Path) -> None:
    model = single(CHAIN, w1=(64, 3, 1, 1), b1=(64,), w2=(4, 64, 1, 1))
    graphs.save(model, tmp_path / "dense.onnx", external_data=True)
    outside = graphs.load(tmp_path / "dense.onnx")
    analysis = analyse(model)
    cut = {analysis.groups[0].id: np.array([0, 2, 5])}
    lazy, expected = (prune_channels(m, analysis, cut) for m in (outside, model))
    assert any(isinstance(v.const_value, ir.LazyTensor) for v in lazy.graph.initializers.values())
    graphs.save(lazy, tmp_path / "pruned.onnx")
    written = graphs.load(tmp_path / "pruned.onnx")
    for name, value in expected.graph.initializers.items():
        np.testing.assert_array_equal(written.graph.initializers[name].const_value.numpy(), value.const_value.numpy())


def test_an_empty_cut_changes_nothing() -> None:
    model = single(CHAIN, **WEIGHTS)
    pruned = prune_channels(model, analyse(model), {})
    assert pruned is not model
    assert sizes(pruned) == sizes(model)


def test_half_precision_weights_stay_half() -> None:
    model = single(CHAIN, **WEIGHTS)
    for value in model.graph.initializers.values():
        half = value.const_value.numpy().astype(np.float16)
        value.const_value, value.dtype = ir.tensor(half, name=value.name), ir.DataType.FLOAT16
    for value in (*model.graph.inputs, *(v for node in model.graph for v in node.outputs)):
        value.dtype = ir.DataType.FLOAT16
    analysis = analyse(model)
    (group,) = analysis.groups
    pruned = prune_channels(model, analysis, {group.id: np.array([1, 3])})
    assert {v.const_value.dtype for v in pruned.graph.initializers.values()} == {ir.DataType.FLOAT16}


def test_a_cut_that_does_not_fit_is_refused() -> None:
    model = single(CHAIN, **WEIGHTS)
    with pytest.raises(ModelError, match="there is no group"):
        prune_channels(model, analyse(model), {"nope": np.array([0])})


def test_a_node_with_a_wrong_shape_is_named_and_no_model_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """g (float[1,3,4,4] x) => (float[1,4,4,4] y) <int64[2] s = {2, 4}> {
        h = Conv(x, w1)
        a, b = Split<axis=1>(h, s)
        c = Concat<axis=1>(b, a)
        y = Conv(c, w2)
    }"""
    model = single(text, w1=(6, 3, 1, 1), w2=(4, 6, 1, 1))
    analysis = analyse(model)
    cut = {g.id: np.arange(1) for g in analysis.groups}
    assert repair_of(next(iter(model.graph)), changed=True) is not None
    monkeypatch.delitem(_REPAIRS, "Split")
    with pytest.raises((PassError, ModelError), match="Split"):
        prune_channels(model, analysis, cut)


def test_repairs_run_on_nodes_that_change() -> None:
    seen: list[str] = []

    @repair("EdgepruneTest")
    def note(fix: object) -> None:
        seen.append("ran")

    node = ir.node("EdgepruneTest", [])
    assert repair_of(node, changed=False) is None
    assert repair_of(node, changed=True) is note


def test_a_means_repair_keeps_the_name_of_an_output() -> None:
    text = """g (float[1,3,4,4] x) => (float[1,1,4,4] y) { h = Conv(x, w1) y = ReduceMean<axes=[1]>(h) }"""
    model = single(text, w1=(6, 3, 1, 1))
    analysis = analyse(model)
    (group,) = analysis.groups
    pruned = prune_channels(model, analysis, {group.id: np.array([0, 1, 2])})
    assert [v.name for v in pruned.graph.outputs] == ["y"]
    assert [n.op_type for n in pruned.graph] == ["Conv", "ReduceMean", "Mul"]
