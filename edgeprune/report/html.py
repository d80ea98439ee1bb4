"""A report as one self-contained web page: charts, tables with the same figures, and the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from edgeprune.report import figures
from edgeprune.report.charts import group_chart, latency_charts, layer_chart, training_chart
from edgeprune.report.graph_view import Picture, channels, colour, graph_view
from edgeprune.report.loss_part import HEADER as LOSS_HEADER
from edgeprune.report.loss_part import rows as loss_rows
from edgeprune.report.model import Layer, Report
from edgeprune.report.sentence import sentence, unmeasured
from edgeprune.report.tradeoff import Reached, reached, reached_by, tradeoff_chart
from edgeprune.report.web_page import Section, bar, folded, number, page, table
from edgeprune.support import plural

OPEN_ROWS = 30
"""A longer table is folded away."""


def to_html(
    report: Report, plan: Mapping[str, Any], picture: Picture | None = None, others: Sequence[Reached] = ()
) -> str:
    """The report as a self-contained page.

    Args:
        report: What was measured.
        plan: The content of plan.json, schema 1, for the widths of groups and the layers; may be empty.
        picture: The dense graph, if it is available.
        others: Further points of the curve that this result belongs to.
    """
    sections = [
        _before_and_after(report),
        _outputs(report),
        _losses(report),
        _training(report),
        _latency(report),
        _tradeoff(report, others),
        _layers(report, plan, picture),
        _groups(plan, picture),
        _graph(report, plan, picture),
        _refusals(report),
        Section("Never measured", _list(unmeasured(report))),
        _conditions(report),
    ]
    return page(figures.headline(report), _top(report), [s for s in sections if s.body or s.charts])


def _top(report: Report) -> str:
    return (
        f'<h1>{escape(figures.headline(report))}</h1>\n<p class="lead">{escape(sentence(report))}</p>\n'
        f'<p class="why">{escape(report.outcome.reason)}</p>\n{_cards(report)}\n{_list(report.warnings, "notes")}'
    )


def _cards(report: Report) -> str:
    cards = []
    if report.latency is not None:
        faster = report.latency.speedup
        cards.append(("speed, measured", f"{faster.value:.2f}x", f"95%: {faster.ci_low:.2f} to {faster.ci_high:.2f}"))
        cards.append(("latency", f"{report.latency.result.median_ms:.3g} ms", _was(report.latency.baseline.median_ms)))
    elif (guess := report.predicted) is not None:
        error = "error not known" if guess.error is None else f"typical error {guess.error:.0%}"
        cards.append(("speed, predicted", f"{guess.speedup:.2f}x", error))
        cards.append(("latency, predicted", f"{guess.result_ms:.3g} ms", _was(guess.baseline_ms)))
    if (accuracy := report.accuracy) is not None:
        called = accuracy.metric if accuracy.kind == "evaluation" else f"fidelity: {accuracy.metric}"
        cards.append((called, figures.score(accuracy, accuracy.after), figures.change_of(accuracy)))
    old, new = report.sizes.baseline, report.sizes.result
    for what, before, after, text in (
        ("multiply-accumulates", old.macs, new.macs, figures.count),
        ("file", old.file_bytes, new.file_bytes, figures.file_size),
    ):
        cards.append((what, text(after), f"was {text(before)}"))
    items = "".join(
        f"<div><dl><dt>{escape(what)}</dt><dd>{escape(value)} <small>{escape(more)}</small></dd></dl></div>"
        for what, value, more in cards
    )
    return f'<div class="cards">{items}</div>'


def _was(latency_ms: float) -> str:
    return f"was {latency_ms:.3g} ms"


def _before_and_after(report: Report) -> Section:
    rows = [[escape(text) for text in row] for row in figures.comparison(report)]
    return Section("Before and after", table(figures.COMPARISON_HEADER, rows, "Before and after"))


def _outputs(report: Report) -> Section:
    """The agreement of each output with the original's."""
    rows = [[escape(text) for text in row] for row in figures.outputs(report)]
    evaluated = report.accuracy is not None and report.accuracy.kind == "evaluation"
    above = "your own evaluation" if evaluated else "that of the output that loses most points"
    text = (
        f'<p class="soft">Each output is compared with the original\'s as what it is. The accuracy above is {above}. '
        "For a signal-to-noise ratio, a point is 1% noise.</p>"
    )
    return Section("Outputs", text + table(figures.OUTPUTS_HEADER, rows, "Outputs") if rows else "")


