"""The graph with its groups drawn over it, as one self-contained web page."""

from __future__ import annotations

from html import escape

from edgeprune.dependency.graph_drawing import picture
from edgeprune.dependency.inspection import Inspection
from edgeprune.dependency.inspection_tables import causes
from edgeprune.report import Section, colour, graph_view, number, page, table


def drawing_html(inspection: Inspection) -> str:
    """A page with the graph, its nodes coloured by group; the tensors of every group; and frozen axes by cause.

    The mouse pointer shows a node's groups, or why its result is frozen; a click marks all nodes of its groups.
    """
    i = inspection
    units = sum(g.size for g in i.groups)
    lead = (
        f"{i.nodes:,} nodes, {i.parameters:,} parameters, {i.macs:,} MACs; {len(i.groups)} groups, {units:,} units "
        "that can be removed. A node has the colour of the group that cuts its result, or grey if none does."
    )
    top = f'<h1>{escape(i.file)}</h1>\n<p class="lead">{lead}</p>'
    sections = [Section("Graph", graph_view(picture(i.analysis))), _groups(i), _frozen(i)]
    return page(f"{i.file}: groups", top, sections)


def _groups(inspection: Inspection) -> Section:
    index = {group.id: k for k, group in enumerate(inspection.analysis.groups)}
    rows = []
    for g in inspection.groups:
        tensors = "".join(f"<li><code>{escape(n)}</code> axis {a}, {escape(r)}</li>" for n, a, r in g.tensors)
        swatch = f'<span class="swatch" style="background:{colour(index[g.id])}"></span>'
        rows.append(
            [
                f"{swatch}<code>{escape(g.id)}</code>",
                escape(g.kind),
                *(number(f"{value:,}", value) for value in (g.size, g.parameters, g.macs)),
                f"<details><summary>{len(g.tensors)}</summary><ul>{tensors}</ul></details>",
            ]
        )
    header = ("group", "unit", "units", "parameters", "MACs", "weight axes")
    return Section("Groups", table(header, rows, "Groups", sortable=True) or "<p>none</p>")


def _frozen(inspection: Inspection) -> Section:
    rows = [
        [
            escape(cause.reason),
            ", ".join(f"<code>{escape(node)}</code>" for node in cause.nodes),
            *(number(f"{value:,}", value) for value in (cause.axes, cause.macs)),
        ]
        for cause in causes(inspection.frozen)
    ]
    return Section(
        "Frozen", table(("why", "where", "weight axes", "MACs"), rows, "Frozen", sortable=True) or "<p>none</p>"
    )
