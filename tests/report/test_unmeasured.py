import dataclasses

from edgeprune.report.model import Accuracy, Prediction
from edgeprune.report.unmeasured import unmeasured
from tests.reports import latency, measurement, report


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
