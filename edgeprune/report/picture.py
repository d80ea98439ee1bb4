"""A graph as it is drawn: nodes, what they read, and the groups that cut them; data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Box:
    """One node as it is drawn.

    Attributes:
        op: its operator.
        name: its name.
        groups: indices of the groups that cut its results.
        tip: the groups by their id, or why the node's result is frozen.
        sources: indices of the nodes whose results it reads; these stand before it.
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
    """A graph in its order, and the ids of the groups that its boxes name by their index."""

    boxes: tuple[Box, ...]
    groups: tuple[str, ...]


def channels(box: Box, plan: Mapping[str, Any]) -> tuple[str, str]:
    """What a node's weights keep of the channels it makes and of those it reads, such as ``48 of 64``; empty if all.

    Args:
        box: the node.
        plan: the content of plan.json; may be empty.
    """
    said: dict[str, list[str]] = {"producer": [], "consumer": []}
    for weight, shape in box.weights.items():
        for axis, cut in plan.get("initializers", {}).get(weight, {}).items():
            # A bias repeats what the weight before it says.
            if cut["role"] in said and not said[cut["role"]] and int(axis) < len(shape):
                said[cut["role"]].append(f"{len(cut['kept'])} of {shape[int(axis)]}")
    return "".join(said["producer"]), "".join(said["consumer"])