def _losses(report: Report) -> Section:
    """What the loss comes from."""
    rows = [[escape(text) for text in row] for row in loss_rows(report.losses)]
    text = (
        '<p class="soft">The result was built and scored again with one thing taken back at a time. Losses need not '
        "add up.</p>"
    )
    return Section("Why it is worse", text + table(LOSS_HEADER, rows, "Why it is worse") if rows else "")


def _training(report: Report) -> Section:
    """What ``distill`` did; empty if it did nothing."""
    training = report.training
    if training is None:
        return Section("Training", "")
    first, last = training.curve[0].error, min(point.error for point in training.curve)
    rows = [
        ["losses", ", ".join(f"{name} x {weight:g}" for name, weight in training.losses.items()) or "the labels' own"],
        ["trained weights", training.trained],
        ["samples", f"{training.samples} to learn from, {training.held_out} held out"],
        ["steps", f"{training.steps} of {plural(training.batch, 'sample')} in {training.minutes:.1f} min"],
        ["held-out output error", f"{first:.4g} before, {last:.4g} after"],
    ]
    if report.accuracy is not None:
        scores = figures.score(report.accuracy, training.before), figures.score(report.accuracy, report.accuracy.after)
        rows.append([report.accuracy.metric, f"{scores[0]} before, {scores[1]} after"])
    if not training.gained:
        rows.append(["outcome", "nothing was gained: the weights are those from before"])
    cells = [[escape(cell) for cell in row] for row in rows]
    return Section("Training", table(("", ""), cells, "Training"), (training_chart(training),))


def _latency(report: Report) -> Section:
    """All measured latencies, or a chart of the predicted ones."""
    if report.latency is None:
        return Section("Latency", "", latency_charts(report))
    rows = [
        [escape(name), figures.latency(m), f"{m.p95_ms:.4g} ms", str(m.runs), f"{m.drift:+.1%}"]
        for name, m in report.latency.timed.items()
    ]
    header = ("model", "median (95% interval)", "95th percentile", "runs", "drift")
    return Section("Latency", table(header, rows, "Measured latencies"), latency_charts(report))


def _tradeoff(report: Report, others: Sequence[Reached]) -> Section:
    rival = () if report.rival is None else (reached_by(report.rival),)
    charts = tradeoff_chart([*reached(report), *rival, *others], report.accuracy)
    more = ""
    if charts and not others and report.command == "compile":
        more = (
            '<p class="soft">One compile gives one point. <code>edgeprune compile --pareto</code> gives a curve of '
            "several points, and <code>edgeprune report DIR DIR ...</code> draws several runs in one chart.</p>"
        )
    return Section("Speed against accuracy", more, charts)


def _layers(report: Report, plan: Mapping[str, Any], picture: Picture | None) -> Section:
    boxes = {} if picture is None else {box.name: box for box in picture.boxes}
    costs = {layer.node: layer for layer in report.layers}
    fused = {name: layer.node for layer in report.layers for name in layer.nodes if name != layer.node}
    rows = []
    for planned in plan.get("layers", []):
        node = planned["node"]
        box = boxes.get(node)
        made, read = channels(box, plan) if box else ("", "")
        whole = "all" if box and any(len(shape) > 1 for shape in box.weights.values()) else ""
        cost = costs.get(node)
        rows.append(
            [
                f"<code>{escape(node)}</code>",
                escape(planned["op"]),
                made or whole,
                read or whole,
                escape(planned["precision"]),
                escape(planned["sparsity"]),
                *_costs(cost, planned["latency_us"], fused.get(node)),
            ]
        )
    header = (
        *("layer", "operator", "channels made", "channels read", "precision", "sparsity"),
        *("predicted, us", "measured, us", "original measured, us", "loss"),
    )
    text = (
        '<p class="soft">The table shows how many output channels (made) and input channels (read) of each layer '
        "stay. If one kernel runs several nodes, its time is in the row of the first node, and the other rows name "
        "that node. The loss is the predicted change of the network's outputs. It is in the row of the layer whose "
        "output channels were removed.</p>"
    )
    body = _folded_if_long(table(header, rows, "Layers", sortable=True), len(rows), "layer")
    return Section("Layers", text + body if rows else "", layer_chart(report.layers))


