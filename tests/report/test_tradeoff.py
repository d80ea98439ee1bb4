from edgeprune.report.model import Accuracy, Prediction
from edgeprune.report.tradeoff import Reached, frontier, reached, tradeoff_chart
from tests.reports import latency, measurement, report


def at(name: str, latency_ms: float, score: float | None) -> Reached:
    return Reached(name, latency_ms, latency_ms, latency_ms, score)


def test_the_frontier_holds_what_nothing_beats_in_both() -> None:
    points = [
        at("slow", 4, 93.0),
        at("fast", 1, 90.0),
        at("worse", 2, 89.0),
        at("mid", 2, 92.0),
        at("unscored", 1, None),
    ]
    assert [p.name for p in frontier(points)] == ["fast", "mid", "slow"]
    assert [p.name for p in frontier([at("a", 1, 5.0), at("b", 1, 6.0), at("c", 2, 6.0)])] == ["b"]
    assert frontier([]) == []


def test_variants_were_timed_but_not_scored() -> None:
    measured = latency(measurement(6.0), measurement(2.0), variants={"int8": measurement(3.0)})
    found = reached(report(latency=measured), "mine")
    assert [(p.name, p.score, p.strong) for p in found] == [
        ("original", 93.1, False),
        ("int8", None, False),
        ("mine", 92.6, True),
    ]
    (chart,) = tradeoff_chart(found, report().accuracy)
    assert [a["text"] for a in chart.figure["layout"]["annotations"]] == ["int8, not scored"]


def test_an_original_that_agrees_with_itself_without_bound_is_a_line() -> None:
    fidelity = Accuracy("fidelity", "signal to noise", "dB", None, 31.5, 0.2)
    found = reached(report(accuracy=fidelity))
    assert tradeoff_chart(found, fidelity) == (), "one point is no trade-off"
    (chart,) = tradeoff_chart([*found, at("another", 3, 40.0)], fidelity)
    assert [a["text"] for a in chart.figure["layout"]["annotations"]] == ["original"]


def test_predictions_stay_predictions() -> None:
    found = reached(report(latency=None, predicted=Prediction(6.0, 2.0, "analytic", 0.2)))
    assert [(p.latency_ms, p.measured) for p in found] == [(6.0, False), (2.0, False)]
    (chart,) = tradeoff_chart(found, report().accuracy)
    assert [trace["name"] for trace in chart.figure["data"]] == ["best of those reached", "predicted"]
    assert reached(report(latency=None, predicted=None)) == []
