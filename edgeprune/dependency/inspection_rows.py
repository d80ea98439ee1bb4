"""The rows of ``edgeprune inspect``: one for every group, and one for every axis of a weight that cannot be cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune.dependency.groups import Freeze


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