def _folded_if_long(body: str, rows: int, noun: str) -> str:
    return body if rows <= OPEN_ROWS else folded(f"all {plural(rows, noun)}", body)


def _costs(cost: Layer | None, planned_us: float | None, leader: str | None) -> Iterator[str]:
    if cost is None:
        said = "" if leader is None else f'<span class="soft">with {escape("/".join(leader.split("/")[-2:]))}</span>'
        yield said or ("" if planned_us is None else number(f"{planned_us:.4g}", planned_us))
        yield from ("", "", "")
        return
    yield number(f"{cost.predicted_us:.4g}", cost.predicted_us)
    for value in (cost.measured_us, cost.dense_us):
        yield number("not measured" if value is None else f"{value:.4g}", value)
    yield number("" if cost.loss is None else f"{cost.loss:.2g}", cost.loss)


def _groups(plan: Mapping[str, Any], picture: Picture | None) -> Section:
    groups = plan.get("groups", [])
    index = {} if picture is None else {name: k for k, name in enumerate(picture.groups)}
    rows = [
        [
            f"{_swatch(index.get(group['id']))}<code>{escape(group['id'])}</code>",
            escape(group["unit"]),
            number(f"{len(group['kept'])} of {group['size']}", len(group["kept"])),
            number(f"{_kept(group):.0%}", _kept(group)) + bar(_kept(group)),
        ]
        for group in groups
    ]
    whole = table(("group", "unit", "kept", "share"), rows, "Groups", sortable=True)
    return Section("Groups", _folded_if_long(whole, len(rows), "group"), group_chart(groups))


def _kept(group: Mapping[str, Any]) -> float:
    return len(group["kept"]) / group["size"] if group["size"] else 1.0


def _swatch(k: int | None) -> str:
    return "" if k is None else f'<span class="swatch" style="background:{colour(k)}"></span>'


def _graph(report: Report, plan: Mapping[str, Any], picture: Picture | None) -> Section:
    if picture is None:
        return Section("Graph", "")
    precision = {layer["node"]: layer["precision"] for layer in plan.get("layers", [])}
    times = {name: layer.time_us for layer in report.layers for name in layer.nodes}
    whole_us = sum(layer.time_us for layer in report.layers)
    notes: dict[str, dict[str, str]] = {}
    for box in picture.boxes:
        facts = notes.setdefault(box.name, {})
        made, read = channels(box, plan)
        facts |= {k: v for k, v in (("makes", made), ("reads", read)) if v}
        if box.name in precision:
            facts["precision"] = precision[box.name]
        if box.name in times and whole_us > 0:
            facts["takes"] = f"{times[box.name]:.3g} us"
            facts["share"] = f"{times[box.name] / whole_us:.5f}"
    text = (
        '<p class="soft">The original model in canonical form. Nodes of one colour lose the same channels. Grey '
        "nodes lose none; the mouse pointer shows why.</p>"
    )
    return Section("Graph", text + graph_view(picture, notes))


def _refusals(report: Report) -> Section:
    rows = [
        [escape(r.reason), number(str(r.axes), r.axes), f"<code>{escape(', '.join(r.nodes))}</code>"]
        for r in report.refused
    ]
    return Section("Refused and why", table(("reason", "axes left whole", "nodes"), rows, "Refused"))


def _conditions(report: Report) -> Section:
    facts = table(("", ""), [[escape(n), escape(t)] for n, t in figures.conditions(report)], "Conditions")
    longest_s = max(report.seconds.values(), default=0.0) or 1.0
    rows = [[escape(n), figures.seconds(s), bar(s / longest_s)] for n, s in report.seconds.items()]
    again = ""
    if report.reproduce is not None:
        again = f"<p>To reproduce it, run in this folder: <code>{escape(report.reproduce)}</code></p>"
    return Section(
        "Conditions", facts + again + folded("time of every step", table(("step", "time", ""), rows, "Steps"))
    )


def _list(items: Sequence[str], kind: str = "") -> str:
    if not items:
        return ""
    inner = "".join(f"<li>{escape(text)}</li>" for text in items)
    return f'<ul class="{kind}">{inner}</ul>' if kind else f"<ul>{inner}</ul>"
