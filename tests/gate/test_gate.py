from __future__ import annotations

import dataclasses
import math
import random
from xml.etree import ElementTree

import pytest

from edgeprune.errors import UsageError
from edgeprune.gate.gate import gate
from edgeprune.gate.verdicts import Gate
from edgeprune.report.model import Accuracy, ModelFile, Prediction, Report
from edgeprune.timing.protocol import Measurement
from tests.reports import latency, measurement, of_blocks, report


def verdict(found: Gate) -> str:
    (check,) = found.checks
    return check.verdict


def slower(factor: float, *, original: float = 1.0, noise: float = 0.01, seed: int = 5) -> Report:
    """The report of a result slower by a factor, measured with an original that looks slower by another."""
    before = measurement(6.0 * original, noise=noise, seed=seed)
    after = measurement(2.0 * factor * original, noise=noise, seed=seed + 1)
    return report(latency=latency(before, after))


@pytest.mark.parametrize(("limit_ms", "expected"), [(2.2, "pass"), (1.99, "unsure"), (1.8, "fail")])
def test_latency(limit_ms: float, expected: str):
    found = gate(report(), max_latency_ms=limit_ms)
    assert verdict(found) == expected
    assert found.passed == (expected != "fail")


def test_it_says_how_sure_it_is():
    assert gate(report(), max_latency_ms=3.0).checks[0].detail == "more than 99.9% sure that it is within the limit"
    detail = gate(report(), max_latency_ms=1.99).checks[0].detail
    assert detail.startswith("only ")
    assert "may be noise" in detail


def test_the_same_excess_fails_when_it_is_sure():
    """10% above the limit: noise where the blocks scatter by 30%, a failure where they scatter by 1%."""
    noisy = report(
        latency=latency(measurement(6.0, noise=0.3, blocks=8), measurement(2.2, noise=0.3, blocks=8, seed=9))
    )
    assert verdict(gate(noisy, max_latency_ms=2.0)) == "unsure"
    assert verdict(gate(slower(1.1), max_latency_ms=2.0)) == "fail"


def test_known_noise_between_runs_can_be_stated():
    assert verdict(gate(slower(1.05), max_latency_ms=2.0)) == "fail"
    assert verdict(gate(slower(1.05), max_latency_ms=2.0, session_noise=0.05)) == "unsure"


def test_noise_seldom_fails_a_model_that_is_exactly_at_its_limit():
    draw = random.Random(11)
    failed = 0
    for seed in range(300):
        result = measurement(2.0 * (1 + draw.gauss(0, 0.01)), noise=0.03, seed=seed)
        at_limit = report(latency=latency(measurement(6.0, noise=0.03, seed=seed + 1000), result))
        failed += not gate(at_limit, max_latency_ms=2.0).passed
    assert failed / 300 <= 0.05 + 0.025  # the promised 5% and two standard errors of 300 trials


def test_a_prediction_is_called_one():
    (check,) = gate(report(latency=None), max_predicted_ms=2.1).checks
    assert (check.verdict, check.name) == ("pass", "predicted latency")
    assert check.detail == "predicted, not measured, typically off by 5%: only a run on the device can confirm it"
    assert verdict(gate(report(latency=None), max_predicted_ms=2.0)) == "fail"
    with pytest.raises(UsageError, match="no predicted latency"):
        gate(report(predicted=None), max_predicted_ms=2.0)


def test_drop_is_exact():
    assert verdict(gate(report(), max_drop=0.5)) == "pass"
    assert verdict(gate(report(), max_drop=0.4)) == "fail"


def test_fidelity_is_called_that():
    stand_in = report(accuracy=Accuracy("fidelity", "top-1 agreement", "%", 100.0, 99.0, 1.0, 64))
    assert "fidelity to the original" in gate(stand_in, max_drop=2).checks[0].detail


@pytest.mark.parametrize(("factor", "expected"), [(1.0, "pass"), (1.04, "pass"), (1.06, "unsure"), (1.15, "fail")])
def test_regression(factor: float, expected: str):
    assert verdict(gate(slower(factor), baseline=slower(1.0, seed=50), max_regression=0.05)) == expected


def test_a_slower_machine_is_no_regression():
    found = gate(slower(1.0, original=1.3), baseline=slower(1.0, seed=50), max_regression=0.05)
    assert verdict(found) == "pass"
    assert "relative to the original" in found.checks[0].detail


def test_without_a_common_original_latencies_are_compared_as_they_are():
    other = report(model=ModelFile("other.onnx", "11" * 32))
    assert verdict(gate(slower(1.0, original=1.3), baseline=other, max_regression=0.05)) == "fail"


