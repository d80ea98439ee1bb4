"""The graph with its groups drawn over it: as data for a web page, and as Graphviz text (``dot -Tsvg`` draws it)."""

from __future__ import annotations

import json
from pathlib import Path

from edgeprune.dependency.solve import Analysis, analyse
from edgeprune.report import MOST_DRAWN, Box, Picture, fills


def picture(analysis: Analysis) -> Picture:
    """One box for each node of the graph, in its order: a node comes after its sources."""
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
        weights = {
            str(v.name): tuple(v.const_value.shape.numpy())
            for v in node.inputs
            if v is not None and v.is_initializer() and v.const_value is not None and v.const_value.size > 1
        }
        out.append(Box(node.op_type, node.name or "", mine, tip, tuple(sources), weights))
    return Picture(tuple(out), tuple(group.id for group in analysis.groups))


def picture_of(folder: Path) -> Picture | None:
    """The dense graph of an output folder; None if it has none, or one that is too large to draw.

    Raises:
        ModelError: its dense.onnx is not a valid model.
    """
    from edgeprune import graph

    file = folder / "dense.onnx"
    if not file.is_file():
        return None
    model = graph.load(file)
    return picture(analyse(model)) if len(model.graph) <= MOST_DRAWN else None


def to_dot(analysis: Analysis) -> str:
    """One box for each node, coloured by the group that cuts its result; other nodes are grey.

    The box's tooltip has the groups, or the reason why the node's result is frozen.
    """
    drawn = picture(analysis).boxes
    lines = ["digraph groups {", '  node [shape=box, style=filled, fontname="sans-serif"];']
    lines += (f"  {_node(k, box)}" for k, box in enumerate(drawn))
    lines += (f"  n{source} -> n{k};" for k, box in enumerate(drawn) for source in box.sources)
    return "\n".join([*lines, "}", ""])


def _node(k: int, box: Box) -> str:
    label = json.dumps(f"{box.op}\n{box.name}")
    fill = ":".join(fills(box.groups))
    return f"n{k} [label={label}, tooltip={json.dumps(box.tip)}, fillcolor={json.dumps(fill)}];"
