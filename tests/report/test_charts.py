"""Every chart is valid for plotly, which is asked itself, and says in words what it shows."""

from typing import Any

import pytest

from edgeprune.report.charts import group_chart, latency_charts, layer_chart
from edgeprune.report.model import Budget, Layer, Prediction
from edgeprune.report.tradeoff import reached, tradeoff_chart
from edgeprune.report.web_page import Chart
from tests.reports import latency, measurement, report

GROUPS = [{"id": f"g{k}", "size": 4, "kept": [0, 1, 3]} for k in range(3)]


def every_chart() -> list[Chart]:
    measured = latency(measurement(6.0), measurement(2.0), variants={"int8": measurement(3.0)})
    whole = report(latency=measured, budget=Budget(latency_ms=2.5))
    return [
        *latency_charts(whole),
        *latency_charts(report(latency=None, predicted=Prediction(6.0, 2.0, "analytic", 0.2))),
        *layer_chart(whole.layers),
        *layer_chart([Layer("a", ("a",), "fp16", 3.0)]),
        *group_chart(GROUPS),
        *tradeoff_chart(reached(whole), whole.accuracy),
    ]


def plain(value: Any) -> Any:
    """The figure with a colour that plotly knows for every variable of the page's style."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return "#123456" if isinstance(value, str) and value.startswith("var(--") else value


@pytest.mark.parametrize("chart", every_chart(), ids=lambda chart: chart.id)
def test_plotly_takes_the_figure(chart: Chart) -> None:
    from plotly.graph_objects import Figure

    figure = Figure(plain(chart.figure))
    assert len(figure.data) == len(chart.figure["data"])
    assert chart.caption
    assert any(letter.isdigit() for letter in chart.alt)


def test_intervals_are_drawn_as_they_were_measured() -> None:
    measured = measurement(2.0, noise=0.1, seed=5)
    chart, _ = latency_charts(report(latency=latency(measurement(6.0), measured)))
    (bars,) = chart.figure["data"]
    assert bars["x"] == [6.0, measured.median_ms]
    assert bars["error_x"]["array"][1] == pytest.approx(measured.ci_high_ms - measured.median_ms, abs=1e-12)
    assert bars["error_x"]["arrayminus"][1] == pytest.approx(measured.median_ms - measured.ci_low_ms, abs=1e-12)


def test_a_prediction_has_its_error_as_whiskers_and_the_budget_its_line() -> None:
    guessed = report(latency=None, predicted=Prediction(6.0, 2.0, "analytic", 0.25), budget=Budget(speedup=2.0))
    (chart,) = latency_charts(guessed)
    (bars,) = chart.figure["data"]
    assert (bars["x"], bars["error_x"]["array"]) == ([6.0, 2.0], [1.5, 0.5])
    assert [shape["x0"] for shape in chart.figure["layout"]["shapes"]] == [3.0]
    assert "not measured" in chart.caption
    assert "25%" in chart.caption


def test_a_time_that_was_not_measured_is_not_drawn_as_one() -> None:
    (chart,) = layer_chart([Layer("a", ("a",), "fp16", 3.0), Layer("b", ("b",), "int8", 4.0)])
    assert [trace["name"] for trace in chart.figure["data"]] == ["fp16, predicted", "int8, predicted"]
    assert "not measured" in chart.caption


def test_what_is_not_there_has_no_chart() -> None:
    assert latency_charts(report(latency=None, predicted=None)) == ()
    assert layer_chart([]) == group_chart([]) == ()
    assert tradeoff_chart(reached(report(accuracy=None)), None) == ()
