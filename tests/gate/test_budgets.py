"""Limits of a gate on memory and energy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeprune.errors import UsageError
from edgeprune.gate.baselines import why_no_baseline
from edgeprune.gate.gate import gate
from edgeprune.report import Repeat
from edgeprune.report.model import Prediction
from edgeprune.timing import Energy, Tail
from tests.reports import report

GUESS = Prediction(4.0, 2.0, "analytic", 0.05, energy_mj_at_most=30.0)


def test_memory_is_the_file_and_the_activations_together() -> None:
    whole = report()
    sizes = replace(whole.sizes.result, file_bytes=6_000_000, activation_bytes=4_000_000)
    found = replace(whole, sizes=replace(whole.sizes, result=sizes))
    for limit, verdict in ((10.0, "pass"), (9.9, "fail")):
        (check,) = gate(found, max_memory_mb=limit).checks
        assert (check.name, check.value, check.verdict) == ("memory", "10 MB", verdict)
        assert "without the runtime's own workspace" in check.detail
    unknown = replace(whole, sizes=replace(whole.sizes, result=replace(sizes, activation_bytes=None)))
    with pytest.raises(UsageError, match="--max-memory-mb"):
        gate(unknown, max_memory_mb=1)


def test_an_upper_bound_of_energy_can_pass_but_never_fails_a_gate() -> None:
    found = replace(report(), predicted=GUESS)
    for limit, verdict in ((30.0, "pass"), (29.0, "unsure")):
        result = gate(found, max_energy_mj=limit)
        assert [c.verdict for c in result.checks] == [verdict]
        assert result.passed
        assert "not measured" in result.checks[0].detail
    with pytest.raises(UsageError, match="a power mode that states its watts"):
        gate(replace(found, predicted=replace(GUESS, energy_mj_at_most=None)), max_energy_mj=30)


@pytest.mark.parametrize(("limit", "verdict"), [(20.0, "pass"), (19.0, "unsure"), (13.0, "fail")])
def test_a_prediction_of_energy_fails_only_beyond_its_error(limit: float, verdict: str) -> None:
    guess = replace(GUESS, energy_mj=20.0, energy_error=0.5)
    (check,) = gate(replace(report(), predicted=guess), max_energy_mj=limit).checks
    assert (check.name, check.verdict) == ("energy of an inference, predicted", verdict)
    assert "typical error of 50%" in check.detail


@pytest.mark.parametrize(("limit", "verdict"), [(28.0, "pass"), (27.9, "fail")])
def test_measured_energy_counts_before_the_bound(limit: float, verdict: str) -> None:
    spent = Energy(28.0, ("VDD_IN",), 5000.0, 12000.0, 4.0, 40)
    (check,) = gate(replace(report(), predicted=GUESS, energy={"result": spent}), max_energy_mj=limit).checks
    assert (check.name, check.value, check.verdict) == ("energy of an inference", "28 mJ", verdict)
    assert "measured above idling on VDD_IN" in check.detail


@pytest.mark.parametrize(("limit", "verdict"), [(3.0, "pass"), (2.9, "unsure"), (2.5, "fail")])
def test_the_99th_percentile_fails_if_it_is_surely_beyond(limit: float, verdict: str) -> None:
    whole = report()
    assert whole.latency is not None
    timed = replace(whole.latency, result=replace(whole.latency.result, tail=Tail(3.0, 2.6)))
    (check,) = gate(replace(whole, latency=timed), max_p99_ms=limit).checks
    assert (check.name, check.value, check.verdict) == ("latency, 99th percentile", "3 ms", verdict)
    with pytest.raises(UsageError, match="no measured 99th percentile"):
        gate(whole, max_p99_ms=limit)


def test_one_disturbed_measurement_of_three_does_not_decide_the_99th_percentile() -> None:
    whole = report()
    assert whole.latency is not None
    slow, usual = (replace(whole.latency.result, tail=tail) for tail in (Tail(9.0, 8.0), Tail(3.0, 2.6)))
    again = Repeat(whole.latency.baseline, usual, whole.latency.speedup)
    timed = replace(whole.latency, result=slow, repeats=(again, again))
    (check,) = gate(replace(whole, latency=timed), max_p99_ms=3.0).checks
    assert (check.value, check.verdict) == ("3 ms", "pass")
    assert f"of {3 * usual.runs} single runs in 3 measurements" in check.detail
    two = replace(timed, repeats=(again,))
    assert gate(replace(whole, latency=two), max_p99_ms=3.0).checks[0].verdict == "unsure"


def test_a_baseline_of_another_operating_point_is_refused_and_what_differs_is_named() -> None:
    point = {"power mode": "MAXN", "TensorRT": "10.3", "clocks": "locked"}
    older = replace(report(), operating_point=point)
    same = gate(replace(report(), operating_point=point), baseline=older, max_regression=0.05)
    assert [c.name for c in same.checks] == ["latency regression"]
    moved = replace(report(), operating_point={**point, "TensorRT": "10.16"})
    with pytest.raises(UsageError, match=r"TensorRT: 10\.16 instead of 10\.3"):
        gate(moved, baseline=older, max_regression=0.05)
    assert gate(report(), baseline=older, max_regression=0.05).checks  # a report of before has no operating point


@pytest.mark.parametrize(
    ("now", "then", "advice"),
    [
        ("gpu-throttle-alert", "none", "measure again"),
        ("none", "oc1 events", "keep a new baseline"),
        ("oc1 events", "oc1 events", ""),
        ("oc1 events", None, ""),
    ],
)
def test_a_device_that_throttled_otherwise_is_to_be_measured_again(now: str, then: str | None, advice: str) -> None:
    """It is no other operating point: a new baseline would keep the throttled latency."""
    hot = replace(report(), operating_point={"power mode": "MAXN", "throttling": now})
    cool = replace(report(), operating_point={"power mode": "MAXN"} | ({} if then is None else {"throttling": then}))
    (check,) = gate(hot, baseline=cool, max_regression=0.05).checks
    assert check.verdict == ("unreliable" if advice else "pass")
    assert advice in check.detail
    assert why_no_baseline(hot) == (None if now == "none" else f"the device throttled ({now})")
