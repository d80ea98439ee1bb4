"""Learned weights of a candidate, on a network small enough to learn in a second."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.build import Kept, Learning, Trained, learning
from edgeprune.build.x86_builder import X86Builder
from edgeprune.calibration import Calibration
from edgeprune.dependency.solve import analyse
from edgeprune.errors import ModelError
from edgeprune.graph import model_io as graph
from edgeprune.graph import warnings_of
from edgeprune.importance import rank
from edgeprune.latency.block_network import network
from edgeprune.recovery.output_error import Probe
from edgeprune.report import Training
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
    monkeypatch.setattr(learning, "reconstruct", lambda *_, **__: pytest.fail("learned again"))
    assert builder.recover(widths, formats) == stayed
    assert builder.build(widths, formats) is model


def test_nothing_is_learned_if_int8_and_not_the_cut_causes_the_error(
    builder: X86Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths, formats = np.array([16, 8]), ["fp32"] * len(builder.network.blocks)
    before, built = builder.float_model(widths), builder.build(widths, formats)
    worse = graph.clone(built)
    worse.graph.initializers["b3"].const_value = ir.Tensor(10 * normal(5), name="b3")
    monkeypatch.setattr(learning, "reconstruct", lambda *_, **__: pytest.fail("learned"))
    monkeypatch.setattr(X86Builder, "simulated", lambda _, model: worse if model is built else model)
    assert not builder.recover(widths, formats)
    assert builder.float_model(widths) is before


def fresh(builder: X86Builder, learning: Learning) -> X86Builder:
    """A builder that has built nothing yet."""
    return replace(
        builder, learning=learning, after_training={}, before_learning={}, _built={}, _float_models={}, _learned={}
    )


class Teaching:
    """A training that notes what it was given; the trained network has another bias."""

    def __init__(self, *, gains: bool = True) -> None:
        self.gains, self.built, self.kept, self.shares = gains, list[ir.Model](), list[Kept](), list[float]()

    def __call__(
        self, dense: ir.Model, before: ir.Model, built: ir.Model, kept: Kept, data: Calibration, share: float
    ) -> Trained | None:
        self.built.append(built)
        self.kept.append(kept)
        self.shares.append(share)
        trained = graph.clone(built)
        return Trained(trained, Training({}, "all", 1, 1, 1, 1, 1.0, True, 0.0, ())) if self.gains else None


def test_the_built_network_is_trained_after_its_weights_were_learned(builder: X86Builder) -> None:
    widths, formats = np.array([8, 8]), ["fp32"] * len(builder.network.blocks)
    teaching = Teaching()
    made = fresh(builder, Learning(train=teaching))
    before = made.build(widths, formats)
    assert made.recover(widths, formats)
    assert made.build(widths, formats) is made.after_training[widths.tobytes(), tuple(formats)].model
    assert teaching.built[0] is not before  # it is the one with learned weights
    assert {len(kept) for kept in teaching.kept[0].values()} == {8}
    assert teaching.shares == [1.0]
    assert made.recover(widths, formats)
    assert len(teaching.built) == 1  # nothing is trained twice
    assert made.train(widths, formats, 0.1) is not None
    assert teaching.shares == [1.0, 0.1]


@pytest.mark.parametrize("teaching", [None, Teaching(gains=False)])
def test_without_learning_or_gain_a_candidate_stays(builder: X86Builder, teaching: Teaching | None) -> None:
    widths, formats = np.array([8, 8]), ["fp32"] * len(builder.network.blocks)
    made = fresh(builder, Learning(fast=False, train=teaching))
    before = made.build(widths, formats)
    assert not made.recover(widths, formats)
    assert made.build(widths, formats) is before
    assert not made.after_training


def test_a_training_that_fails_keeps_the_result_and_says_so(builder: X86Builder) -> None:
    def fails(*_: object) -> None:
        raise ModelError("the loss is nan at step 3")

    widths, formats = np.array([8, 8]), ["fp32"] * len(builder.network.blocks)
    made = fresh(builder, Learning(fast=False, train=fails))
    before = made.build(widths, formats)
    assert not made.recover(widths, formats)
    assert made.build(widths, formats) is before
    said = warnings_of(made.float_model(widths))
    assert said == ("the training failed, and the result is as it was before: the loss is nan at step 3",)
