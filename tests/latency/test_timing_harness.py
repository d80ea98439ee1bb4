"""The timing harness: how long its turns are."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgeprune.latency import timing_harness
from edgeprune.latency.timing_harness import TimingHarness


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
