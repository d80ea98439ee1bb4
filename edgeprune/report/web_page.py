"""The frame of every web page: one file with style, script and the chart library (plotly), without network access."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        id: id of its HTML element.
        caption: what it shows.
        alt: the same for readers who do not see it, with the main figures.
        figure: data and layout for plotly. A colour may be a variable of the page's style, such as ``var(--c1)``,
            which follows the light or dark scheme.
    """

    id: str
    caption: str
    alt: str
    figure: dict[str, Any]


@dataclass(frozen=True)
class Section:
    """One part of a page under a heading: HTML, with charts before it."""

    title: str
    body: str
    charts: tuple[Chart, ...] = ()

    @property
    def id(self) -> str:
        """Id of its HTML element, for links to it."""
        return "-".join(word for word in self.title.lower().replace(",", "").split() if word.isalnum())


def page(title: str, top: str, sections: Sequence[Section]) -> str:
    """A whole page.

    Args:
        title: title of the window.
        top: HTML above the first section, with the heading.
        sections: in order; links at the top lead to each.
    """
    charts = [chart for section in sections for chart in section.charts]
    links = "".join(f'<li><a href="#{s.id}">{escape(s.title)}</a></li>' for s in sections)
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>\n{_asset('page.css')}</style>\n</head>\n<body>",
            '<a class="skip" href="#content">skip to the content</a>',
            f'<header>\n{top}\n<nav aria-label="On this page"><ul>{links}</ul></nav>\n</header>\n<main id="content">',
            *(_section(s) for s in sections),
            "</main>",
            *(_scripts(charts)),
            f"<script>\n{_asset('page.js')}</script>\n</body>\n</html>\n",
        ]
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]], label: str, *, sortable: bool = False) -> str:
    """An HTML table, or empty text if there are no rows.

    Args:
        header: names of the columns.
        rows: cells as HTML; the first cell names the row.
        label: what the table has, for readers who do not see it.
        sortable: whether a click on a column's name sorts by it.
    """
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>\n"
        for row in rows
    )
    if not body:
        return ""
    head = "".join(f'<th scope="col">{escape(text)}</th>' if text else "<td></td>" for text in header)
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table: {escape(label)}">'
        f"<table{kind}><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>"
    )


def folded(summary: str, body: str) -> str:
    """A part of the page that opens on a click; it is printed open."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>" if body else ""


def bar(share: float) -> str:
    """A bar of length ``share``, 0 to 1, beside the figure."""
    return f'<span class="bar"><i style="width:{100 * min(1.0, max(0.0, share)):.1f}%"></i></span>'


def number(text: str, value: float | None) -> str:
    """Text of a cell, which is sorted by its number."""
    plain = "" if value is None else f"{value:.6g}"
    return f'<data value="{plain}">{escape(text)}</data>'


def _section(section: Section) -> str:
    drawn = "".join(
        f'<figure><div class="chart" id="{c.id}" role="img" aria-label="{escape(c.alt)}"></div>'
        f"<figcaption>{escape(c.caption)}</figcaption></figure>\n"
        for c in section.charts
    )
    return (
        f'<section id="{section.id}" aria-labelledby="{section.id}-title">\n'
        f'<h2 id="{section.id}-title">{escape(section.title)}</h2>\n{drawn}{section.body}\n</section>'
    )


def _scripts(charts: Sequence[Chart]) -> list[str]:
    """The charts as data, and their library as gzip, which browsers have unpacked since 2023."""
    if not charts:
        return []
    library = _library()
    if not library:
        return ["<p>Charts need plotly, which is not installed here; the tables have the same figures.</p>"]
    # A name with "</" would end the script.
    data = json.dumps({c.id: c.figure for c in charts}, separators=(",", ":"), allow_nan=False)
    figures = data.replace("<", "\\u003c")
    return [
        "<noscript><p>Charts need JavaScript; the tables have the same figures.</p></noscript>",
        f'<script type="application/json" id="figures">{figures}</script>',
        f'<script type="application/octet-stream" id="plotly">{library}</script>',
    ]


@cache
def _library() -> str:
    """Plotly's script from its installed package, gzip and base64, without an import; empty if it is not installed."""
    spec = find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        return ""
    script = Path(spec.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    return base64.b64encode(gzip.compress(script.read_bytes(), mtime=0)).decode("ascii")


@cache
def _asset(name: str) -> str:
    return files("edgeprune.report").joinpath("assets").joinpath(name).read_text(encoding="utf-8")
