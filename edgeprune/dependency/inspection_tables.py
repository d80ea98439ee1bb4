"""The rows of ``edgeprune inspect``, one for every group and every frozen axis of a weight, and tables of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from edgeprune.dependency.groups import Freeze
from edgeprune.report import count
from edgeprune.support import plural


@dataclass(frozen=True)
class GroupRow:
    """One group: its units, and the parameters and MACs that depend on them.

    ``parameters`` and ``macs`` are removed if all its units are removed and all other groups stay whole.
    """

    id: str
    kind: str
    size: int
    parameters: int
    macs: int
    tensors: tuple[tuple[str, int, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        tensors = [{"name": n, "axis": a, "role": r} for n, a, r in self.tensors]
        counts = {"size": self.size, "parameters": self.parameters, "macs": self.macs}
        return {"id": self.id, "unit": self.kind, **counts, "tensors": tensors}


@dataclass(frozen=True)
class FrozenRow:
    """One axis of a weight that cannot be cut, and the chain back to what froze it, the nearest first.

    ``macs`` are those of the layers that read the weight.
    """

    tensor: str
    axis: int
    length: int
    chain: tuple[Freeze, ...]
    macs: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON data; ``via`` lists the nodes between the axis and the node that froze it."""
        last = self.chain[-1]
        place = {"tensor": self.tensor, "axis": self.axis, "length": self.length, "macs": self.macs}
        return {**place, "reason": last.reason, "node": last.node, "via": [step.node for step in self.chain[:-1]]}


@dataclass(frozen=True)
class Cause:
    """One reason for frozen axes: the nodes where it arises, the number of weight axes, and their layers' MACs."""

    reason: str
    nodes: tuple[str, ...]
    axes: int
    macs: int


STRUCTURAL = ("batch or spatial axis", "its length is one", "a gate or a direction")
"""Ends of reasons that nobody can change: they follow from what the operator is."""


def causes(rows: Sequence[FrozenRow]) -> list[Cause]:
    """The reasons for frozen axes that another export could change, those that hold the most MACs first."""
    by_reason: dict[str, list[FrozenRow]] = {}
    for row in rows:
        if not is_structural(row):
            by_reason.setdefault(row.chain[-1].reason, []).append(row)
    found = []
    for reason, held in by_reason.items():
        nodes = tuple(dict.fromkeys(row.chain[-1].node or "" for row in held))
        macs = sum({row.tensor: row.macs for row in held}.values())
        found.append(Cause(reason, nodes, len(held), macs))
    return sorted(found, key=lambda cause: (-cause.macs, -cause.axes))


def is_structural(row: FrozenRow) -> bool:
    """Whether nobody could change it."""
    return row.chain[-1].reason.endswith(STRUCTURAL)


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
