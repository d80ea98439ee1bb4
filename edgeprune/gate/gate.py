"""The gate: checks a report against limits for continuous integration, and says how sure each verdict is.

A latency is noisy, so a check fails only if it is 95% sure that the true latency is beyond the limit. A latency beyond
the limit that may be noise passes, and the summary says so. The uncertainty has two parts, both log-normal: the
interval of the median, from the blocks of one run, and the difference from one run to the next (memory layout, clocks,
other processes), which no single run can show: 1% unless given. Several runs make both smaller (see `estimate`). Each
build of an engine, on each board, is such a run: then the interval has the spread of builds and boards in it.

A regression compares two reports by their measured latencies. If neither was measured, because the device is not
attached, it compares the predicted ones and says so. If both reports are of the same original model on the same device
and runtime, it compares the latencies relative to that model's, which was measured in turns with the result: a slower
machine then does not count as a slower model.

A disturbed machine (a throttled clock, other processes: see `drift`) puts a latency in doubt. The doubt is weighed
against the excess: a check fails if the latency is beyond its limit by more than the disturbance may explain. If the
disturbance may explain the excess, the check is *unreliable*: it must be measured again. So is a regression against a
baseline of another machine.

A regression fails if the measured growth is beyond the limit and it is 98% sure that more than half of the limit is no
noise. The rates of false alarms and of regressions that are missed, by simulation, are in the guide to CI.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

from edgeprune.errors import UsageError
from edgeprune.gate.baselines import slower_machine
from edgeprune.gate.budgets import check_budgets, check_same_point, check_tail, other_throttling
from edgeprune.gate.drops import drop_of
from edgeprune.gate.engine import check_engine
from edgeprune.gate.estimate import Estimate, estimate
from edgeprune.gate.spread import spread_notes
from edgeprune.gate.verdicts import Check, Gate, Verdict
from edgeprune.report import NOT_IN_TIME, Latency, Report, doubts
from edgeprune.timing import CONFIDENCE, Disturbance

SESSION_NOISE = 0.01
"""Standard deviation of a median from one run to the next, as a fraction of it."""

DEFAULT_REGRESSION = 0.05

SURE_OF_GROWTH = 0.98
"""How sure it must be that more than half of a regression's limit is no noise."""


def gate(
    report: Report,
    *,
    max_latency_ms: float | None = None,
    max_predicted_ms: float | None = None,
    max_drop: float | None = None,
    max_memory_mb: float | None = None,
    max_energy_mj: float | None = None,
    max_p99_ms: float | None = None,
    outputs: Sequence[str] = (),
    baseline: Report | None = None,
    max_regression: float | None = None,
    session_noise: float = SESSION_NOISE,
    anything: bool = False,
) -> Gate:
    """Check a report against limits.

    Args:
        report: The report to check.
        max_latency_ms: Largest median latency of the result, milliseconds.
        max_predicted_ms: Largest predicted latency of the result, milliseconds, for devices that are not attached.
        max_drop: Largest drop in accuracy or fidelity, points; in the fidelity of each output.
        max_memory_mb: Largest counted memory of weights and activations, megabytes.
        max_energy_mj: Largest energy of an inference, measured or within the power mode, millijoules.
        max_p99_ms: Largest 99th percentile of single runs of the result, milliseconds.
        outputs: Outputs whose fidelity counts; by default those that the report says count.
        baseline: An older report.
        max_regression: Largest growth in latency since ``baseline``, as a fraction (0.05: 5%).
        session_noise: Standard deviation of a median from one run to the next, as a fraction.
        anything: Accept that there is no limit at all, as for a first baseline.

    Raises:
        UsageError: There is no limit, or the report lacks the figure that a limit is for.
    """
    if (baseline is None) != (max_regression is None):
        raise UsageError("a regression needs both --baseline and --max-regression")
    checks = []
    if max_latency_ms is not None:
        latency = _measured(report, "the report")
        older = None if baseline is None or not _same_model(report, baseline) else baseline.latency
        checks.append(_check_latency(latency, max_latency_ms, session_noise, older))
    if max_predicted_ms is not None:
        checks.append(_check_prediction(report, max_predicted_ms))
    if max_drop is not None:
        checks.append(_check_drop(report, max_drop, outputs))
    if max_p99_ms is not None:
        checks.append(check_tail(report, max_p99_ms))
    checks += check_budgets(report, max_memory_mb, max_energy_mj)
    if baseline is not None and max_regression is not None:
        check_same_point(report, baseline)
        checks.append(_check_regression(report, baseline, max_regression, session_noise))
    checks += check_engine(report, max_drop, outputs)
    if not checks and not anything:
        raise UsageError(
            "nothing to check: give --baseline or a limit: --max-latency-ms, --p99, --max-predicted-ms, --max-drop, "
            "--max-memory-mb or --max-energy-mj"
        )
    return Gate(tuple(checks), (*_doubts(report), *spread_notes(report, checks)))


