"""Latency and loss of each layer: the losses add up, and belong to the layer that produces the cut channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import edgeprune
from edgeprune.backends import tensorrt_rtx
from edgeprune.backends.block_trace import Trace
from edgeprune.build.tensorrt_builder import TensorRtBuilder
from edgeprune.compiler.layer_details import first_producers, layer_losses, with_times
from edgeprune.dependency.solve import analyse
from edgeprune.latency.block_network import network
from edgeprune.report.model import Layer
from edgeprune.search.solver import Candidate, Problem
from tests import residual
from tests.models import single


@pytest.fixture(scope="module")
def model() -> ir.Model:
    return single(
        """g (float[1,3,8,8] x) => (float[1,4,8,8] y) {
            [first] a = Conv(x, w1) [relu] b = Relu(a)
            [second] c = Conv(b, w2) [add] d = Add(c, b)
            [last] y = Conv(d, w3)
        }""",
        w1=(8, 3, 1, 1),
        w2=(8, 8, 1, 1),
        w3=(4, 8, 1, 1),
    )


def problem(widths: Sequence[Sequence[int]], losses: Sequence[Sequence[float]], formats: Sequence[Mapping[str, float]]):
    levels = tuple(np.array(w, dtype=np.int64) for w in widths)
    return Problem(None, levels, tuple(np.array(v) for v in losses), tuple(formats))  # type: ignore[arg-type]


def test_a_group_belongs_to_the_first_block_that_produces_it(model: ir.Model):
    net = network(model, analyse(model))
    assert [block.anchor for block in net.blocks] == ["first", "second", "last"]
    assert first_producers(net) == [0]  # the addition joins the outputs of the first two blocks


def test_the_losses_add_up(model: ir.Model):
    net = network(model, analyse(model))
    priced = problem([[4, 8]], [[0.5, 0.0]], [{"fp32": 0.0}, {"fp32": 0.0, "int8": 0.25}, {"fp32": 0.0, "int8": 0.125}])
    candidate = Candidate(np.array([4]), ("fp32", "int8", "fp32"), 1.0, 0.75)
    losses = layer_losses(net, priced, candidate)
    np.testing.assert_array_equal(losses, [0.5, 0.25, 0.0])
    assert losses.sum() == candidate.loss
    between = layer_losses(net, priced, Candidate(np.array([6]), ("fp32",) * 3, 1.0, 0.0))
    np.testing.assert_allclose(between, [0.25, 0.0, 0.0], atol=1e-15)


def test_latencies_belong_to_their_layers(model: ir.Model):
    net = network(model, analyse(model))
    layers = [Layer(block.anchor, block.nodes, "fp32", 1.0, loss=0.5) for block in net.blocks]
    seen = []

    def tracer(timed: ir.Model, block_of: Mapping[str, int], seconds: float) -> Trace:
        seen.append(timed)
        assert block_of["relu"] == block_of["first"] == 0
        return Trace({0: 10.0 * len(seen), 2: 5.0}, 20.0)

    other = single("g (float[1] x) => (float[1] y) { y = Relu(x) }")
    found = with_times(layers, net.blocks, model, other, tracer)
    assert [(f.dense_us, f.measured_us, f.loss) for f in found] == [(10.0, 20.0, 0.5), (0.0, 0.0, 0.5), (5.0, 5.0, 0.5)]
    seen.clear()
    same = with_times(layers, net.blocks, model, model, tracer)
    assert len(seen) == 1
    assert [f.measured_us for f in same] == [f.dense_us for f in same]


def test_what_the_loss_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_rtx, "is_installed", lambda: False)
    monkeypatch.setattr(TensorRtBuilder, "recover", lambda *args: False)
    rng = np.random.default_rng(0)
    residual.save(tmp_path / "net.onnx", rng, pixels=112)
    np.savez(tmp_path / "calib.npz", x=rng.standard_normal((8, 3, 112, 112)).astype(np.float32))
    report = edgeprune.compile(
        tmp_path / "net.onnx",
        "orin-nano-8",
        speedup=3,
        calibration=tmp_path / "calib.npz",
        out=tmp_path / "out",
        accept_loss=True,
        explain_loss=True,
    )
    assert report.accuracy is not None
    by_kind = {part.kind: part for part in report.losses}
    assert report.losses[0].kind == "result"
    assert report.losses[0].drop == pytest.approx(report.accuracy.drop, abs=0.05)
    pruning = next(part for part in report.losses if part.taken_back == "pruning")
    assert pruning.drop < report.losses[0].drop
    assert "group" in by_kind
    assert report.operating_point["power mode"] == "MAXN_SUPER"
    assert "8.5" in report.operating_point["TensorRT"] or "10" in report.operating_point["TensorRT"]
    assert report.operating_point["clocks"].startswith("GPU ")
