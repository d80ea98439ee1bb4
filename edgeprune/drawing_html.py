"""The graph with its groups drawn over it, as one web page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from edgeprune.drawing import Box, boxes, colour, fills
from edgeprune.inspection import Inspection, causes

_WIDTH, _HEIGHT, _COLUMN, _ROW, _BOW = 132, 34, 172, 62, 90

_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d8dde3, #3a4149); --soft: light-dark(#5b6672, #9aa5b1) }
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem; color: light-dark(#1c2128, #e6e9ed);
  background: light-dark(#fff, #14181d) }
h1 { font-size: 1.4rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin-top: 2rem } p { color: var(--soft) }
div.graph { overflow: auto; max-height: 80vh; border: 1px solid var(--line); border-radius: 6px }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
summary { cursor: pointer } ul { margin: .2rem 0; padding-left: 1.2rem } code { font-size: .9em }
i.key { display: inline-block; width: .8rem; height: .8rem; border-radius: 3px; margin-right: .4rem }
svg text { font: 11px system-ui, sans-serif; fill: #1c2128; text-anchor: middle; pointer-events: none }
svg path { fill: none; stroke: var(--soft); opacity: .6 } svg rect.edge { fill: none; stroke: #5b6672 }
svg a:hover rect.edge { stroke: #d0006f; stroke-width: 3 } tr:target { outline: 2px solid #d0006f }
"""


def to_html(inspection: Inspection) -> str:
    """A page with the graph, its nodes coloured by group; every group's tensors; and what is frozen, by cause.

    Pointing at a node tells its groups, or why its result is frozen; a click goes to the first group's tensors.
    """
    drawn = boxes(inspection.analysis)
    i = inspection
    lead = (
        f"{i.nodes:,} nodes, {i.parameters:,} parameters, {i.macs:,} MACs; {len(i.groups)} groups, "
        f"{sum(g.size for g in i.groups):,} units that can be removed"
    )
    sections = [
        f"<h1>{escape(i.file)}</h1>",
        f"<p>{lead}. A node has the colour of the group that cuts its result, grey where none does.</p>",
        f'<div class="graph">{_svg(drawn)}</div>',
        _groups(i),
        _frozen(i),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(i.file)}: groups</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def layout(sources: Sequence[Sequence[int]]) -> list[tuple[float, int]]:
    """Column and row of every node: a row is the longest way from an input, a column lies near those of its sources.

    Args:
        sources: for every node the nodes it reads, all of which stand before it.
    """
    rows: list[int] = []
    members: dict[int, list[int]] = {}
    for k, before in enumerate(sources):
        rows.append(1 + max((rows[s] for s in before), default=-1))
        members.setdefault(rows[k], []).append(k)
    columns = [0.0] * len(sources)
    for row in sorted(members):
        wished = {k: sum(columns[s] for s in sources[k]) / max(len(sources[k]), 1) for k in members[row]}
        ordered = sorted(members[row], key=wished.__getitem__)
        # Side by side, and as a whole where their sources lie.
        first = sum(wished.values()) / len(ordered) - (len(ordered) - 1) / 2
        for place, k in enumerate(ordered):
            columns[k] = first + place
    leftmost = min(columns, default=0.0)
    return [(column - leftmost, row) for column, row in zip(columns, rows, strict=True)]


def _svg(drawn: Sequence[Box]) -> str:
    places = [(8 + x * _COLUMN, 8 + y * _ROW) for x, y in layout([box.sources for box in drawn])]
    width = max((x for x, _ in places), default=0) + _WIDTH + _BOW
    height = max((y for _, y in places), default=0) + _ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" role="img">\n'
        + "\n".join([*_edges(drawn, places), *(_box(*entry) for entry in zip(drawn, places, strict=True))])
        + "\n</svg>"
    )


def _edges(drawn: Sequence[Box], places: Sequence[tuple[float, float]]) -> Iterator[str]:
    """To the next row straight down; past other rows in a bow to the right, or the nodes between would hide it."""
    for box, (x, y) in zip(drawn, places, strict=True):
        for source in box.sources:
            x0, y0 = places[source]
            if y - y0 > _ROW:
                x1, x2, y1, y2 = x0 + _WIDTH, x + _WIDTH, y0 + _HEIGHT / 2, y + _HEIGHT / 2
                far = max(x1, x2) + min(_BOW, 12 + (y - y0) / 12)
                curve = f"M{x1:.0f} {y1:.0f}C{far:.0f} {y1:.0f} {far:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"
            else:
                x1, x2, y1 = x0 + _WIDTH / 2, x + _WIDTH / 2, y0 + _HEIGHT
                middle = (y1 + y) / 2
                curve = f"M{x1:.0f} {y1:.0f}C{x1:.0f} {middle:.0f} {x2:.0f} {middle:.0f} {x2:.0f} {y:.0f}"
            yield f'<path d="{curve}"/>'


def _box(box: Box, place: tuple[float, float]) -> str:
    x, y = place
    colours = fills(box.groups)
    part = _WIDTH / len(colours)
    halves = "".join(
        f'<rect x="{x + k * part:.0f}" y="{y:.0f}" width="{part:.0f}" height="{_HEIGHT}" fill="{fill}"/>'
        for k, fill in enumerate(colours)
    )
    edge = f'<rect class="edge" x="{x:.0f}" y="{y:.0f}" width="{_WIDTH}" height="{_HEIGHT}" rx="3"/>'
    middle = x + _WIDTH / 2
    text = "".join(
        f'<text x="{middle:.0f}" y="{y + down:.0f}">{escape(_short(line))}</text>'
        for line, down in ((box.op, 14), (box.name, 28))
    )
    title = f"<title>{escape(f'{box.op} {box.name}')}\n{escape(box.tip)}</title>"
    target = f' href="#group-{box.groups[0]}"' if box.groups else ""
    return f"<a{target}>{title}{halves}{edge}{text}</a>"


def _short(text: str, limit: int = 20) -> str:
    """The end of a long name, which tells more than its beginning."""
    return text if len(text) <= limit else f"…{text[1 - limit :]}"


def _groups(inspection: Inspection) -> str:
    index = {group.id: k for k, group in enumerate(inspection.analysis.groups)}
    rows = []
    for g in inspection.groups:
        k = index[g.id]
        tensors = "".join(f"<li><code>{escape(n)}</code> axis {a}, {escape(r)}</li>" for n, a, r in g.tensors)
        rows.append(
            f'<tr id="group-{k}"><td><i class="key" style="background:{colour(k)}"></i><code>{escape(g.id)}</code></td>'
            f"<td>{escape(g.kind)}</td><td>{g.size:,}</td><td>{g.parameters:,}</td><td>{g.macs:,}</td>"
            f"<td><details><summary>{len(g.tensors)}</summary><ul>{tensors}</ul></details></td></tr>"
        )
    return "<h2>Groups</h2>\n" + _table(("group", "unit", "units", "parameters", "MACs", "weight axes"), rows)


def _frozen(inspection: Inspection) -> str:
    rows = [
        f"<tr><td>{escape(freeze.reason)}</td><td><code>{escape(freeze.node or '')}</code></td><td>{count:,}</td></tr>"
        for freeze, count in causes(inspection.frozen)
    ]
    return "<h2>Frozen</h2>\n" + _table(("why", "where", "weight axes"), rows)


def _table(header: Sequence[str], rows: Sequence[str]) -> str:
    """A table of rows that are HTML already."""
    if not rows:
        return "<p>none</p>"
    head = "".join(f"<th>{name}</th>" for name in header)
    body = "\n".join(rows)
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
