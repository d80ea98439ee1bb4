"""Speed against accuracy: the points that were reached, and those that no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune.report.accuracy import Accuracy
from edgeprune.report.charts import COLOURS, QUIET, base, error_bars, vertical_line
from edgeprune.report.model import Report
from edgeprune.report.rival import Rival
from edgeprune.report.web_page import Chart
from edgeprune.support import plural

ORIGINAL = "original"


@dataclass(frozen=True)
class Reached:
    """One network as a point of the chart.

    Attributes:
        name: for people.
        latency_ms: measured median, or predicted latency.
        low_ms: lower bound of the interval, or by the typical error of a prediction.
        high_ms: upper bound.
        score: accuracy or fidelity, higher is better; None if it was not scored.
        measured: whether the latency was measured.
        strong: whether it is a result, which is highlighted.
    """

    name: str
    latency_ms: float
    low_ms: float
    high_ms: float
    score: float | None
    measured: bool = True
    strong: bool = False


def reached(report: Report, name: str = "result") -> list[Reached]:
    """The original, the result, and the unpruned variants, which have no score."""
    accuracy = report.accuracy
    before, after = (None, None) if accuracy is None else (accuracy.before, accuracy.after)
    if report.latency is not None:
        old, new = report.latency.baseline, report.latency.result
        # A variant that was returned is the result, which has a score.
        variants = ((name, m, None) for name, m in report.latency.variants.items() if m != new)
        named = ((ORIGINAL, old, before), *variants)
        return [
            *(Reached(n, m.median_ms, m.ci_low_ms, m.ci_high_ms, score) for n, m, score in named),
            Reached(name, new.median_ms, new.ci_low_ms, new.ci_high_ms, after, strong=True),
        ]
    if (guess := report.predicted) is not None:
        (low_ms, ms, high_ms), (new_low_ms, new_ms, new_high_ms) = map(
            guess.span_ms, (guess.baseline_ms, guess.result_ms)
        )
        return [
            Reached(ORIGINAL, ms, low_ms, high_ms, before, measured=False),
            Reached(name, new_ms, new_low_ms, new_high_ms, after, measured=False, strong=True),
        ]
    return []


def reached_by(rival: Rival) -> Reached:
    """The rival as a point."""
    score = None if rival.accuracy is None else rival.accuracy.after
    return Reached(rival.file, rival.latency_ms, rival.latency_ms, rival.latency_ms, score, measured=rival.measured)


def frontier(points: Sequence[Reached]) -> list[Reached]:
    """Points that no other beats in both latency and score, the fastest first."""
    scored = sorted((p for p in points if p.score is not None), key=lambda p: (p.latency_ms, -(p.score or 0.0)))
    best: list[Reached] = []
    for point in scored:
        if not best or (point.score or 0.0) > (best[-1].score or 0.0):
            best.append(point)
    return best


def tradeoff_chart(
    points: Sequence[Reached], accuracy: Accuracy | None, name: str = "chart-tradeoff"
) -> tuple[Chart, ...]:
    """Points with their intervals, the frontier as a line; latencies without a score as vertical lines.

    Args:
        points: what was reached.
        accuracy: a score, for the metric and the unit; there is no chart without one.
        name: id of the chart in its page.
    """
    scored = [p for p in points if p.score is not None]
    if accuracy is None or len(scored) < 2:  # a single point shows no trade-off
        return ()
    metric, unit = accuracy.metric, accuracy.unit
    edge = frontier(points)
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best of those reached",
            "x": [p.latency_ms for p in edge],
            "y": [p.score for p in edge],
            "line": {"color": QUIET, "shape": "hv", "dash": "dot"},
            "hoverinfo": "skip",
        },
        *(
            {
                "type": "scatter",
                "mode": "markers+text",
                "name": "measured" if measured else "predicted",
                "x": [p.latency_ms for p in mine],
                "y": [p.score for p in mine],
                "text": [p.name for p in mine],
                "textposition": _sides(mine),
                "cliponaxis": False,
                "marker": {
                    "size": 12,
                    "symbol": "circle" if measured else "circle-open",
                    "color": [COLOURS[0] if p.strong else COLOURS[1] for p in mine],
                },
                "error_x": error_bars([(p.low_ms, p.latency_ms, p.high_ms) for p in mine], QUIET),
                "hovertemplate": "%{text}: %{x:.4g} ms, %{y:.4g}<extra></extra>",
            }
            for measured in (True, False)
            if (mine := [p for p in scored if p.measured == measured])
        ),
    ]
    layout = base(
        height=400,
        xaxis={"title": "latency, ms", "rangemode": "tozero"},
        yaxis={"title": f"{metric}{f', {unit}' if unit else ''}"},
    )
    # Room above and beside for the names.
    low, high = min(p.score or 0.0 for p in scored), max(p.score or 0.0 for p in scored)
    room = max(high - low, 0.02 * abs(high), 1e-6)
    layout["yaxis"]["range"] = [low - 0.35 * room, high + 0.45 * room]
    layout["xaxis"]["range"] = [0, 1.15 * max(p.high_ms for p in points)]
    unscored = [p for p in points if p.score is None]
    layout["shapes"] = [vertical_line(p.latency_ms, color=QUIET, dash="dot", width=1) for p in unscored]
    layout["annotations"] = _notes(unscored)
    said = "; ".join(f"{p.name} {p.latency_ms:.4g} ms, {p.score:.4g} {unit}".rstrip() for p in scored)
    caption = f"Speed against {metric}: up and to the left is better. On the best line: {len(edge)} of "
    caption += f"{plural(len(scored), 'point')}."
    return (Chart(name, caption, f"Points: {said}.", {"data": data, "layout": layout}),)


def _notes(unscored: Sequence[Reached]) -> list[dict[str, Any]]:
    """Names along the lines of latencies without a score, at the top and at the bottom in turns."""
    ordered = sorted(unscored, key=lambda p: p.latency_ms)
    return [
        {
            # An original whose agreement with itself is infinite has no score either.
            "text": p.name if p.name == ORIGINAL else f"{p.name}, not scored",
            "x": p.latency_ms,
            "yref": "paper",
            "y": 0.98 if place % 2 == 0 else 0.02,
            "yanchor": "top" if place % 2 == 0 else "bottom",
            "xanchor": "right",
            "textangle": -90,
            "showarrow": False,
            "font": {"color": "var(--soft)"},
        }
        for place, p in enumerate(ordered)
    ]


def _sides(points: Sequence[Reached]) -> list[str]:
    """Position of each point's name: above and below in turns from left to right, since neighbours may be close."""
    order = sorted(range(len(points)), key=lambda k: points[k].latency_ms)
    sides = {k: ("top center", "bottom center")[place % 2] for place, k in enumerate(order)}
    return [sides[k] for k in range(len(points))]
