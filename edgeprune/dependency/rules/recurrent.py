"""Recurrent layers: the input and the hidden width. Both directions keep the same hidden units."""

from __future__ import annotations

from edgeprune.dependency.dims import NodeView, Rel, rule
from edgeprune.dependency.repair import Repair, repair
from edgeprune.errors import RuleError

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@rule("LSTM", "GRU", "RNN")
def recurrent(n: NodeView) -> Rel:
    """``i`` inputs, ``h`` hidden units, ``g`` gates, ``d`` directions; the recurrence sums over the last axis of R."""
    if n.attr("layout", 0):
        raise RuleError("batch-first layout is not supported")
    gates = _GATES[n.op]
    sizes = {"g": gates, "e": 2 * gates}
    operands = ["s b i", "!d (!g h) i", "!d (!g h) h", "!d (!e h)", "b", "!d b h"]
    results = ["s !d b h", "!d b h"]
    if n.op == "LSTM":
        operands += ["!d b h", "!d (!p h)"]
        results.append("!d b h")
        sizes["p"] = 3
    text = f"{', '.join(operands)} -> {', '.join(results)}"
    return Rel(text, sizes, sums=(("h", 2, 2),), why="a gate or a direction")


@repair("LSTM", "GRU", "RNN")
def hidden_size(fix: Repair) -> None:
    """Set the number of remaining hidden units."""
    fix.set_attr("hidden_size", fix.length(2, 2))
