"""The graph with its groups drawn over it, as Graphviz text: ``dot -Tsvg`` makes a picture of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune.solve import Analysis

GREY = "#dddddd"


@dataclass(frozen=True)
class Box:
    """One node as it is drawn.

    Attributes:
        op: its operator.
        name: its name.
        groups: indices into ``analysis.groups`` of those that cut its results.
        tip: the groups by their id, or why the node's result is frozen.
        sources: indices of the nodes whose results it reads.
    """

    op: str
    name: str
    groups: tuple[int, ...]
    tip: str
    sources: tuple[int, ...]


def boxes(analysis: Analysis) -> list[Box]:
    """One box a node of the graph, in its order: a node stands after its sources."""
    cut_by: dict[str, list[int]] = {}
    for g, group in enumerate(analysis.groups):
        for member in group.members:
            if member.role == "activation":
                cut_by.setdefault(member.value, []).append(g)
    made = {id(v): k for k, node in enumerate(analysis.relations.nodes) for v in node.outputs}
    out = []
    for node in analysis.relations.nodes:
        mine = tuple(dict.fromkeys(g for v in node.outputs for g in cut_by.get(v.name or "", ())))
        if mine:
            tip = ", ".join(analysis.groups[g].id for g in mine)
        else:
            known = [v.name for v in node.outputs if v.name in analysis.relations.axes]
            chain = analysis.why(known[0]) if known else []
            tip = f"frozen: {chain[-1]}" if chain else "nothing to cut"
        sources = dict.fromkeys(made[id(v)] for v in node.inputs if v is not None and id(v) in made)
        out.append(Box(node.op_type, node.name or "", mine, tip, tuple(sources)))
    return out


def to_dot(analysis: Analysis) -> str:
    """One box a node, coloured by the group that cuts its result; nodes that no group touches are grey.

    The box's tooltip names the groups, or says why the node's result is frozen.
    """
    drawn = boxes(analysis)
    lines = ["digraph groups {", '  node [shape=box, style=filled, fontname="sans-serif"];']
    lines += (f"  {_node(k, box)}" for k, box in enumerate(drawn))
    lines += (f"  n{source} -> n{k};" for k, box in enumerate(drawn) for source in box.sources)
    return "\n".join([*lines, "}", ""])


def _node(k: int, box: Box) -> str:
    label = json.dumps(f"{box.op}\n{box.name}")
    fill = ":".join(fills(box.groups))
    return f"n{k} [label={label}, tooltip={json.dumps(box.tip)}, fillcolor={json.dumps(fill)}];"


def fills(groups: Sequence[int]) -> list[str]:
    """At most two colours: of the first two groups, or grey."""
    return [colour(g) for g in groups[:2]] or [GREY]


def colour(k: int) -> str:
    """The colour of the group with index ``k``: well-separated light hues, by the golden ratio."""
    import colorsys

    red, green, blue = colorsys.hsv_to_rgb(k * 0.618034 % 1.0, 0.45, 0.95)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
