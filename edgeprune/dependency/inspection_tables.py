"""The tables of ``edgeprune inspect`` for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from edgeprune.dependency.inspection_rows import FrozenRow, GroupRow, causes
from edgeprune.report import count


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


def frozen_table(rows: Sequence[FrozenRow], limit: int) -> Table:
    """Causes of freezing, with the node of each."""
    found = causes(rows)
    table = _table("Frozen", ("why", "where"), ("weight axes",), len(found) - limit)
    for freeze, axes in found[:limit]:
        table.add_row(Text(freeze.reason), Text(freeze.node or ""), str(axes))
    return table


def _table(title: str, texts: Sequence[str], numbers: Sequence[str], left_out: int) -> Table:
    caption = f"{left_out} more: --json lists all" if left_out > 0 else None
    table = Table(title=title, caption=caption, title_justify="left")
    for name in (*texts, *numbers):
        table.add_column(name, justify="left" if name in texts else "right", overflow="fold")
    return table
