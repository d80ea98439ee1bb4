from __future__ import annotations

import dataclasses

import pytest

from edgeprune.report.accuracy import Accuracy
from edgeprune.report.comparison import comparison_html, comparison_markdown
from edgeprune.report.html import to_html
from edgeprune.report.pareto_curve import point_of
from edgeprune.report.rival import Rival
from edgeprune.report.runs import Run
from tests.reports import curve, report


def mean_precision(after: float, kind: str = "evaluation") -> Accuracy:
    return Accuracy(kind, "mAP", "%", 50.0, after, 50.0 - after)  # type: ignore[arg-type]


def rival(latency_ms: float = 2.9, after: float | None = 44.0, *, measured: bool = True) -> Rival:
    accuracy = None if after is None else mean_precision(after)
    return Rival(
        "small.onnx", "11" * 32, "int8", latency_ms, measured, accuracy, "" if accuracy else "it has 2 outputs"
    )


@pytest.mark.parametrize(
    ("latency_ms", "after", "verdict"),
    [
        (3.0, 43.0, "wins"),
        (2.9, 44.0, "wins"),
        (3.0, 45.0, "neither"),
        (2.0, 43.0, "neither"),
        (2.0, 45.0, "loses"),
        (2.9, 44.5, "loses"),
    ],
)
def test_who_wins(latency_ms: float, after: float, verdict: str):
    assert rival().against(latency_ms, mean_precision(after)) == verdict


def test_the_sentence_is_plain():
    said = rival().sentence(3.1, mean_precision(43.9))
    assert said == (
        "the rival small.onnx as it is (int8) wins against the result: 2.9 ms against 3.1 ms, "
        "mAP 44.00 against 43.90 %; deploy it instead"
    )
    assert rival(2.9, 43.0).sentence(2.0, mean_precision(45)).startswith("the result beats the rival small.onnx")
    assert "beats the other" in rival().sentence(2.0, mean_precision(43))
    assert "predicted against" in rival(measured=False).sentence(3.1, mean_precision(43.9))


def test_agreement_with_the_original_is_called_that():
    agreeing = dataclasses.replace(rival(9.0), accuracy=mean_precision(98, "fidelity"))
    assert "favours what was made from it" in agreeing.sentence(3.1, mean_precision(99, "fidelity"))


def test_scores_of_two_measures_are_not_compared():
    """As after a distillation, which only knows agreement: 99% agreement is no better than mAP 44."""
    assert rival(9.0).against(3.1, mean_precision(99, "fidelity")) == "unknown"
    said = rival(9.0).sentence(3.1, mean_precision(99, "fidelity"))
    assert said.endswith("not known: its score is mAP (evaluation), that of the result mAP (fidelity)")


def test_a_rival_without_a_score_says_why():
    unscored = rival(after=None)
    assert unscored.against(3.0, mean_precision(40)) == "unknown"
    assert "which one is more accurate is not known: it has 2 outputs" in unscored.sentence(3.0, mean_precision(40))


def test_the_rival_stands_in_every_view_beside_the_curve():
    small = Rival(
        "small.onnx", "11" * 32, "int8", 1.5, True, Accuracy("evaluation", "top-1 accuracy", "%", 93.1, 92.8, 0.3)
    )
    one = report(rival=small)
    assert "small.onnx" in to_html(one, {})
    runs = [Run("2x", one, {}), Run("4x", one, {})]
    for text in (comparison_html(runs), comparison_markdown(runs)):
        assert "the rival small.onnx as it is (int8) wins against 2x" in text
    whole = dataclasses.replace(curve(point_of(3.0, "3x", one)), rival=small)
    assert "small.onnx as it is (int8) wins against the point 3x" in whole.lines()[-1]
    assert curve(point_of(3.0, "3x", report())).verdicts() == []