def _doubts(report: Report) -> tuple[str, ...]:
    outcome = report.outcome
    notes = [f"the result is below the floor of usefulness: {why}" for why in outcome.below_floor]
    if "does not pay" in doubts(outcome):
        notes.insert(0, f"the result does not pay: {outcome.reason}")
    notes += [text for text in report.warnings if NOT_IN_TIME in text]
    return tuple(notes)


def _same_model(report: Report, other: Report) -> bool:
    return report.model.sha256 == other.model.sha256


def _check_latency(latency: Latency, limit_ms: float, session_noise: float, older: Latency | None) -> Check:
    if limit_ms <= 0:
        raise UsageError(f"--max-latency-ms must be positive, not {limit_ms:g}")
    found = estimate(latency, session_noise)
    if found.disturbed is None and older is not None:
        found = replace(found, disturbed=slower_machine(latency, older))
    verdict, detail = _verdict(found.log - math.log(limit_ms), found)
    over = "" if len(latency.runs) == 1 else f", over {found} runs"
    return Check("latency", f"{math.exp(found.log):.4g} ms", f"{limit_ms:g} ms", verdict, detail + over)


def _check_prediction(report: Report, limit_ms: float) -> Check:
    if report.predicted is None:
        raise UsageError("the report has no predicted latency to check --max-predicted-ms against")
    predicted_ms, error = report.predicted.result_ms, report.predicted.error
    # The same graph and profile always give the same prediction, so there is no noise.
    verdict: Verdict = "fail" if predicted_ms > limit_ms else "pass"
    off = "" if error is None else f", typically off by {error:.0%}"
    detail = f"predicted, not measured{off}: only a run on the device can confirm it"
    return Check("predicted latency", f"{predicted_ms:.4g} ms", f"{limit_ms:g} ms", verdict, detail)


def _check_drop(report: Report, limit: float, outputs: Sequence[str]) -> Check:
    accuracy = report.accuracy
    if accuracy is None:
        raise UsageError("the report has no accuracy or fidelity to check --max-drop against")
    drop, metric = drop_of(accuracy, outputs)
    on = f"on {accuracy.samples} samples" if accuracy.samples else "on the evaluation's own data"
    kind = "" if accuracy.kind == "evaluation" else ", fidelity to the original instead of accuracy"
    # The samples before and after are the same and the runtime is deterministic, so the drop on them is exact.
    verdict: Verdict = "fail" if drop > limit else "pass"
    detail = f"{metric} {on}{kind}"
    return Check("accuracy drop", f"{drop:.2f} points", f"{limit:g} points", verdict, detail)


def _check_regression(report: Report, baseline: Report, limit: float, session_noise: float) -> Check:
    if limit < 0:
        raise UsageError(f"--max-regression must not be negative, not {limit:.1%}")
    if report.latency is None and baseline.latency is None and report.target == baseline.target:
        return _check_predicted_regression(report, baseline, limit)
    new, old = _measured(report, "the report"), _measured(baseline, "the baseline report")
    if (new.device, new.threads) != (old.device, old.threads):
        apart = f"measured on {new.place}, the baseline on {old.place}; --update-baseline keeps one for each"
        return Check("latency regression", "unknown", f"{limit:+.1%}", "unreliable", apart)
    if (hot := other_throttling(report, baseline)) is not None:
        return Check("latency regression", "unknown", f"{limit:+.1%}", "unreliable", hot)
    relative = _same_model(report, baseline) and new.runtime == old.runtime
    reference = ", relative to the original model's latency in the same run" if relative else ""
    if new.runtime != old.runtime:
        reference = f", {old.runtime} against {new.runtime}"
    now, then = (estimate(latency, session_noise, relative=relative) for latency in (new, old))
    if len(new.runs) + len(old.runs) > 2:
        reference += f", {now} runs against {then}"
    verdict, detail = _regression_verdict(now.log - then.log, limit, now, then)
    value = f"{math.expm1(now.log - then.log):+.1%}"
    return Check("latency regression", value, f"{limit:+.1%}", verdict, detail + reference)


