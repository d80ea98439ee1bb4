"""The graph with its groups drawn over it, as Graphviz text: ``dot -Tsvg`` makes a picture of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from edgeprune.solve import Analysis

_GREY = "#dddddd"


def to_dot(analysis: Analysis) -> str:
    """One box a node, coloured by the group that cuts its result; nodes that no group touches are grey.

    The box's tooltip names the groups, or says why the node's result is frozen.
    """
    groups: dict[str, list[str]] = {}
    for group in analysis.groups:
        for member in group.members:
            if member.role == "activation":
                groups.setdefault(member.value, []).append(group.id)
    colour = {group.id: _colour(k) for k, group in enumerate(analysis.groups)}
    lines = ["digraph groups {", '  node [shape=box, style=filled, fontname="sans-serif"];']
    lines += (f"  {line}" for line in _nodes(analysis, groups, colour))
    lines += (f"  {line}" for line in _edges(analysis))
    return "\n".join([*lines, "}", ""])


def _nodes(analysis: Analysis, groups: dict[str, list[str]], colour: dict[str, str]) -> Iterator[str]:
    for k, node in enumerate(analysis.relations.nodes):
        mine = list(dict.fromkeys(g for v in node.outputs for g in groups.get(v.name or "", ())))
        if mine:
            tip, fill = ", ".join(mine), ":".join(colour[g] for g in mine[:2])
        else:
            known = [v.name for v in node.outputs if v.name in analysis.relations.axes]
            chain = analysis.why(known[0]) if known else []
            tip, fill = f"frozen: {chain[-1]}" if chain else "nothing to cut", _GREY
        label = json.dumps(f"{node.op_type}\n{node.name}")
        yield f"n{k} [label={label}, tooltip={json.dumps(tip)}, fillcolor={json.dumps(fill)}];"


def _edges(analysis: Analysis) -> Iterator[str]:
    made = {id(v): k for k, node in enumerate(analysis.relations.nodes) for v in node.outputs}
    for k, node in enumerate(analysis.relations.nodes):
        for source in dict.fromkeys(made[id(v)] for v in node.inputs if v is not None and id(v) in made):
            yield f"n{source} -> n{k};"


def _colour(k: int) -> str:
    """Well-separated light hues, by the golden ratio."""
    import colorsys

    red, green, blue = colorsys.hsv_to_rgb(k * 0.618034 % 1.0, 0.45, 0.95)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
