"""Learned weights of a candidate, on a network small enough to learn in a second."""

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.build import model_builder
from edgeprune.build.x86_builder import X86Builder
from edgeprune.dependency.solve import analyse
from edgeprune.graph import model_io as graph
from edgeprune.importance import rank
from edgeprune.latency.block_network import network
from edgeprune.recovery.output_error import Probe
from tests.small_models import calibration, classifier, images, normal


@pytest.fixture(scope="module")
def builder() -> X86Builder:
    dense = classifier()
    analysis = analyse(dense)
    fixed = graph.infer_shapes(graph.clone(dense), {"x": (1, 3, 8, 8)})
    data = calibration(x=images(256))
    return X86Builder(dense, network(dense, analysis, fixed), rank("l2", dense, analysis), data)


@pytest.mark.parametrize("form", ["fp32", "int8"])
def test_recovered_weights_are_built_from_then_on(builder: X86Builder, form: str) -> None:
    widths = np.array([8, 8])
    available = [form if form in nodes else "fp32" for nodes in builder.network.int8_nodes]
    probe = Probe(builder.dense, calibration(x=images(128, seed=9)), 128, 1)
    before = builder.build(widths, available)
    stayed = builder.recover(widths, available)
    after = builder.build(widths, available)
    assert stayed == (after is not before)
    assert [n.op_type for n in after.graph] == [n.op_type for n in before.graph]
    if form == "fp32":
        assert stayed
        assert probe.error(after) < probe.error(before)


def test_an_uncut_network_is_not_changed(builder: X86Builder) -> None:
    widths, formats = np.array([16, 16]), ["fp32"] * len(builder.network.blocks)
    assert not builder.recover(widths, formats)
    assert builder.float_model(widths) is builder.dense


def test_nothing_is_learned_twice(builder: X86Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    widths, formats = np.array([8, 16]), ["fp32"] * len(builder.network.blocks)
    stayed = builder.recover(widths, formats)
    model = builder.build(widths, formats)
    monkeypatch.setattr(model_builder, "reconstruct", lambda *_, **__: pytest.fail("learned again"))
    assert builder.recover(widths, formats) == stayed
    assert builder.build(widths, formats) is model


def test_nothing_is_learned_if_int8_and_not_the_cut_causes_the_error(
    builder: X86Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths, formats = np.array([16, 8]), ["fp32"] * len(builder.network.blocks)
    before, built = builder.float_model(widths), builder.build(widths, formats)
    worse = graph.clone(built)
    worse.graph.initializers["b3"].const_value = ir.Tensor(10 * normal(5), name="b3")
    monkeypatch.setattr(model_builder, "reconstruct", lambda *_, **__: pytest.fail("learned"))
    monkeypatch.setattr(X86Builder, "simulated", lambda _, model: worse if model is built else model)
    assert not builder.recover(widths, formats)
    assert builder.float_model(widths) is before
