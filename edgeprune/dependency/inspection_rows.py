"""The rows of ``edgeprune inspect``: one for every group, and one for every axis of a weight that cannot be cut."""

from __future__ import annotations

from collections import Counter
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
    """One axis of a weight that cannot be cut, and the chain back to what froze it, the nearest first."""

    tensor: str
    axis: int
    length: int
    chain: tuple[Freeze, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON data; ``via`` lists the nodes between the axis and the node that froze it."""
        last = self.chain[-1]
        place = {"tensor": self.tensor, "axis": self.axis, "length": self.length}
        return {**place, "reason": last.reason, "node": last.node, "via": [step.node for step in self.chain[:-1]]}


def causes(rows: Sequence[FrozenRow]) -> list[tuple[Freeze, int]]:
    """The causes of frozen axes, and the number of axes of each, the most common first."""
    return Counter(row.chain[-1] for row in rows).most_common()
