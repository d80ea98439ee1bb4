"""The tables of ``edgeprune inspect`` for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from edgeprune.dependency.inspection_rows import FrozenRow, GroupRow, causes


def headline(file: str, nodes: int, parameters: int, macs: int, groups: Sequence[GroupRow]) -> Text:
    """One line about the model."""
    units = sum(g.size for g in groups)
    return Text(
        f"{file}: {nodes:,} nodes, {_short(parameters)} parameters, {_short(macs)} MACs; "
        f"{len(groups)} groups, {units:,} units that can be removed"
    )


def group_table(groups: Sequence[GroupRow], limit: int) -> Table:
    """Groups by the work that hangs on them."""
    rows = sorted(groups, key=lambda g: -g.macs)
    left_out = len(rows) - limit
    table = Table(
        title="Groups", caption=f"{left_out} more: --json lists all" if left_out > 0 else None, title_justify="left"
    )
    for name in ("group", "unit", "units", "parameters", "MACs", "tensors"):
        table.add_column(name, justify="left" if name in ("group", "unit") else "right", overflow="fold")
    for g in rows[:limit]:
        table.add_row(Text(g.id), g.kind, str(g.size), _short(g.parameters), _short(g.macs), str(len(g.tensors)))
    return table


def frozen_table(rows: Sequence[FrozenRow], limit: int) -> Table:
    """Causes of freezing, with the node that each comes from."""
    found = causes(rows)
    left_out = len(found) - limit
    table = Table(
        title="Frozen", caption=f"{left_out} more: --json lists all" if left_out > 0 else None, title_justify="left"
    )
    for name in ("why", "where", "weight axes"):
        table.add_column(name, justify="right" if name == "weight axes" else "left", overflow="fold")
    for freeze, count in found[:limit]:
        table.add_row(Text(freeze.reason), Text(freeze.node or ""), str(count))
    return table


def _short(number: float) -> str:
    """12,345,678 as 12.3 M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return f"{number:.0f}"
