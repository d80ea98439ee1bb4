"""A graph to draw, and its SVG in a web page: layout, colours, and the frame that page.js makes zoomable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from edgeprune.report.figures import shortened


@dataclass(frozen=True)
class Box:
    """One node to draw.

    Attributes:
        op: its operator.
        name: its name.
        groups: indices of the groups that cut its results.
        tip: ids of the groups, or why the node's result is frozen.
        sources: indices of the nodes whose results it reads; they come before it.
        weights: its constant inputs, name -> shape.
    """

    op: str
    name: str
    groups: tuple[int, ...]
    tip: str
    sources: tuple[int, ...]
    weights: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Picture:
    """The nodes of a graph in its order, and the ids of the groups by index."""

    boxes: tuple[Box, ...]
    groups: tuple[str, ...]


def channels(box: Box, plan: Mapping[str, Any]) -> tuple[str, str]:
    """What a node's weights keep of its output and input channels, such as ``48 of 64``; empty text if all.

    Args:
        box: the node.
        plan: the content of plan.json; may be empty.
    """
    kept: dict[str, str] = {}
    for weight, shape in box.weights.items():
        for axis, cut in plan.get("initializers", {}).get(weight, {}).items():
            if int(axis) < len(shape):  # the weight comes first; its bias says the same again
                kept.setdefault(cut["role"], f"{len(cut['kept'])} of {shape[int(axis)]}")
    return kept.get("producer", ""), kept.get("consumer", "")


GREY = "#dddddd"

MOST_DRAWN = 3000
"""Most nodes in a drawing: a larger graph makes the page slow and cannot be read."""

_WIDTH, _HEIGHT, _COLUMN, _ROW, _BOW = 132, 34, 172, 62, 90


def colour(k: int) -> str:
    """The colour of the group with index ``k``: light hues that the golden ratio separates well."""
    import colorsys

    red, green, blue = colorsys.hsv_to_rgb(k * 0.618034 % 1.0, 0.45, 0.95)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def fills(groups: Sequence[int]) -> list[str]:
    """The colours of the first two groups, or grey."""
    return [colour(g) for g in groups[:2]] or [GREY]


def graph_view(picture: Picture, notes: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """The drawn graph in a frame with zoom buttons, a search, and a line about the node under the mouse pointer.

    Args:
        picture: what to draw.
        notes: node name -> facts by name, which the line shows beside the node's groups. A ``precision`` and a
            ``share`` of the time (0 to 1) are also offered as colours.
    """
    if len(picture.boxes) > MOST_DRAWN:
        return f"<p>With {len(picture.boxes):,} nodes the graph is too large to be drawn here.</p>"
    notes = notes or {}
    colour_by = ["group"]
    colour_by += [
        c for c, fact in (("precision", "precision"), ("time", "share")) if any(fact in n for n in notes.values())
    ]
    options = "".join(f'<option value="{c}">{c}</option>' for c in colour_by)
    alt = (
        f"Graph of {len(picture.boxes)} nodes from the input at the top to the output at the bottom, coloured by the "
        f"{len(picture.groups)} groups that cut them. The tables on this page name every group and layer."
    )
    return (
        '<div class="graph-view">\n<div class="graph-bar">'
        '<button type="button" data-zoom="1.3" aria-label="Zoom in">+</button>'
        '<button type="button" data-zoom="0.77" aria-label="Zoom out">\N{MINUS SIGN}</button>'
        '<button type="button" data-zoom="fit">whole graph</button>'
        '<button type="button" data-zoom="1">full size</button>'
        f"<label>colour by <select data-colour>{options}</select></label>"
        '<label>find <input type="search" data-find placeholder="node or operator"></label></div>\n'
        '<p class="graph-tip" role="status">Point at a node, or find it by name, to see what it is. '
        "Keys: + and \N{MINUS SIGN} zoom, arrows move.</p>\n"
        f'<div class="graph-frame" tabindex="0" role="region" aria-label="The graph, scrollable">'
        f"{draw(picture, notes, alt)}</div>\n</div>"
    )


def layout(sources: Sequence[Sequence[int]]) -> list[tuple[float, int]]:
    """Column and row of every node: the row is the longest path from an input, the column is near its sources'.

    Args:
        sources: for every node the nodes that it reads; they come before it.
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
        # Side by side, the row as a whole below its sources.
        first = sum(wished.values()) / len(ordered) - (len(ordered) - 1) / 2
        for place, k in enumerate(ordered):
            columns[k] = first + place
    leftmost = min(columns, default=0.0)
    return [(column - leftmost, row) for column, row in zip(columns, rows, strict=True)]


def draw(picture: Picture, notes: Mapping[str, Mapping[str, str]], alt: str) -> str:
    """The graph as SVG without the frame; arguments as for `graph_view`, ``alt`` for readers who do not see it."""
    drawn = picture.boxes
    places = [(8 + x * _COLUMN, 8 + y * _ROW) for x, y in layout([box.sources for box in drawn])]
    width = max((x for x, _ in places), default=0) + _WIDTH + _BOW
    height = max((y for _, y in places), default=0) + _ROW
    nodes = (_box(box, place, notes.get(box.name, {})) for box, place in zip(drawn, places, strict=True))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{escape(alt)}">\n'
        + "\n".join([*_edges(drawn, places), *nodes])
        + "\n</svg>"
    )


def _edges(drawn: Sequence[Box], places: Sequence[tuple[float, float]]) -> Iterator[str]:
    """Paths: straight down to the next row; past other rows in a bow to the right, so no node hides it."""
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


def _box(box: Box, place: tuple[float, float], facts: Mapping[str, str]) -> str:
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
        f'<text x="{middle:.0f}" y="{y + down:.0f}">{escape(shortened(line, 20))}</text>'
        for line, down in ((box.op, 14), (box.name, 28))
    )
    told = "; ".join(f"{name} {value}" for name, value in facts.items() if name != "share")
    title = "\n".join(escape(line) for line in (f"{box.op} {box.name}", box.tip, told) if line)
    data = "".join(f' data-{name}="{escape(facts[name])}"' for name in ("precision", "share") if name in facts)
    groups = " ".join(map(str, box.groups))
    return f'<g class="node" data-groups="{groups}"{data}><title>{title}</title>{halves}{edge}{text}</g>'
