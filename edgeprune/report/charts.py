"""Interactive charts for the web page, by plotly (extra [report]), whose script is inlined once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from edgeprune.report.model import Latency, Report

# Legible on a light and on a dark page, so that the charts need not know which of the two they are on.
_INK = "#7f8793"
_GRID = "rgba(127, 135, 147, 0.25)"
_LAYOUT: dict[str, Any] = {
    "paper_bgcolor": "rgba(0, 0, 0, 0)",
    "plot_bgcolor": "rgba(0, 0, 0, 0)",
    "font": {"color": _INK, "family": "system-ui, sans-serif"},
    "margin": {"l": 60, "r": 20, "t": 10, "b": 45},
    "legend": {"orientation": "h", "y": 1.12},
    "height": 340,
}


def chart_fragments(report: Report, plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Title and HTML of every chart there is data for; the first brings plotly's script with it."""
    from plotly.io import to_html

    script: bool | str = True
    for title, figure in _figures(report, plan):
        figure.update_layout(**_LAYOUT)
        figure.update_xaxes(gridcolor=_GRID, zerolinecolor=_GRID)
        figure.update_yaxes(gridcolor=_GRID, zerolinecolor=_GRID)
        config = {"displaylogo": False, "responsive": True}
        yield title, to_html(figure, include_plotlyjs=script, full_html=False, config=config)
        script = False


def _figures(report: Report, plan: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    if report.latency is not None:
        yield "Latency over the run", _blocks(report.latency)
    if plan.get("groups"):
        yield "Width of every group", _widths(plan["groups"])
    if plan.get("layers"):
        yield "Predicted latency by layer", _layers(plan["layers"])


def _blocks(latency: Latency) -> Figure:
    """Median of every block, so that drift and disturbances can be seen."""
    from plotly import graph_objects

    timed = {"original": latency.baseline, **latency.variants, "result": latency.result}
    figure = graph_objects.Figure()
    for name, measured in timed.items():
        figure.add_scatter(y=list(measured.blocks_ms), name=name, mode="lines+markers")
    figure.update_xaxes(title="round")
    figure.update_yaxes(title="median of the block, ms", rangemode="tozero")
    return figure


def _widths(groups: list[Mapping[str, Any]]) -> Figure:
    """Units kept and removed, a bar a group."""
    from plotly import graph_objects

    names = [group["id"] for group in groups]
    kept = [len(group["kept"]) for group in groups]
    removed = [group["size"] - len(group["kept"]) for group in groups]
    figure = graph_objects.Figure()
    figure.add_bar(x=names, y=kept, name="kept")
    figure.add_bar(x=names, y=removed, name="removed", marker_opacity=0.35)
    figure.update_layout(barmode="stack")
    figure.update_xaxes(showticklabels=len(names) <= 40)
    figure.update_yaxes(title="units")
    return figure


def _layers(layers: list[Mapping[str, Any]]) -> Figure:
    """Predicted time of every layer, coloured by precision and sparsity."""
    from plotly import graph_objects

    order = {layer["node"]: position for position, layer in enumerate(layers)}
    formats = sorted({(layer["precision"], layer["sparsity"]) for layer in layers})
    figure = graph_objects.Figure()
    for precision, sparsity in formats:
        mine = [layer for layer in layers if (layer["precision"], layer["sparsity"]) == (precision, sparsity)]
        figure.add_bar(
            x=[order[layer["node"]] for layer in mine],
            y=[layer["latency_us"] for layer in mine],
            name=precision if sparsity == "dense" else f"{precision}, {sparsity}",
            hovertext=[f"{layer['node']} ({layer['op']})" for layer in mine],
        )
    figure.update_xaxes(title="layer, in order")
    figure.update_yaxes(title="predicted, us")
    return figure
