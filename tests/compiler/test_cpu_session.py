"""What a session for a CPU says about its result."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgeprune.build import Learning
from edgeprune.compiler.cpu_session import CpuSession
from edgeprune.latency import ARM, X86, Lowering
from edgeprune.report import Accuracy
from edgeprune.search import Candidate, Goal, Raced
from edgeprune.testing import parse

ASKED = Goal(None, None, None, prune=False, quantize=True)
ACCURACY = Accuracy("fidelity", "SQNR against the original", "dB", None, 40.0, 0.01, 8)


def said(
    forms: dict[str, frozenset[str]],
    formats: tuple[str, ...],
    goal: Goal = ASKED,
    opset: int = 17,
    lowering: Lowering = X86,
    fastest: str = "fp32",
    variants: tuple[str, ...] = ("fp32",),
) -> list[str]:
    dense = parse("g (float[1, 8, 8, 8] x) => (float[1, 8, 6, 6] y) { y = Conv (x, w) }", w=(8, 8, 3, 3))
    dense.graph[0].name, dense.graph.opset_imports[""] = "conv", opset
    session = SimpleNamespace(
        network=SimpleNamespace(int8_nodes=(forms,), lowering=lowering),
        opened=SimpleNamespace(dense=dense),
        raced=(Raced(Candidate(np.array([8]), (fastest,), 1.0, 0.0), 1.0),),
        variants=lambda limit: variants,
    )
    return CpuSession.warnings(cast(Any, session), Candidate(np.array([8]), formats, 1.0, 0.0), ACCURACY, goal)


def test_float_that_was_faster_than_int8_is_said():
    found = said({"int8": frozenset({"conv"})}, ("fp32",))
    assert found == ["INT8 was asked for, but it is not faster than float here: 1 block has an INT8 form"]


def test_int8_that_is_faster_and_loses_too_much_is_said():
    (found,) = said({"int8": frozenset({"conv"})}, ("fp32",), fastest="int8")
    assert found.startswith("INT8 was asked for and is faster here, but every mix with it loses more than 1 points")


def test_int8_that_is_no_faster_than_what_came_in_is_said():
    """As for a model that arrives quantized: its INT8 form loses nothing, and gains nothing."""
    found = said({"int8": frozenset({"conv"})}, ("fp32",), fastest="int8", variants=("fp32", "int8"))
    assert found == ["INT8 was asked for, but the best mix with it is not surely faster than what is returned"]


def test_float_without_an_int8_form_gives_the_reason():
    (found,) = said({}, ("fp32",), opset=11)
    assert found.endswith("no layer has an INT8 form: the model stays at opset 11, and INT8 needs opset 13")


@pytest.mark.parametrize(
    ("formats", "goal"), [(("int8",), ASKED), (("fp32",), Goal(None, 2.0, None, prune=True, quantize=True))]
)
def test_nothing_is_said_where_int8_came_or_was_a_choice(formats: tuple[str, ...], goal: Goal):
    assert said({"int8": frozenset({"conv"})}, formats, goal) == []


def test_int8_for_arm_is_named():
    (found,) = said({"int8": frozenset({"conv"})}, ("int8",), lowering=ARM)
    assert "int8_arm: activations are signed" in found
    assert said({"int8": frozenset({"conv"})}, ("int8",)) == []


@pytest.mark.parametrize(
    ("original_us", "whole_us", "expected"), [(None, None, 50.0), (300.0, None, 150.0), (300.0, 400.0, 200.0)]
)
def test_the_original_is_predicted_by_its_own_runtime(
    original_us: float | None, whole_us: float | None, expected: float
):
    """In OpenVINO the blocks in float say nothing of the original, which onnxruntime runs."""

    def latency(us: float) -> Any:
        return SimpleNamespace(sizes=np.array([8]), total_us=lambda widths, formats: us)

    whole = None if whole_us is None else SimpleNamespace(latency=None, predicted_baseline_us=lambda latency: whole_us)
    session = SimpleNamespace(
        latency=latency(100.0),
        network=SimpleNamespace(blocks=[0]),
        floating="bf16",
        original_us=original_us,
        whole=whole,
    )
    assert CpuSession.predicted_baseline_us(cast(Any, session), latency(50.0)) == expected


class Trials:
    """A session whose quick trials lose one number of points, and whose built candidates lose another."""

    def __init__(self, quick: float, built: float):
        self.built = 0
        session = object.__new__(CpuSession)
        session.__dict__.update(
            prices=SimpleNamespace(latency=SimpleNamespace(sizes=np.array([8]))),
            builder=SimpleNamespace(learning=Learning(), recover=lambda *_: False),
            scores=SimpleNamespace(drop=self.drop, run_of=lambda model: model),
            evaluator=SimpleNamespace(drop=lambda points: points),
            progress=None,
            _trial=SimpleNamespace(model=lambda candidate: quick),
            _taken_quickly={},
        )
        self.session, self.points = session, built

    def drop(self, candidate: Candidate) -> float:
        self.built += 1
        return self.points


@pytest.mark.parametrize(
    ("quick", "accepted", "built"),
    [(0.9, True, 0), (1.1, True, 1), (59.0, True, 1), (61.0, False, 0)],
)
def test_a_quick_trial_decides_where_it_is_clear(quick: float, accepted: bool, built: int) -> None:
    trials = Trials(quick, built=0.5)
    assert trials.session.is_acceptable(Candidate(np.array([4]), ("int8",), 1.0, 0.1), 1.0) == accepted
    assert trials.built == built


def test_what_cuts_nothing_is_not_tried_quickly() -> None:
    trials = Trials(61.0, built=0.5)
    assert trials.session.is_acceptable(Candidate(np.array([8]), ("int8",), 1.0, 0.1), 1.0)


@pytest.mark.parametrize("points", [0.5, 1.5])
def test_a_candidate_that_a_quick_trial_accepted_is_checked_as_it_is_built(points: float) -> None:
    trials, limit = Trials(0.9, built=points), 1.0
    candidate = Candidate(np.array([4]), ("int8",), 1.0, 0.1)
    assert trials.session.is_acceptable(candidate, limit)
    assert trials.session.keeps(candidate, limit) == (points < limit)
    # After a mistake all others are built.
    assert trials.session.is_acceptable(Candidate(np.array([6]), ("int8",), 1.0, 0.1), limit) == (points < limit)
    assert trials.built == (1 if points < limit else 2)
