"""One sentence on a report: what was asked for, and the result; and what it did not measure, so nobody assumes it."""

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
    also = "" if budget.max_drop is None else f" with at most {budget.max_drop:g} points lost"
    limits = [
        f"at most {limit:g} {unit}"
        for limit, unit in (
            (budget.max_energy_mj, "mJ"),
            (budget.max_memory_mb, "MB"),
            (budget.p99_ms, "ms in 99 of 100 runs"),
        )
        if limit is not None
    ]
    whole += f", {', '.join(limits)}," if limits else ""
    if budget.latency_ms is not None:
        return f"for at most {budget.latency_ms:g} ms of {whole}{also}"
    if budget.speedup is not None:
        return f"for {budget.speedup:g} times the speed of {whole}{also}"
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


NOT_IN_TIME = "is not in the predicted time"
"""Part of every sentence on a plugin that a prediction leaves out; a gate repeats it."""


def unmeasured(report: Report) -> list[str]:
    """One sentence for each thing that was not measured."""
    return [*_of_latency(report), *_of_accuracy(report), *_of_the_rest(report)]


def _of_latency(report: Report) -> list[str]:
    if (measured := report.latency) is not None:
        alone = (
            "The time of single layers: only the whole network was timed."
            if all(layer.measured_us is None for layer in report.layers)
            else "Single layers alone: their times are shares of a run of the whole network, by a profiler."
        )
        return [f"Latency anywhere but on {measured.place}, with {measured.runtime} and one input of one size.", alone]
    if (guess := report.predicted) is not None:
        error = "an unknown error" if guess.error is None else f"a typical error of {guess.error:.0%}"
        return [
            f"Latency on the device: {guess.result_ms:.4g} ms and the times of all layers are predicted, with {error}; "
            "only a run on the device can confirm them.",
            "Whether the engine that TensorRT builds there uses the kernels that the prediction assumes.",
        ]
    return ["Latency: nothing was timed or predicted."]


def _of_accuracy(report: Report) -> list[str]:
    accuracy = report.accuracy
    if accuracy is None:
        return ["Accuracy: nothing was scored, and outputs were not compared."]
    found = []
    if accuracy.kind == "fidelity":
        found.append("Accuracy on labelled data: agreement with the original was measured instead.")
    if report.latency is not None and report.latency.variants:
        found.append("Accuracy of the unpruned variants: they were timed, not scored.")
    if any(layer.loss is not None for layer in report.layers):
        found.append("The loss of each layer in the result: losses are predicted from trials of one change at a time.")
    if (report.calibration or "").startswith("random"):
        found.append("Anything about your data: the calibration samples were random numbers.")
    return found


def _of_the_rest(report: Report) -> list[str]:
    memory = "Memory while running"
    if report.sizes.result.activation_bytes is not None:
        memory += ": that of activations is counted from their shapes, without the workspace of kernels"
    found = [] if "result" in report.memory else [f"{memory}."]
    return [*found, "Temperature." if "result" in report.energy else "Power, energy and temperature."]
