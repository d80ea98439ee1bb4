import dataclasses

import pytest

from edgeprune.report.model import Accuracy, Budget, Prediction
from edgeprune.report.sentence import sentence, unmeasured
from tests.reports import latency, measurement, report


@pytest.mark.parametrize(
    ("budget", "asked"),
    [
        (Budget(latency_ms=2.5, met=True), "Asked for at most 2.5 ms of net.onnx on cpu: "),
        (Budget(speedup=3, met=True), "Asked for 3 times the speed of net.onnx on cpu: "),
        (Budget(max_drop=0.5), "Asked for the fastest form of net.onnx on cpu that loses at most 0.5 points: "),
        (
            Budget(speedup=3, max_drop=0.5, met=True),
            "Asked for 3 times the speed of net.onnx on cpu with at most 0.5 points lost: ",
        ),
        (Budget(), "Asked for the fastest form of net.onnx on cpu, without a budget: "),
    ],
)
def test_what_was_asked_and_what_came_out(budget: Budget, asked: str) -> None:
    said = sentence(report(budget=budget))
    assert said.startswith(asked + "it takes 1.99 ms instead of ") or said.startswith(
        asked + "it takes 2 ms instead of "
    )
    assert "measured, 2.99 times as fast (95% interval " in said
    assert said.endswith("with top-1 accuracy of 92.60% instead of 93.10%.")


def test_a_missed_budget_is_said() -> None:
    assert "which misses the budget" in sentence(report(budget=Budget(speedup=4, met=False)))


def test_a_prediction_and_a_stand_in_are_called_so() -> None:
    stand_in = Accuracy("fidelity", "signal to noise", "dB", None, 31.5, 0.2)
    said = sentence(report(latency=None, predicted=Prediction(6.0, 2.0, "analytic", 0.2), accuracy=stand_in))
    assert (
        "predicted, not measured, to take 2 ms instead of 6 ms, 3.00 times as fast with a typical error of 20%" in said
    )
    assert said.endswith("with a fidelity (signal to noise) of 31.50 dB.")


def test_a_prune_that_timed_and_scored_nothing() -> None:
    said = sentence(report(command="prune", target="none", latency=None, predicted=None, accuracy=None))
    assert said == ("Asked to prune net.onnx: it keeps 75% of its multiply-accumulates; nothing was timed or scored.")


def said(**changes: object) -> str:
    return " ".join(unmeasured(report(**changes)))


def test_other_devices_and_energy_are_never_measured() -> None:
    assert "Latency anywhere but on Processor, 2 cores with 1 thread" in said()
    assert "Power, energy and temperature." in said()


def test_a_prediction_is_no_measurement() -> None:
    text = said(latency=None, predicted=Prediction(6.0, 2.0, "analytic", 0.2))
    assert "2 ms and the times of all layers are predicted, with a typical error of 20%" in text
    assert "nothing was timed" in said(latency=None, predicted=None).lower()


def test_what_stands_in_for_accuracy_is_said() -> None:
    assert "was measured instead" in said(accuracy=Accuracy("fidelity", "agreement", "%", 100.0, 99.0, 1.0))
    assert "nothing was scored" in said(accuracy=None)
    variants = latency(measurement(6.0), measurement(2.0), variants={"int8": measurement(3.0)})
    assert "unpruned variants" in said(latency=variants)
    assert "unpruned variants" not in said()
    assert "random numbers" in said(calibration="random, 16 samples")


def test_layers_and_memory() -> None:
    assert "by a profiler" in said()
    assert "only the whole network was timed" in said(layers=())
    sizes = report().sizes
    counted = dataclasses.replace(sizes, result=dataclasses.replace(sizes.result, activation_bytes=None))
    assert "counted from their shapes" in said()
    assert "counted from their shapes" not in said(sizes=counted)
