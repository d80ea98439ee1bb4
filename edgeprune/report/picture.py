"""A graph to draw: nodes, what they read, and the groups that cut them; data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Box:
    """One node to draw.

    Attributes:
        op: its operator.
        name: its name.
        groups: indices of the groups that cut its results.
        tip: ids of the groups, or why the node's result is frozen.
        sources: indices of the nodes whose results it reads; they come before it.
        weights: its constant inputs, name -> shape.
    """

    op: str
    name: str
    groups: tuple[int, ...]
    tip: str
    sources: tuple[int, ...]
    weights: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Picture:
    """The nodes of a graph in its order, and the ids of the groups by index."""

    boxes: tuple[Box, ...]
    groups: tuple[str, ...]


def channels(box: Box, plan: Mapping[str, Any]) -> tuple[str, str]:
    """What a node's weights keep of its output and input channels, such as ``48 of 64``; empty text if all.

    Args:
        box: the node.
        plan: the content of plan.json; may be empty.
    """
    kept: dict[str, str] = {}
    for weight, shape in box.weights.items():
        for axis, cut in plan.get("initializers", {}).get(weight, {}).items():
            if int(axis) < len(shape):  # the weight comes first; its bias says the same again
                kept.setdefault(cut["role"], f"{len(cut['kept'])} of {shape[int(axis)]}")
    return kept.get("producer", ""), kept.get("consumer", "")