def _check_predicted_regression(report: Report, baseline: Report, limit: float) -> Check:
    if report.predicted is None or baseline.predicted is None:
        raise UsageError("the report or its baseline has no latency, neither measured nor predicted")
    growth = report.predicted.result_ms / baseline.predicted.result_ms
    reference = ""
    if _same_model(report, baseline):
        # Another version of the profile predicts another latency for the same original; that is not a regression.
        growth *= baseline.predicted.baseline_ms / report.predicted.baseline_ms
        reference = ", relative to the original model's predicted latency"
    verdict: Verdict = "fail" if growth > 1 + limit else "pass"
    detail = f"predicted, not measured: only a run on the device can confirm it{reference}"
    return Check("predicted latency regression", f"{growth - 1:+.1%}", f"{limit:+.1%}", verdict, detail)


def _verdict(excess_log: float, found: Estimate) -> tuple[Verdict, str]:
    """Verdict on a latency whose logarithm exceeds its limit's by ``excess_log``."""
    sure_beyond = _sure(excess_log, found.sigma)
    if found.disturbed is not None and excess_log > 0:
        sure_beyond = _sure(excess_log - math.log1p(found.disturbed.faster), found.state_sigma)
        return _weighed(sure_beyond, sure_beyond >= CONFIDENCE, found.disturbed)
    if sure_beyond >= CONFIDENCE:
        return "fail", f"{_percent(sure_beyond)} sure that it is beyond the limit"
    if excess_log > 0:
        return "unsure", f"only {_percent(sure_beyond)} sure that it is beyond the limit, so this may be noise"
    return "pass", f"{_percent(1 - sure_beyond)} sure that it is within the limit"


def _regression_verdict(growth_log: float, limit: float, now: Estimate, then: Estimate) -> tuple[Verdict, str]:
    """Verdict on the logarithm of a growth since a baseline."""
    excess_log = growth_log - math.log1p(limit)
    half_log = math.log1p(limit) - math.log1p(limit / 2)
    sigma = math.hypot(now.sigma, then.sigma)
    was = "" if then.disturbed is None else f"; the baseline was disturbed: {then.disturbed.reason}"
    if excess_log <= 0:
        return "pass", f"{_percent(1 - _sure(excess_log, sigma))} sure that it is within the limit{was}"
    if now.disturbed is None and then.disturbed is None:
        beyond = _percent(_sure(excess_log, sigma))
        if _sure(excess_log + half_log, sigma) >= SURE_OF_GROWTH:
            return "fail", f"{beyond} sure that it is beyond the limit"
        return "unsure", f"only {beyond} sure that it is beyond the limit, so this may be noise"
    if now.disturbed is not None:
        excess_log -= math.log1p(now.disturbed.faster)
    if then.disturbed is not None:
        excess_log -= math.log1p(then.disturbed.slower)
    sigma = math.hypot(now.state_sigma, then.state_sigma)
    sure_beyond = _sure(excess_log, sigma)
    sure = excess_log > 0 and _sure(excess_log + half_log, sigma) >= SURE_OF_GROWTH
    if now.disturbed is not None:
        verdict, detail = _weighed(sure_beyond, sure, now.disturbed)
        return verdict, detail + was
    if sure:
        return "fail", f"{_percent(sure_beyond)} sure that it is beyond the limit{was}, which cannot explain it"
    advice = "keep a new baseline, measured on a quiet machine, with --update-baseline"
    return "unreliable", f"beyond the limit{was}, which may explain it: {advice}"


def _weighed(sure_beyond: float, sure: bool, disturbed: Disturbance) -> tuple[Verdict, str]:
    """A failure if the disturbance of the machine cannot explain it; else unreliable."""
    if sure:
        beyond = f"{_percent(sure_beyond)} sure that it is beyond the limit"
        return "fail", f"{beyond}; {disturbed.reason}, which cannot explain it"
    return "unreliable", f"beyond the limit, but {disturbed.reason}: measure again"


def _sure(excess_log: float, sigma: float) -> float:
    """Probability that an excess is real, with the standard deviation of its logarithm."""
    return NormalDist(0, sigma).cdf(excess_log) if sigma > 0 else float(excess_log > 0)


def _percent(probability: float) -> str:
    return "more than 99.9%" if probability > 0.999 else f"{100 * probability:.3g}%"


def _measured(report: Report, called: str) -> Latency:
    if report.latency is None:
        raise UsageError(f"{called} has no measured latency; a predicted one is not enough for this check")
    for run in report.latency.runs:
        for measurement in (run.baseline, run.result):
            if measurement.median_ms <= 0:
                raise UsageError(f"{called} has an impossible latency of {measurement.median_ms:g} ms")
    return report.latency
