"""One sentence on a report: what was asked for, and the result."""

from __future__ import annotations

from edgeprune.report.figures import NO_TARGET, score, score_between
from edgeprune.report.model import Report


def sentence(report: Report) -> str:
    """Such as ``Asked for 2 times the speed of net.onnx on cpu: it takes 2.01 ms instead of 6 ms, measured, ...``."""
    return f"Asked {_asked(report)}: {', '.join(_result(report))}."


def _asked(report: Report) -> str:
    budget, where = report.budget, "" if report.target == NO_TARGET else f" on {report.target}"
    whole = f"{report.model.file}{where}"
    if report.command == "prune":
        return f"to prune {whole}"
    if budget.latency_ms is not None:
        return f"for at most {budget.latency_ms:g} ms of {whole}"
    if budget.speedup is not None:
        return f"for {budget.speedup:g} times the speed of {whole}"
    if budget.max_drop is not None:
        return f"for the fastest form of {whole} that loses at most {budget.max_drop:g} points"
    return f"for the fastest form of {whole}, without a budget"


def _result(report: Report) -> list[str]:
    parts = []
    if report.latency is not None:
        old, new, faster = report.latency.baseline, report.latency.result, report.latency.speedup
        parts.append(f"it takes {new.median_ms:.3g} ms instead of {old.median_ms:.3g} ms, measured")
        parts.append(f"{faster.value:.2f} times as fast (95% interval {faster.ci_low:.2f} to {faster.ci_high:.2f})")
    elif (guess := report.predicted) is not None:
        error = "" if guess.error is None else f" with a typical error of {guess.error:.0%}"
        parts.append(
            f"it is predicted, not measured, to take {guess.result_ms:.3g} ms instead of {guess.baseline_ms:.3g} ms"
        )
        parts.append(f"{guess.speedup:.2f} times as fast{error}")
    if report.budget.met is False:
        parts.append("which misses the budget")
    if (accuracy := report.accuracy) is not None:
        before = "" if accuracy.before is None else f" instead of {score(accuracy, accuracy.before)}"
        called = accuracy.metric if accuracy.kind == "evaluation" else f"a fidelity ({accuracy.metric})"
        parts.append(f"with {called} of {score_between(accuracy)}{before}")
    if not parts:
        old_macs, new_macs = report.sizes.baseline.macs, report.sizes.result.macs
        parts.append(
            f"it keeps {new_macs / max(old_macs, 1):.0%} of its multiply-accumulates; nothing was timed or scored"
        )
    return parts
