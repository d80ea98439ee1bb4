from __future__ import annotations

import dataclasses

import pytest

from edgeprune.gate.gate import gate
from edgeprune.report.accuracy import Accuracy
from edgeprune.report.engine import EngineCheck, EngineOutput
from edgeprune.report.output_score import OutputScore
from tests.reports import report


def engine(points: float | None = 0.5, *faults: str) -> EngineCheck:
    accuracy = None if points is None else Accuracy("evaluation", "mAP", "%", 70.0, 70.0 - points, points)
    output = EngineOutput("boxes", 0.4 if faults else 1e-3, 0.02, "detections", "F1", "%", 99.0, not faults)
    return EngineCheck("trtexec", 8, (output,), accuracy, faults)


@pytest.mark.parametrize(("points", "verdict"), [(0.5, "passed"), (1.5, "failed"), (None, "passed")])
def test_what_the_engine_loses_is_held_to_the_same_limit(points: float | None, verdict: str):
    found = gate(report(engine=engine(points)), max_drop=1.0)
    assert found.verdict == verdict
    assert [c.name for c in found.checks][:2] == ["accuracy drop", "engine against its graph"]
    assert len(found.checks) == (2 if points is None else 3)


@pytest.mark.parametrize(("known", "verdict"), [(True, "pass"), (False, "fail")])
def test_only_the_outputs_that_count_are_held_to_it(known: bool, verdict: str):
    scores = tuple(
        OutputScore((name,), "map", "agreement", "%", 100.0, 100.0 - lost, lost)
        for name, lost in (("a", 0.2), ("b", 4.0))
    )
    whole = Accuracy("fidelity", "agreement", "%", 100.0, 96.0, 4.0, 8, scores)
    own = whole if known else dataclasses.replace(whole, outputs=())
    made = report(accuracy=whole, engine=dataclasses.replace(engine(), accuracy=own))
    simulated, _, on_device = gate(made, max_drop=1.0, outputs=["a"]).checks
    assert simulated.verdict == "pass"
    assert (on_device.name, on_device.verdict) == ("accuracy drop of the engine", verdict)


def test_an_engine_that_computes_something_else_fails_whatever_the_limits_are():
    found = gate(report(engine=engine(None, "output 'boxes' is wrong from node 'cat' (Concat) on")), max_latency_ms=99)
    assert found.verdict == "failed"
    check = found.checks[-1]
    assert (check.value, check.verdict) == ("1 of 1 outputs differ", "fail")
    assert "node 'cat'" in check.detail


def test_a_report_without_an_engine_has_no_such_check():
    assert [check.name for check in gate(report(), max_drop=1.0).checks] == ["accuracy drop"]
