"""What a report did not measure: every page lists it, so that nobody assumes a measurement."""

from __future__ import annotations

from edgeprune.report.model import Report

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
    return [f"{memory}.", "Power, energy and temperature."]
