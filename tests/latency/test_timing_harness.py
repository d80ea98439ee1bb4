"""The timing harness: how long its turns are, and what it loads."""

import gc
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgeprune.latency import timing_harness
from edgeprune.latency.timing_harness import TimingHarness
from tests.latency.test_same_work import network


@pytest.mark.parametrize(("run_s", "block_s"), [(0.001, 0.04), (0.015, 0.09), (0.2, 0.15)])
def test_a_turn_holds_a_few_runs_of_the_original(run_s: float, block_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now, given = iter([10.0, 10.0 + run_s]), {}
    monkeypatch.setattr(timing_harness, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    monkeypatch.setattr(
        timing_harness, "benchmark", lambda candidates, **settings: given.update(settings, names=[*candidates])
    )
    TimingHarness(cast(Any, None), {}, lambda: None).final({})
    assert given["block_s"] == pytest.approx(block_s)
    assert given["names"] == ["original"]


def test_a_model_is_loaded_once_and_let_go_with_its_last_user() -> None:
    loaded = []
    runtime = SimpleNamespace(load=lambda model: SimpleNamespace(bind=lambda feeds: loaded.append(model.graph.name)))
    harness, variant, proxy = TimingHarness(cast(Any, runtime), {}, lambda: None), network(), network()
    for model in (variant, proxy, variant):
        harness.bind(model)
    assert len(loaded) == 2
    assert len(harness._bound) == 2
    del proxy, model
    gc.collect()
    assert list(harness._bound) == [variant]
