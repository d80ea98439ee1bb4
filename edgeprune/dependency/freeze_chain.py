"""The chain from a frozen axis back to the node, input or output that froze it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from edgeprune.dependency.groups import Freeze
from edgeprune.dependency.relations import Relations


def explain(rels: Relations, is_frozen: Callable[[int], bool], factor: int) -> list[Freeze]:
    """The shortest path from a frozen factor to one with its own reason, which is the last entry."""
    if factor in rels.freezes:
        return [rels.freezes[factor]]
    statistic = dict(rels.statistics)
    edges = rels.neighbours()
    came: dict[int, tuple[int, int]] = {}
    queue, seen = deque([factor]), {factor}
    while queue:
        f = queue.popleft()
        if f in rels.freezes or f in statistic:
            last = rels.freezes.get(f)
            if last is None:
                node = rels.nodes[statistic[f]]
                last = Freeze(f"{node.op_type} takes a statistic over this axis", node.name)
            return [*_steps(rels, came, factor, f), last]
        for g, node_index in edges.get(f, ()):
            if g not in seen and (g in rels.freezes or is_frozen(g)):
                seen.add(g)
                came[g] = (f, node_index)
                queue.append(g)
    if rels.sizes[factor] == 1:
        return [Freeze("its length is one")]
    return [Freeze("its relations tie all its positions together, or contradict each other")]


def _steps(rels: Relations, came: dict[int, tuple[int, int]], start: int, end: int) -> list[Freeze]:
    """One entry for each node on the path from the start, without repetitions."""
    names: list[str] = []
    while end != start:
        end, node = came[end]
        names.append(rels.nodes[node].name or "")
    return [Freeze("tied", name) for name in dict.fromkeys(reversed(names))]
