"""The tables of ``edgeprune inspect`` for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from edgeprune.dependency.inspection_rows import FrozenRow, GroupRow, causes, is_structural
from edgeprune.report import count
from edgeprune.support import plural


def headline(file: str, nodes: int, parameters: int, macs: int, groups: Sequence[GroupRow]) -> Text:
    """One line about the model."""
    units = sum(g.size for g in groups)
    return Text(
        f"{file}: {nodes:,} nodes, {count(parameters)} parameters, {count(macs)} MACs; "
        f"{len(groups)} groups, {units:,} units that can be removed"
    )


def group_table(groups: Sequence[GroupRow], limit: int) -> Table:
    """Groups, those with the most MACs first."""
    rows = sorted(groups, key=lambda g: -g.macs)
    table = _table("Groups", ("group", "unit"), ("units", "parameters", "MACs", "tensors"), len(rows) - limit)
    for g in rows[:limit]:
        table.add_row(Text(g.id), g.kind, str(g.size), count(g.parameters), count(g.macs), str(len(g.tensors)))
    return table


_NODES_SHOWN = 3


def frozen_table(rows: Sequence[FrozenRow], limit: int) -> Table:
    """What another export could change: causes of freezing with their nodes, those that hold the most MACs first."""
    found = causes(rows)
    table = _table("Frozen", ("why", "where"), ("weight axes", "MACs"), len(found) - limit)
    for cause in found[:limit]:
        more = len(cause.nodes) - _NODES_SHOWN
        where = ", ".join(cause.nodes[:_NODES_SHOWN]) + (f" and {more} more" if more > 0 else "")
        table.add_row(Text(cause.reason), Text(where), str(cause.axes), count(cause.macs))
    if fixed := sum(map(is_structural, rows)):
        note = f"{plural(fixed, 'weight axis', 'weight axes')} of kernels, gates and batches not shown"
        table.caption = f"{table.caption}; {note}" if table.caption else note
    return table


def _table(title: str, texts: Sequence[str], numbers: Sequence[str], left_out: int) -> Table:
    caption = f"{left_out} more: --json lists all" if left_out > 0 else None
    table = Table(title=title, caption=caption, title_justify="left")
    for name in (*texts, *numbers):
        table.add_column(name, justify="left" if name in texts else "right", overflow="fold")
    return table
