"""Scaled dot-product attention and rotary embeddings as single operators (from opset 23)."""

from __future__ import annotations

import numpy as np

from edgeprune.dependency.dims import LINEAR, NodeView, Rel, rule
from edgeprune.dependency.repair import Repair, repair
from edgeprune.errors import RuleError

_WHY = "attention works along this axis"


def _heads(n: NodeView) -> tuple[int, int]:
    """The numbers of query heads and of key/value heads."""
    packed = n.rank(0) == 3
    queries = n.attr("q_num_heads") if packed else n.size(0, 1)
    keys = n.attr("kv_num_heads") if packed else n.size(1, 1)
    if not queries or not keys or queries % keys:
        raise RuleError(f"{queries} query heads do not go with {keys} key heads")
    return int(queries), int(keys)


@rule("Attention")
def attention(n: NodeView) -> Rel:
    """``g`` key/value heads, ``r`` query heads for each; ``d`` query/key and ``v`` value dimensions of a head."""
    queries, keys = _heads(n)
    packed = n.rank(0) == 3
    cached = n.inputs > 4 or n.outputs > 1
    d, v = ("!d", "!v") if cached else ("d", "v")
    if packed:
        operands, result = [f". . (g r {d})", f". . (g {d})", f". . (g {v})"], f". . (g r {v})"
    else:
        operands, result = [f". (g r) . {d}", f". g . {d}", f". g . {v}"], f". (g r) . {v}"
    by_head = n.has(3) and n.rank(3) > 2 and n.shape(3)[-3] != 1
    mask = ". " * (n.rank(3) - 3) + "(g r) . ." if by_head else "."
    cache = [f". g . {d}", f". g . {v}"]
    terms = ", ".join([*operands, mask, *cache, "."][: n.inputs])
    results = ", ".join([result, *cache, ". (g r) ."][: n.outputs])
    sizes = {"g": keys, "r": queries // keys}
    return Rel(f"{terms} -> {results}", sizes, zeros=None if cached else ((2,),), why=_WHY)


@repair("Attention")
def attention_heads(fix: Repair) -> None:
    """Set the numbers of remaining heads; the scale stays that of the whole head."""
    queries, keys = _heads(fix.view)
    packed = fix.view.rank(0) == 3
    width = fix.old_length(0, 2) // queries if packed else fix.old_length(0, 3)
    if fix.view.attr("scale") is None:
        fix.set_attr("scale", float(1 / np.sqrt(width)))
    if not packed:
        return
    kept = fix.kept(1, 2)
    left = keys if kept is None else len(np.unique(kept // width))
    dims = fix.length(1, 2) // left
    fix.set_attr("kv_num_heads", left)
    fix.set_attr("q_num_heads", fix.length(0, 2) // dims)


@rule("RotaryEmbedding")
def rotary(n: NodeView) -> Rel:
    """Each pair of positions of a head is rotated by its own angle: a pair ``e`` can be removed, ``w`` is its two."""
    packed, ids = n.rank(0) == 3, n.has(3)
    heads = n.attr("num_heads", 0) if packed else n.size(0, 1)
    width = n.size(0, 2) // heads if packed and heads else n.size(0, n.rank(0) - 1)
    partial = n.attr("rotary_embedding_dim", 0)
    if packed and not heads:
        raise RuleError("its number of heads is not given")
    pair = "!d" if partial and partial != width else "e !w" if n.attr("interleaved", 0) else "!w e"
    whole = f". . (h {pair})" if packed else f". h . ({pair})" if " " in pair else f". h . {pair}"
    angle = "." if pair == "!d" else ". e" if ids else ". . e"
    terms = ", ".join([whole, angle, angle, "."][: n.inputs])
    sizes = ({"h": heads} if packed else {}) | ({"d": width} if pair == "!d" else {"w": 2, "e": width // 2})
    return Rel(f"{terms} -> {whole}", sizes, zeros=LINEAR, why="pairs of positions are turned together")


@repair("RotaryEmbedding")
def rotary_heads(fix: Repair) -> None:
    """Set the number of remaining heads."""
    view = fix.view
    partial = view.attr("rotary_embedding_dim", 0)
    if view.rank(0) == 4:
        if partial:
            fix.set_attr("rotary_embedding_dim", 0 if partial == fix.old_length(0, 3) else partial)
        return
    heads = view.attr("num_heads")
    width = fix.old_length(0, 2) // heads
    kept = fix.kept(0, 2)
    fix.set_attr("num_heads", heads if kept is None else len(np.unique(kept // width)))
    if partial == width:
        fix.set_attr("rotary_embedding_dim", 0)
