"""The charts of a report, as data and layout for plotly; colours are variables of the page's style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune.report import words
from edgeprune.report.model import Latency, Layer, Prediction, Report
from edgeprune.report.web_page import Chart
from edgeprune.timing import Measurement

MANY = 16
"""Bars above this are not named on the axis; pointing at one tells its name."""

COLOURS = ("var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)")
QUIET, FAINT = "var(--quiet)", "var(--faint)"
PRECISIONS = {"int8": COLOURS[0], "fp16": COLOURS[2], "fp32": COLOURS[1]}


def latency_charts(report: Report) -> tuple[Chart, ...]:
    """Median and interval of everything that was timed, and how steady the run was; else what was predicted."""
    budget = report.budget
    if (measured := report.latency) is not None:
        faster = None if budget.speedup is None else measured.baseline.median_ms / budget.speedup
        return _medians(measured, budget.latency_ms or faster), _rounds(measured)
    if (guess := report.predicted) is not None:
        faster = None if budget.speedup is None else guess.baseline_ms / budget.speedup
        return (_predicted(guess, budget.latency_ms or faster),)
    return ()


def medians(timed: Mapping[str, Measurement], strong: str, budget_ms: float | None = None) -> dict[str, Any]:
    """Bars of medians with their intervals; ``strong`` names the one that is not quiet."""
    spans = {name: (m.ci_low_ms, m.median_ms, m.ci_high_ms) for name, m in timed.items()}
    return _spans(spans, strong, "median latency, ms", budget_ms)


def _spans(
    spans: Mapping[str, tuple[float, float, float]], strong: str, title: str, budget_ms: float | None
) -> dict[str, Any]:
    """Bars of milliseconds with whiskers: name -> lower end, value, upper end."""
    names = list(spans)
    data = {
        "type": "bar",
        "orientation": "h",
        "y": [f"{name}<br>{ms:.3g} ms" for name, (_, ms, _) in spans.items()],
        "x": [ms for _, ms, _ in spans.values()],
        "marker": {"color": [COLOURS[0] if name == strong else FAINT for name in names]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [high - ms for _, ms, high in spans.values()],
            "arrayminus": [ms - low for low, ms, _ in spans.values()],
            "color": "var(--ink)",
        },
        "customdata": names,
        "hovertemplate": "%{customdata}: %{x:.4g} ms<extra></extra>",
    }
    layout = base(height=110 + 42 * len(names), xaxis={"title": title, "rangemode": "tozero"})
    layout["yaxis"] |= {"autorange": "reversed", "type": "category"}
    if budget_ms is not None:
        layout["shapes"] = [
            {
                "type": "line",
                "x0": budget_ms,
                "x1": budget_ms,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "line": {"color": COLOURS[1], "dash": "dash"},
            }
        ]
        layout["margin"]["t"] = 26
        layout["annotations"] = [
            {
                "text": "asked",
                "x": budget_ms,
                "yref": "paper",
                "y": 1,
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"color": COLOURS[1]},
            }
        ]
    return {"data": [data], "layout": layout}


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
    timed = {"original": latency.baseline, **latency.variants, "result": latency.result}
    said = "; ".join(f"{name} {words.latency(m)}" for name, m in timed.items())
    caption = "Median latency with its 95% interval, all measured in turns in one run."
    return Chart("chart-latency", caption, f"Bars: {said}.", medians(timed, "result", budget_ms))


def _predicted(guess: Prediction, budget_ms: float | None) -> Chart:
    error = guess.error or 0.0
    spans = {
        name: (ms * (1 - error), ms, ms * (1 + error))
        for name, ms in (("original", guess.baseline_ms), ("result", guess.result_ms))
    }
    said = "of unknown error" if guess.error is None else f"the whiskers are its typical error of {error:.0%}"
    caption = f"Predicted, not measured, by an analytic profile; {said}."
    alt = f"Bars: original {guess.baseline_ms:.4g} ms, result {guess.result_ms:.4g} ms, predicted."
    return Chart("chart-latency", caption, alt, _spans(spans, "result", "predicted latency, ms", budget_ms))


def _rounds(latency: Latency) -> Chart:
    timed = {"original": latency.baseline, **latency.variants, "result": latency.result}
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
    caption = "The same over the run, round by round: level lines mean a quiet machine."
    alt = f"Lines of {words.plural(len(latency.result.blocks_ms), 'round')}; from the first to the last third: {drift}."
    return Chart("chart-rounds", caption, alt, {"data": data, "layout": layout})


def layer_chart(layers: Sequence[Layer]) -> tuple[Chart, ...]:
    """Time of every layer, before and after, with what was predicted; below it the loss."""
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
    slowest = max(layers, key=lambda layer: layer.measured_us or layer.predicted_us)
    slowest_us = slowest.predicted_us if slowest.measured_us is None else slowest.measured_us
    kind = "measured by the runtime's profiler" if measured else "predicted, not measured"
    caption = f"Time of every layer, {kind}" + ("; below it the predicted loss." if height > 400 else ".")
    alt = f"Bars of {words.plural(len(layers), 'layer')}; the slowest is {slowest.node} with {slowest_us:.4g} us."
    return (Chart("chart-layers", caption, alt, {"data": data, "layout": layout}),)


def group_chart(groups: Sequence[Mapping[str, Any]]) -> tuple[Chart, ...]:
    """Units kept and removed, a bar a group."""
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
        layout["xaxis"] |= {"tickvals": list(range(len(names))), "ticktext": [_short(name) for name in names]}
    whole = sum(1 for k in removed if not k)
    units = f"{sum(kept)} of {sum(kept) + sum(removed)} units kept"
    alt = f"Bars of {words.plural(len(names), 'group')}: {units}, {whole} groups whole."
    return (Chart("chart-groups", "What every group keeps of its units.", alt, {"data": data, "layout": layout}),)


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


def _short(text: str, limit: int = 18) -> str:
    return text if len(text) <= limit else f"…{text[1 - limit :]}"
