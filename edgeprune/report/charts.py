"""The charts of a report as plotly data and layout; colours are variables of the page's style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune.report import figures
from edgeprune.report.compile_cost import Training
from edgeprune.report.latency import Latency
from edgeprune.report.model import Layer, Prediction, Report
from edgeprune.report.web_page import Chart
from edgeprune.support import plural
from edgeprune.timing import Measurement

MANY = 16
"""With more bars than this the axis has no names; a bar shows its name under the mouse pointer."""

COLOURS = ("var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)")
QUIET, FAINT = "var(--quiet)", "var(--faint)"
PRECISIONS = {"int8": COLOURS[0], "fp16": COLOURS[2], "bf16": COLOURS[2], "fp32": COLOURS[1]}


def latency_charts(report: Report) -> tuple[Chart, ...]:
    """Measured medians with their intervals, and the rounds of the measurement; or the predicted latencies."""
    if (measured := report.latency) is not None:
        return _medians(measured, _budget_ms(report, measured.baseline.median_ms)), _rounds(measured)
    if (guess := report.predicted) is not None:
        return (_predicted(guess, _budget_ms(report, guess.baseline_ms)),)
    return ()


def _budget_ms(report: Report, baseline_ms: float) -> float | None:
    budget = report.budget
    return budget.latency_ms or (None if budget.speedup is None else baseline_ms / budget.speedup)


def medians(timed: Mapping[str, Measurement], strong: str, budget_ms: float | None = None) -> dict[str, Any]:
    """Bars of medians with their intervals; ``strong`` names the highlighted one."""
    spans = {name: (m.ci_low_ms, m.median_ms, m.ci_high_ms) for name, m in timed.items()}
    return _spans(spans, strong, "median latency, ms", budget_ms)


def _spans(
    spans: Mapping[str, tuple[float, float, float]], strong: str, title: str, budget_ms: float | None
) -> dict[str, Any]:
    """Bars of milliseconds with error bars: name -> lower end, value, upper end."""
    names = list(spans)
    data = {
        "type": "bar",
        "orientation": "h",
        "y": [f"{name}<br>{ms:.3g} ms" for name, (_, ms, _) in spans.items()],
        "x": [ms for _, ms, _ in spans.values()],
        "marker": {"color": [COLOURS[0] if name == strong else FAINT for name in names]},
        "error_x": error_bars(list(spans.values()), "var(--ink)"),
        "customdata": names,
        "hovertemplate": "%{customdata}: %{x:.4g} ms<extra></extra>",
    }
    layout = base(height=110 + 42 * len(names), xaxis={"title": title, "rangemode": "tozero"})
    layout["yaxis"] |= {"autorange": "reversed", "type": "category"}
    if budget_ms is not None:
        layout["shapes"] = [vertical_line(budget_ms, color=COLOURS[1], dash="dash")]
        layout["margin"]["t"] = 26
        asked = {"text": "asked", "x": budget_ms, "yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False}
        layout["annotations"] = [{**asked, "font": {"color": COLOURS[1]}}]
    return {"data": [data], "layout": layout}


def error_bars(spans: Sequence[tuple[float, float, float]], colour: str) -> dict[str, Any]:
    """Horizontal error bars of points given as lower end, value, upper end."""
    above = [high - value for _, value, high in spans]
    below = [value - low for low, value, _ in spans]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": colour}


def vertical_line(x: float, **line: object) -> dict[str, Any]:
    """A line over the whole height of a chart."""
    return {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "line": line}


def base(*, height: int, **axes: Mapping[str, Any]) -> dict[str, Any]:
    """The layout that all charts share."""
    axis = {"gridcolor": "var(--line)", "zerolinecolor": QUIET, "automargin": True}
    return {
        "height": height,
        "margin": {"l": 60, "r": 16, "t": 10, "b": 44},
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "var(--ink)"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hoverlabel": {"bgcolor": "var(--card)", "font": {"color": "var(--ink)"}},
        **{name: _titled(axis | dict(axes.get(name, {}))) for name in ("xaxis", "yaxis", *axes)},
    }


def _titled(axis: dict[str, Any]) -> dict[str, Any]:
    title = axis.get("title")
    return axis | {"title": {"text": title, "standoff": 8}} if isinstance(title, str) else axis


def _medians(latency: Latency, budget_ms: float | None) -> Chart:
    caption = "Median latency with its 95% interval, all measured in turns in one run."
    figure = medians(latency.timed, "result", budget_ms)
    return Chart("chart-latency", caption, medians_text(latency.timed), figure)


def medians_text(timed: Mapping[str, Measurement]) -> str:
    """The figures of a chart of medians, for readers who do not see it."""
    return f"Bars: {'; '.join(f'{name} {figures.latency(m)}' for name, m in timed.items())}."


def _predicted(guess: Prediction, budget_ms: float | None) -> Chart:
    spans = {name: guess.span_ms(latency_ms) for name, latency_ms in guess.timed.items()}
    error = "its error is not known" if guess.error is None else f"error bars: its typical error of {guess.error:.0%}"
    caption = f"Predicted, not measured, by an analytic profile; {error}."
    bars = ", ".join(f"{name} {latency_ms:.4g} ms" for name, latency_ms in guess.timed.items())
    alt = f"Bars: {bars}, predicted."
    return Chart("chart-latency", caption, alt, _spans(spans, "result", "predicted latency, ms", budget_ms))


def _rounds(latency: Latency) -> Chart:
    timed = latency.timed
    strokes = dict(zip(timed, ("dot", *["dash"] * len(latency.variants), "solid"), strict=True))
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "y": list(m.blocks_ms),
            "line": {"color": COLOURS[0] if name == "result" else COLOURS[1:][k % 3], "dash": strokes[name]},
            "hovertemplate": "round %{x}: %{y:.4g} ms",
        }
        for k, (name, m) in enumerate(timed.items())
    ]
    layout = base(height=300, xaxis={"title": "round"}, yaxis={"title": "block's median, ms", "rangemode": "tozero"})
    drift = ", ".join(f"{name} {m.drift:+.1%}" for name, m in timed.items())
    caption = "Block medians over the rounds of the run: level lines mean a quiet machine."
    rounds = plural(len(latency.result.blocks_ms), "round")
    alt = f"Lines of {rounds}; from the first to the last third: {drift}."
    return Chart("chart-rounds", caption, alt, {"data": data, "layout": layout})


def layer_chart(layers: Sequence[Layer]) -> tuple[Chart, ...]:
    """Time of every layer before and after, and as predicted; below it the loss."""
    if not layers:
        return ()
    measured = any(layer.measured_us is not None for layer in layers)
    place = {layer.node: k for k, layer in enumerate(layers)}
    data: list[dict[str, Any]] = []
    if any(layer.dense_us is not None for layer in layers):
        before = [layer.dense_us for layer in layers]
        data.append(_bars("original, measured", range(len(layers)), before, layers, FAINT, width=0.9))
    for precision in dict.fromkeys(layer.precision for layer in layers):
        mine = [layer for layer in layers if layer.precision == precision]
        times = [layer.measured_us if measured else layer.predicted_us for layer in mine]
        name = f"{precision}, {'measured' if measured else 'predicted'}"
        data.append(
            _bars(name, [place[x.node] for x in mine], times, mine, PRECISIONS.get(precision, QUIET), width=0.55)
        )
    if measured:
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "predicted",
                "x": list(range(len(layers))),
                "y": [layer.predicted_us for layer in layers],
                "customdata": [layer.node for layer in layers],
                "marker": {"color": "var(--ink)", "symbol": "line-ew-open", "size": 9, "line": {"width": 2}},
                "hovertemplate": "%{customdata}: %{y:.4g} us",
            }
        )
    height = 400
    if any(layer.loss for layer in layers):
        height = 520
        losses = [layer.loss for layer in layers]
        bars = _bars("loss", range(len(layers)), losses, layers, QUIET, width=0.55)
        data.append(bars | {"yaxis": "y2", "hovertemplate": "%{customdata}: loss %{y:.3g}", "showlegend": False})
    layout = base(
        height=height,
        xaxis={"title": "layer, in the order they run"},
        yaxis={"title": "us"},
        yaxis2={"title": "loss", "exponentformat": "e"},
    )
    layout["barmode"] = "overlay"
    layout["xaxis"] |= {"range": [-0.6, len(layers) - 0.4], "zeroline": False, "tickformat": "d"}
    if height == 400:
        del layout["yaxis2"]
    else:
        layout["yaxis"]["domain"], layout["yaxis2"]["domain"], layout["xaxis"]["anchor"] = [0.36, 1], [0, 0.26], "y2"
    slowest = max(layers, key=lambda layer: layer.time_us)
    kind = "measured by the runtime's profiler" if measured else "predicted, not measured"
    caption = f"Time of every layer, {kind}" + ("; below it the predicted loss." if height > 400 else ".")
    bars_of = f"Bars of {plural(len(layers), 'layer')}"
    alt = f"{bars_of}; the slowest is {slowest.node} with {slowest.time_us:.4g} us."
    return (Chart("chart-layers", caption, alt, {"data": data, "layout": layout}),)


def group_chart(groups: Sequence[Mapping[str, Any]]) -> tuple[Chart, ...]:
    """Units kept and removed, one bar for each group."""
    if not groups:
        return ()
    names = [group["id"] for group in groups]
    kept = [len(group["kept"]) for group in groups]
    removed = [group["size"] - len(group["kept"]) for group in groups]
    kinds = ((kept, "kept", COLOURS[0]), (removed, "removed", FAINT))
    data = [
        {
            "type": "bar",
            "name": name,
            "x": list(range(len(names))),
            "y": values,
            "customdata": names,
            "marker": {"color": paint},
            "hovertemplate": f"%{{customdata}}: %{{y}} {name}<extra></extra>",
        }
        for values, name, paint in kinds
    ]
    layout = base(height=320, xaxis={"title": "group, in graph order"}, yaxis={"title": "units"})
    layout["barmode"] = "stack"
    layout["xaxis"] |= {"range": [-0.6, len(names) - 0.4], "zeroline": False, "tickformat": "d"}
    if len(names) <= MANY:
        ticks = [figures.shortened(name, 18) for name in names]
        layout["xaxis"] |= {"tickvals": list(range(len(names))), "ticktext": ticks}
    whole = sum(1 for k in removed if not k)
    units = f"{sum(kept)} of {sum(kept) + sum(removed)} units kept"
    alt = f"Bars of {plural(len(names), 'group')}: {units}, {whole} groups whole."
    return (Chart("chart-groups", "Units that every group keeps.", alt, {"data": data, "layout": layout}),)


def _bars(
    name: str, x: Sequence[int], y: Sequence[float | None], layers: Sequence[Layer], paint: str, *, width: float
) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": name,
        "x": list(x),
        "y": list(y),
        "width": width,
        "customdata": [layer.node for layer in layers],
        "marker": {"color": paint},
        "hovertemplate": "%{customdata}: %{y:.4g} us",
    }


def training_chart(training: Training) -> Chart:
    """The held-out error over the steps of a training."""
    points = training.curve
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "held-out output error",
            "x": [point.step for point in points],
            "y": [point.error for point in points],
            "line": {"color": COLOURS[0]},
            "hovertemplate": "step %{x}: %{y:.4g}<extra></extra>",
        }
    ]
    layout = base(height=300, xaxis={"title": "step"}, yaxis={"title": "held-out output error", "type": "log"})
    alt = f"Line of {plural(len(points), 'point')}: from {points[0].error:.3g} to {points[-1].error:.3g}."
    caption = "The error of the averaged weights on samples that were not learned from."
    return Chart("chart-training", caption, alt, {"data": data, "layout": layout})
