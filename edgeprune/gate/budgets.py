"""Limits of a gate on memory and energy, and whether a report and its baseline can be compared at all."""

from __future__ import annotations

from statistics import median, median_low

from edgeprune.errors import UsageError
from edgeprune.gate.spread import TIMING_CACHE
from edgeprune.gate.verdicts import Check, Verdict
from edgeprune.report import Report

_MB = 1e6

THROTTLING = "throttling"
"""Where the operating point says what throttled: a state of the device, which nobody chose."""


def check_budgets(report: Report, max_memory_mb: float | None, max_energy_mj: float | None) -> list[Check]:
    """The checks of the limits that are given; memory is measured or counted, energy measured, predicted or bounded.

    Raises:
        UsageError: the report lacks the figure that a limit is for.
    """
    memory = [] if max_memory_mb is None else [check_memory(report, max_memory_mb)]
    return memory + ([] if max_energy_mj is None else [check_energy(report, max_energy_mj)])


def check_tail(report: Report, limit_ms: float) -> Check:
    """The 99th percentile of single runs of the result against milliseconds; it fails if 95% sure.

    If the latency was measured several times, the medians of percentiles and of their bounds count: one disturbed
    measurement among three decides nothing.

    Raises:
        UsageError: the report has no measured latency, or none with this percentile.
    """
    if limit_ms <= 0:
        raise UsageError(f"--p99 must be positive, not {limit_ms:g}")
    runs = () if report.latency is None else report.latency.runs
    tails = [(run.result.tail, run.result.runs) for run in runs if run.result.tail is not None]
    if not tails:
        raise UsageError("the report has no measured 99th percentile to check --p99 against")
    p99_ms, low_ms = median(tail.p99_ms for tail, _ in tails), median_low(tail.low_ms for tail, _ in tails)
    verdict: Verdict = "fail" if low_ms > limit_ms else "unsure" if p99_ms > limit_ms else "pass"
    several = "" if len(tails) == 1 else f" in {len(tails)} measurements"
    detail = f"of {sum(count for _, count in tails)} single runs{several}; 95% sure that it is above {low_ms:.4g} ms"
    return Check("latency, 99th percentile", f"{p99_ms:.4g} ms", f"{limit_ms:g} ms", verdict, detail)


def check_same_point(report: Report, baseline: Report) -> None:
    """Refuse to compare latencies of another power mode, JetPack, TensorRT or clock of the device.

    Raises:
        UsageError: naming what differs.
    """
    one, other = (_with_cache(of) for of in (report, baseline))
    names = sorted(name for name in (one.keys() & other.keys()) - {THROTTLING} if one[name] != other[name])
    if names:
        differing = "; ".join(f"{name}: {one[name]} instead of {other[name]}" for name in names)
        raise UsageError(
            f"the baseline was taken at another operating point, so latencies cannot be compared ({differing}); keep a "
            "new baseline elsewhere with --update-baseline"
        )


def _with_cache(report: Report) -> dict[str, str]:
    """The operating point; engines of TensorRT that were built without a pinned timing cache say so."""
    engines = report.latency is not None and report.latency.runtime.startswith("tensorrt")
    return ({TIMING_CACHE: "none"} if engines else {}) | dict(report.operating_point)


def other_throttling(report: Report, baseline: Report) -> str | None:
    """Why latencies cannot be compared: the device throttled otherwise; None if in both alike, or not known."""
    now, then = (one.operating_point.get(THROTTLING) for one in (report, baseline))
    if now is None or then is None or now == then:
        return None
    advice = "keep a new baseline with --update-baseline" if now == "none" else "measure again"
    return f"the throttling of the device was {now}, and {then} with the baseline: {advice}"


def check_memory(report: Report, limit_mb: float) -> Check:
    """The weights and the largest activations of the result, against megabytes: by TensorRT on the device, or counted.

    Raises:
        UsageError: the activations of the result were not counted.
    """
    if (taken := report.memory.get("result")) is not None:
        detail = "measured: what TensorRT says that it allocates for weights and activations"
        if taken.process_mb is not None:
            detail += f"; while it ran, the device had {taken.process_mb:.4g} MB less available"
        verdict: Verdict = "fail" if taken.mb > limit_mb else "pass"
        return Check("memory", f"{taken.mb:.4g} MB", f"{limit_mb:g} MB", verdict, detail)
    size = report.sizes.result
    if size.activation_bytes is None:
        raise UsageError("the report has no memory of activations to check --max-memory-mb against")
    found_mb = (size.file_bytes + size.activation_bytes) / _MB
    detail = "counted: the file and the activations that live at once, without the runtime's own workspace"
    return Check("memory", f"{found_mb:.4g} MB", f"{limit_mb:g} MB", "fail" if found_mb > limit_mb else "pass", detail)


def check_energy(report: Report, limit_mj: float) -> Check:
    """The energy of an inference against millijoules: measured above idling, else predicted, else the mode's most.

    A larger bound proves nothing, so beyond the limit the check of a bound is unsure.

    Raises:
        UsageError: the report has neither.
    """
    limit = f"{limit_mj:g} mJ"
    if (spent := report.energy.get("result")) is not None:
        detail = f"measured above idling on {', '.join(spent.rails)}, {spent.samples} samples in a loop"
        verdict: Verdict = "fail" if spent.mj > limit_mj else "pass"
        return Check("energy of an inference", f"{spent.mj:.4g} mJ", limit, verdict, detail)
    guess = report.predicted
    if guess is not None and guess.energy_mj is not None:
        error = guess.energy_error or 0.0
        beyond = guess.energy_mj > limit_mj
        verdict = "pass" if not beyond else "fail" if guess.energy_mj > (1 + error) * limit_mj else "unsure"
        detail = f"predicted from published power with a typical error of {error:.0%}, not measured"
        return Check("energy of an inference, predicted", f"{guess.energy_mj:.4g} mJ", limit, verdict, detail)
    most = None if guess is None else guess.energy_mj_at_most
    if most is None:
        raise UsageError(
            "the report has no energy to check --max-energy-mj against: measure it on a device with power sensors, or "
            "compile for a power mode that states its watts"
        )
    detail = "the power of the mode times the latency, an upper bound that was not measured"
    verdict = "pass" if most <= limit_mj else "unsure"
    return Check("energy of an inference, at most", f"{most:.4g} mJ", limit, verdict, detail)
