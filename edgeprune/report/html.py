"""A report as one web page that needs nothing else: tables always, charts where the [report] extra is installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.util import find_spec
from typing import Any

from edgeprune.report import words
from edgeprune.report.model import Report

_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d8dde3, #3a4149); --soft: light-dark(#5b6672, #9aa5b1);
  --bar: light-dark(#2f6fdf, #6ea3ff); --track: light-dark(#e9edf2, #262c33); --note: light-dark(#fff4d6, #3b3213); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem;
  color: light-dark(#1c2128, #e6e9ed); background: light-dark(#fff, #14181d); }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2.2rem }
p.lead { font-size: 1.05rem; margin-top: 0; color: var(--soft) }
div.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { font-weight: 600; color: var(--soft) }
.bar { display: block; background: var(--track); border-radius: 3px; min-width: 8rem; height: .7rem; margin-top: .4rem }
.bar > i { display: block; background: var(--bar); border-radius: 3px; height: 100% }
ul.notes { background: var(--note); border-radius: 6px; padding: .6rem 1rem .6rem 2rem }
details > summary { cursor: pointer; color: var(--soft) } code { font-size: .9em }
"""


def to_html(report: Report, plan: Mapping[str, Any]) -> str:
    """The report as a self-contained page.

    Args:
        report: What was measured.
        plan: The content of plan.json, schema 1, for the widths of groups and the layers; may be empty.
    """
    title = words.headline(report)
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(report.outcome.reason)}</p>',
        _notes(report.warnings),
        _before_and_after(report),
        _latencies(report),
        *_charts(report, plan),
        _groups(plan),
        _layers(plan),
        _refusals(report),
        _steps(report),
        _section("Conditions", _table(("", ""), [[escape(n), escape(t)] for n, t in words.conditions(report)])),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body>\n</html>\n"
    )


def _notes(warnings: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in warnings)
    return f'<ul class="notes">{items}</ul>' if items else ""


def _before_and_after(report: Report) -> str:
    rows = [[escape(text) for text in (r.what, r.before, r.after, r.change)] for r in words.comparison(report)]
    return _section("Before and after", _table(("", "before", "after", "change"), rows))


def _latencies(report: Report) -> str:
    """Every model that was timed, with a bar as long as its latency."""
    if report.latency is None:
        return ""
    timed = {"original": report.latency.baseline, **report.latency.variants, "result": report.latency.result}
    slowest_ms = max(m.median_ms for m in timed.values())
    rows = [
        [escape(name), _bar(m.median_ms / slowest_ms), words.latency(m), f"{m.p95_ms:.4g} ms", str(m.runs)]
        for name, m in timed.items()
    ]
    return _section(
        "Latency, measured in turns", _table(("model", "", "median (95% interval)", "95th percentile", "runs"), rows)
    )


def _charts(report: Report, plan: Mapping[str, Any]) -> list[str]:
    if find_spec("plotly") is None:
        return []
    from edgeprune.report.charts import chart_fragments

    return [_section(title, fragment) for title, fragment in chart_fragments(report, plan)]


def _groups(plan: Mapping[str, Any]) -> str:
    groups = plan.get("groups", [])
    rows = [
        [
            f"<code>{escape(group['id'])}</code>",
            escape(group["unit"]),
            _bar(len(group["kept"]) / group["size"] if group["size"] else 1.0),
            f"{len(group['kept'])} of {group['size']}",
        ]
        for group in groups
    ]
    return _folded("Widths", words.plural(len(rows), "group"), _table(("group", "unit", "", "kept"), rows))


def _layers(plan: Mapping[str, Any]) -> str:
    layers = plan.get("layers", [])
    slowest_us = max((layer["latency_us"] or 0.0 for layer in layers), default=0.0) or 1.0
    rows = [
        [
            f"<code>{escape(layer['node'])}</code>",
            escape(layer["op"]),
            escape(layer["precision"]),
            escape(layer["sparsity"]),
            _bar((layer["latency_us"] or 0.0) / slowest_us),
            "" if layer["latency_us"] is None else f"{layer['latency_us']:.4g} us",
        ]
        for layer in layers
    ]
    table = _table(("layer", "operator", "precision", "sparsity", "", "predicted"), rows)
    return _folded("Layers", words.plural(len(rows), "layer"), table)


def _refusals(report: Report) -> str:
    rows = [[escape(r.reason), str(r.axes), escape(", ".join(r.nodes))] for r in report.refused]
    summary = words.plural(len(rows), "reason")
    return _folded("Left whole", summary, _table(("reason", "axes", "nodes"), rows))


def _steps(report: Report) -> str:
    longest_s = max(report.seconds.values(), default=0.0) or 1.0
    rows = [[escape(n), _bar(s / longest_s), words.seconds(s)] for n, s in report.seconds.items()]
    return _folded("Time taken", words.seconds(sum(report.seconds.values())), _table(("step", "", "time"), rows))


def _section(title: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{body}"


def _folded(title: str, summary: str, table: str) -> str:
    if not table:
        return ""
    return _section(title, f"<details><summary>{escape(summary)}</summary>{table}</details>")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table of cells that are HTML already; nothing where there are no rows."""
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    if not body:
        return ""
    head = "".join(f"<th>{escape(text)}</th>" for text in header)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'


def _bar(share: float) -> str:
    return f'<span class="bar"><i style="width:{100 * min(1.0, max(0.0, share)):.1f}%"></i></span>'
