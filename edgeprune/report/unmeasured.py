"""What a report does not know: said on every page, so that nobody takes silence for a measurement."""

from __future__ import annotations

from edgeprune.report import words
from edgeprune.report.model import Report


def unmeasured(report: Report) -> list[str]:
    """One sentence for each thing that was not measured."""
    return [*_of_latency(report), *_of_accuracy(report), *_of_the_rest(report)]


def _of_latency(report: Report) -> list[str]:
    if (measured := report.latency) is not None:
        threads = "" if measured.threads is None else f" with {words.plural(measured.threads, 'thread')}"
        return [
            f"Latency anywhere but on {measured.device}{threads}, with {measured.runtime} and one input of one size.",
            *_layers_in_part(report),
        ]
    if (guess := report.predicted) is not None:
        error = "an error nobody has determined" if guess.error is None else f"a typical error of {guess.error:.0%}"
        return [
            f"Latency on the device: {guess.result_ms:.4g} ms and every time of a layer are predicted, with {error}; "
            "only a run there can tell.",
            "Whether the engine that TensorRT builds there uses the kernels that the prediction assumes.",
        ]
    return ["Latency: nothing was timed, and nothing predicted."]


def _layers_in_part(report: Report) -> list[str]:
    if not report.layers or all(layer.measured_us is None for layer in report.layers):
        return ["The time of single layers: only the whole network was timed."]
    return ["Single layers apart from each other: their times are shares of a run of the whole network, by a profiler."]


def _of_accuracy(report: Report) -> list[str]:
    judged = report.accuracy
    if judged is None:
        return ["Accuracy: nothing was scored, and outputs were not compared."]
    found = []
    if judged.kind == "fidelity":
        found.append("Accuracy on labelled data: agreement with the original stands in for it.")
    if report.latency is not None and report.latency.variants:
        found.append("Accuracy of the unpruned variants: they were timed, not scored by what scored the result.")
    if any(layer.loss is not None for layer in report.layers):
        found.append("What each layer loses in the result: losses are predicted from trials of one change at a time.")
    if (report.calibration or "").startswith("random"):
        found.append("Anything about your data: the calibration samples were random numbers.")
    return found


def _of_the_rest(report: Report) -> list[str]:
    memory = "Memory while running"
    if report.sizes.result.activation_bytes is not None:
        memory += ": that of activations is counted from their shapes, without what kernels need beside it"
    return [f"{memory}.", "Power, energy and temperature."]
