"""Results of the solver: groups of units that can be removed, and the reasons for frozen axes.

A *unit* is the smallest part that can be removed alone: one channel, one attention head, one query/key dimension. A
*group* is a set of interchangeable units that touch the same axes of the same tensors. An axis that is a product, such
as ``(head dim)``, belongs to several groups: a position is removed when a unit of any of them is removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Role: TypeAlias = Literal["producer", "consumer", "pointwise", "statistic", "activation"]

Cut: TypeAlias = "dict[str, NDArray[np.int64]]"
"""Group id -> sorted indices of the units that are kept; a group without an entry stays whole."""


@dataclass(frozen=True)
class Freeze:
    """Why an axis must not be cut, and the node, input or output that is the cause."""

    reason: str
    node: str | None = None

    def __str__(self) -> str:
        return f"{self.reason} [{self.node}]" if self.node else self.reason


@dataclass(frozen=True, eq=False)
class Member:
    """One axis of one tensor that a group touches.

    ``unit`` has the axis's length: the index of the group's unit at each position, or -1. ``role`` is ``activation``
    for computed tensors and one of the others for initializers.
    """

    value: str
    axis: int
    role: Role
    unit: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Group:
    """Interchangeable units that touch the same axes.

    Attributes:
        id: the weight, or the value, that makes the units, and its axis.
        kind: channel, head, dim, group, ...
        size: the number of units.
        members: the axes, of fixed length.
        open_members: axes of open length, such as batch times heads; ``unit`` has a length that stands in for theirs.
    """

    id: str
    kind: str
    size: int
    members: tuple[Member, ...]
    open_members: tuple[Member, ...] = ()


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best order in which to remove a group's units, and the predicted loss.

    Attributes:
        order: units, the first to remove first, shape (size,).
        loss: predicted loss after removing the first k units, shape (size + 1,), from 0 on, in the criterion's unit.
    """

    order: NDArray[np.int64]
    loss: NDArray[np.float64]