def test_another_device_is_no_failure_and_said():
    elsewhere = report(latency=latency(measurement(6.0), measurement(1.0), device="Other"))
    (check,) = gate(report(), baseline=elsewhere, max_regression=0.05).checks
    assert (check.verdict, check.value) == ("unreliable", "unknown")
    assert "measured on Processor, 2 cores with 1 thread, the baseline on Other with 1 thread" in check.detail


def test_another_runtime_is_told():
    older = report(latency=latency(measurement(6.0), measurement(2.0), runtime="onnxruntime 0.9"))
    assert (
        "onnxruntime 0.9 against onnxruntime 1.0"
        in gate(report(), baseline=older, max_regression=0.05).checks[0].detail
    )


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            {},
            "nothing to check: give --baseline or a limit: --max-latency-ms, --p99, .*max-memory-mb or --max-energy-mj",
        ),
        ({"max_regression": 0.05}, "needs both"),
        ({"max_latency_ms": 0.0}, "must be positive"),
        ({"baseline": report(), "max_regression": -0.1}, "must not be negative"),
    ],
)
def test_limits_without_sense_are_refused(limits: dict[str, float], message: str):
    with pytest.raises(UsageError, match=message):
        gate(report(), **limits)


def test_predictions_are_compared_where_neither_was_measured():
    def predicted(result_ms: float, original_ms: float = 6.0) -> Report:
        return report(latency=None, predicted=Prediction(original_ms, result_ms, "analytic", 0.06))

    (check,) = gate(predicted(2.08), baseline=predicted(2.0), max_regression=0.05).checks
    assert (check.name, check.verdict, check.value) == ("predicted latency regression", "pass", "+4.0%")
    assert check.detail.startswith(
        "predicted, not measured: only a run on the device can confirm it, relative to the original"
    )
    assert verdict(gate(predicted(2.12), baseline=predicted(2.0), max_regression=0.05)) == "fail"
    newer_profile = predicted(2.4, original_ms=7.2)
    assert verdict(gate(newer_profile, baseline=predicted(2.0), max_regression=0.05)) == "pass"
    with pytest.raises(UsageError, match="neither measured nor predicted"):
        gate(report(latency=None, predicted=None), baseline=predicted(2.0), max_regression=0.05)
    with pytest.raises(UsageError, match="the baseline report has no measured latency"):
        gate(report(), baseline=predicted(2.0), max_regression=0.05)


def test_a_prediction_is_no_measurement():
    with pytest.raises(UsageError, match="no measured latency"):
        gate(report(latency=None), max_latency_ms=5)


def test_missing_accuracy_is_refused():
    with pytest.raises(UsageError, match="no accuracy"):
        gate(report(accuracy=None), max_drop=1)


def test_an_impossible_measurement_is_refused():
    nonsense = measurement(2.0)
    object.__setattr__(nonsense, "ci_low_ms", -1.0)
    with pytest.raises(UsageError, match="impossible confidence interval"):
        gate(report(latency=latency(measurement(6.0), nonsense)), max_latency_ms=5)


def test_markdown_has_a_row_for_every_check():
    text = gate(report(), max_latency_ms=1.0, max_drop=1).to_markdown()
    assert text.startswith("### edgeprune gate: failed")
    assert sum(line.startswith("| ") for line in text.splitlines()) == 4
    assert "| latency | 1.9" in text


def test_junit_counts_failures():
    suite = ElementTree.fromstring(gate(report(), max_latency_ms=1.0, max_drop=1).to_junit())
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [case.find("failure") is not None for case in suite] == [True, False]


def throttled(factor: float, drift: float) -> Report:
    """The report of a result slower by a factor, on a machine that becomes slower by ``drift`` while it measures."""
    found = slower(factor)
    assert found.latency is not None

    def heated(m: Measurement) -> Measurement:
        blocks = tuple(ms * (1 + drift * i / (len(m.blocks_ms) - 1)) for i, ms in enumerate(m.blocks_ms))
        return dataclasses.replace(m, blocks_ms=blocks)

    warm = dataclasses.replace(
        found.latency, baseline=heated(found.latency.baseline), result=heated(found.latency.result)
    )
    return dataclasses.replace(found, latency=warm)


