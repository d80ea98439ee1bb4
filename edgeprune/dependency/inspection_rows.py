"""The rows of ``edgeprune inspect``: one for every group, and one for every axis of a weight that cannot be cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune.dependency.groups import Freeze


@dataclass(frozen=True)
class GroupRow:
    """One group: how many units it has, and what hangs on them.

    ``parameters`` and ``macs`` are those that would go if all its units went, other groups staying whole.
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
        return {
            "id": self.id,
            "unit": self.kind,
            "size": self.size,
            "parameters": self.parameters,
            "macs": self.macs,
            "tensors": tensors,
        }


@dataclass(frozen=True)
class FrozenRow:
    """One axis of a weight that cannot be cut, and the chain back to what froze it, the nearest first."""

    tensor: str
    axis: int
    length: int
    chain: tuple[Freeze, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON data; ``via`` names the nodes that tie the axis to where it was frozen."""
        last = self.chain[-1]
        via = [step.node for step in self.chain[:-1]]
        return {
            "tensor": self.tensor,
            "axis": self.axis,
            "length": self.length,
            "reason": last.reason,
            "node": last.node,
            "via": via,
        }


def causes(rows: Sequence[FrozenRow]) -> list[tuple[Freeze, int]]:
    """What froze the axes, and how many each froze, the commonest first."""
    return Counter(row.chain[-1] for row in rows).most_common()
