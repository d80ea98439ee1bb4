"""What a compile is expected to take, from the graph alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.build import cost_forecast
from edgeprune.build.cost_forecast import ExpectedCost, expected_cost
from edgeprune.calibration.sample_counts import SampleCount
from edgeprune.dependency.opened_model import OpenedModel, open_model
from edgeprune.graph import model_io as graph
from edgeprune.latency.block_network import network
from edgeprune.report import Cost
from edgeprune.support import Progress
from tests.small_models import calibration, classifier, images


@pytest.fixture
def opened(tmp_path: Path) -> OpenedModel:
    graph.save(classifier(batch="1", head="float[1,5] y"), tmp_path / "net.onnx")
    return open_model(tmp_path / "net.onnx", {}, Progress())


def of(
    opened: OpenedModel,
    *,
    quantized: bool = False,
    cut: bool = False,
    sample_s: float = 0.1,
    sparse: int = 0,
    streams: int = 0,
) -> ExpectedCost:
    net = network(opened.dense, opened.analysis, opened.fixed)
    fit, held_out = calibration(x=images(32)).split()
    return expected_cost(
        opened,
        net,
        fit,
        held_out.items,
        sample_s=sample_s,
        spent_s=1.0,
        quantized=quantized,
        cut=cut,
        measured=False,
        sparse=sparse,
        streams=streams,
    )


def test_steps_that_will_not_run_cost_nothing(opened: OpenedModel) -> None:
    plain, cut, quantized = of(opened), of(opened, cut=True), of(opened, quantized=True)
    assert plain.cost.temporary_bytes == 0 < cut.cost.temporary_bytes
    assert set(cut.steps) - set(plain.steps) >= {"ranking units", "pricing widths", "building the result"}
    assert set(quantized.steps) - set(plain.steps) == {"pricing formats", "finding the best unpruned variant"}
    assert plain.cost.processor_s == 1.0 + sum(plain.steps.values())
    sparse = of(opened, sparse=2)
    assert set(sparse.steps) - set(plain.steps) == {"pricing 2:4 weights"}
    assert sparse.steps["pricing 2:4 weights"] > 2
    narrower = of(opened, streams=5)
    assert set(narrower.steps) - set(plain.steps) == {"trying narrower residual streams"}
    assert narrower.steps["trying narrower residual streams"] > 5 * 0.6 * 8 * 0.1  # at least 8 samples by each


def test_the_time_is_that_of_samples(opened: OpenedModel) -> None:
    fast, slow = (of(opened, sample_s=s, cut=True, quantized=True).cost for s in (0.1, 1.0))
    assert 5 < slow.processor_s / fast.processor_s < 10
    assert slow.memory_bytes == fast.memory_bytes


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_every_step_that_runs_samples_takes_longer_where_a_sample_does(
    opened: OpenedModel, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a trial is so much work that most groups are tried at one width."""
    monkeypatch.setattr(cost_forecast, "WIDTH_TRIALS", SampleCount(0.0 if large else 1e30, 1, 2))
    fast, slow = (of(opened, sample_s=s, cut=True, quantized=True).steps for s in (0.1, 1.1))
    each = {name: slow[name] - fast[name] for name in fast}
    fit, _ = calibration(x=images(32)).split()
    assert each["ranking units"] == pytest.approx(1.3 * fit.items)
    assert each["pricing widths"] > 1
    assert min(each.values()) > 0


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (Cost(352.0, 2_100_000_000, 0), "about 6 min of processor time, 2.1 GB of memory"),
        (
            Cost(41.0, 900_000_000, 300_000_000),
            "about 50 s of processor time, 0.9 GB of memory, 0.3 GB of temporary files",
        ),
    ],
)
def test_in_words(cost: Cost, words: str) -> None:
    assert str(ExpectedCost(cost)) == words