def test_a_disturbance_that_may_explain_the_excess_makes_a_check_unreliable():
    found = gate(throttled(1.05, 0.3), max_latency_ms=2.0, baseline=slower(1.0, seed=50), max_regression=0.08)
    assert [c.verdict for c in found.checks] == ["unreliable", "pass"]
    assert "slower during the measurement, as with a changing clock: measure again" in found.checks[0].detail
    assert found.passed
    assert found.verdict == "unreliable"
    assert "gate: unreliable" in found.to_markdown()
    suite = ElementTree.fromstring(found.to_junit())
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "1")
    assert len(list(suite.iter("skipped"))) == 1


def test_a_disturbance_cannot_excuse_a_larger_excess():
    found = gate(throttled(1.4, 0.1), max_latency_ms=2.0, baseline=slower(1.0, seed=50), max_regression=0.05)
    assert [c.verdict for c in found.checks] == ["fail", "fail"]
    assert "slower during the measurement, as with a changing clock, which cannot explain it" in found.checks[0].detail


def test_a_disturbed_baseline_is_no_excuse_either_and_is_named():
    """Of another original, so that the latencies are compared as they are."""
    other = ModelFile("other.onnx", "11" * 32)
    disturbed = dataclasses.replace(throttled(1.0, 0.15), model=other)
    (large,) = gate(slower(1.5), baseline=disturbed, max_regression=0.05).checks
    assert large.verdict == "fail"
    assert "the baseline was disturbed: the original became" in large.detail
    assert "which cannot explain it" in large.detail
    (small,) = gate(slower(1.10), baseline=disturbed, max_regression=0.05).checks
    assert small.verdict == "unreliable"
    assert "keep a new baseline, measured on a quiet machine, with --update-baseline" in small.detail


def test_a_throttled_machine_passes_what_it_passes():
    assert verdict(gate(throttled(1.0, 0.3), max_latency_ms=4.0)) == "pass"


def test_a_small_drift_is_no_excuse():
    assert verdict(gate(throttled(1.3, 0.03), max_latency_ms=2.0)) == "fail"


REGRESSIONS = (0.0, 0.02, 0.10, 0.20, 0.50)
"""Of which the first two keep a limit of 5%, and the others are at least twice the limit."""


@pytest.mark.parametrize("disturbed", ["report", "baseline"])
@pytest.mark.parametrize("shape", ["steady", "drift", "throttle", "recovers"])
def test_rates_of_false_alarms_and_of_missed_regressions(shape: str, disturbed: str):
    """Both at most 1%, up to the error of 100 trials each, for a machine that changes by up to 30%."""
    draw = random.Random(f"{shape} {disturbed}")
    wrong = [0, 0]
    for regression in REGRESSIONS:
        for _ in range(100):
            clocks = {name: [1.0] * 20 for name in ("report", "baseline")}
            clocks[disturbed] = clock(shape, draw.uniform(0.0, 0.3), draw)
            now = measured_on(clocks["report"], 1 + regression, draw)
            (check,) = gate(now, baseline=measured_on(clocks["baseline"], 1.0, draw), max_regression=0.05).checks
            wrong[regression > 0.05] += (check.verdict == "fail") != (regression > 0.05)
    assert wrong[0] <= 2 + 4
    assert wrong[1] <= 3 + 5


def clock(shape: str, change: float, draw: random.Random) -> list[float]:
    """How slow the machine is in each of 20 rounds."""
    start = draw.randrange(1, 20)
    slow = {
        "steady": [0.0] * 20,
        "drift": [i / 19 for i in range(20)],
        "throttle": [float(i >= start) for i in range(20)],
        "recovers": [float(i % 6 != 0) for i in range(20)],
    }
    return [1 + change * s for s in slow[shape]]


def measured_on(clock: list[float], factor: float, draw: random.Random) -> Report:
    """A report with blocks that scatter by 1%, and 0.7% from one run to the next."""

    def measured(ms: float) -> Measurement:
        run_ms = ms * math.exp(draw.gauss(0, 0.007))
        return of_blocks([run_ms * c * math.exp(draw.gauss(0, 0.01)) for c in clock])

    return report(latency=latency(measured(6.0), measured(2.0 * factor)))


def test_a_machine_slower_than_at_the_baseline_cannot_fail_an_absolute_limit():
    slow = slower(1.0, original=1.3)
    assert verdict(gate(slow, max_latency_ms=2.2)) == "fail"
    checks = gate(slow, max_latency_ms=2.2, baseline=slower(1.0, seed=50), max_regression=0.05).checks
    assert [c.verdict for c in checks] == ["unreliable", "pass"]
    assert "the unchanged original is 30% slower than in the baseline" in checks[0].detail


def test_a_drop_in_accuracy_fails_on_any_machine():
    assert verdict(gate(throttled(1.0, 0.3), max_drop=0.1)) == "fail"
