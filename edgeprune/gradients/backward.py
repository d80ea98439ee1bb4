"""The reverse pass over a graph: gradients of a weighted sum of values with respect to others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune import graph
from edgeprune.errors import PassError
from edgeprune.gradients.tape import RULES, Call, Tape, Unsupported
from edgeprune.graph import convert_opset

GRADIENT_OPSET = 17
SCATTER_OPSET = 16
"""The first in which ScatterElements adds up."""


@dataclass(frozen=True)
class Gradients:
    """What a reverse pass found.

    Attributes:
        of: name of a value -> its gradient, for those that were asked for and are reached.
        stopped: node name -> why no gradient passes through it.
    """

    of: Mapping[str, ir.Value]
    stopped: Mapping[str, str]


def backward(tape: Tape, seeds: Mapping[str, ir.Value], wanted: Collection[str]) -> Gradients:
    """Append the gradient of ``sum over seeds of <seed, value>`` to the tape's graph.

    Args:
        tape: over the graph, whose shapes are static.
        seeds: value name -> gradient that flows into it, of the value's shape.
        wanted: names of the values (inputs, initializers, or computed) whose gradients are asked for.

    Returns:
        The gradients. Values behind an operator without a rule are as if constant there; they are absent, or lack
        that path, and the operator is named.
    """
    nodes = [n for n in tape.graph if not tape.made(n)]
    needs = _dependents(nodes, set(wanted))
    pending: dict[str, list[ir.Value]] = {name: [value] for name, value in seeds.items()}
    found: dict[str, ir.Value] = {}
    stopped: dict[str, str] = {}

    def total(value: ir.Value) -> ir.Value | None:
        parts = pending.pop(str(value.name), [])
        if not parts:
            return None
        gradient = parts[0] if len(parts) == 1 else tape.op("Sum", *parts)
        if str(value.name) in wanted:
            found[str(value.name)] = gradient
        return gradient

    for node in reversed(nodes):
        dy = tuple(total(output) for output in node.outputs)
        through = tuple(v is not None and str(v.name) in needs for v in node.inputs)
        if not any(d is not None for d in dy) or not any(through):
            continue
        try:
            if node.domain not in ("", "ai.onnx") or node.op_type not in RULES:
                raise Unsupported(f"there is no gradient of {node.op_type}")
            given = RULES[node.op_type](Call(tape, node, dy, through))
        except Unsupported as reason:
            stopped[str(node.name)] = str(reason)
            continue
        for value, use, gradient in zip(node.inputs, through, given, strict=False):
            if value is not None and use and gradient is not None:
                pending.setdefault(str(value.name), []).append(gradient)
    for name in list(pending):
        if name in wanted:
            parts = pending.pop(name)
            found[name] = parts[0] if len(parts) == 1 else tape.op("Sum", *parts)
    return Gradients(found, stopped)


def differentiable(model: ir.Model) -> ir.Model:
    """A copy in an opset that has all operators which gradients are written with, if it can be converted."""
    copy = graph.clone(model)
    if copy.graph.opset_imports.get("", GRADIENT_OPSET) >= SCATTER_OPSET:
        return copy
    try:
        return convert_opset(copy, GRADIENT_OPSET)
    except PassError:
        return copy  # what needs the newer operators is refused by the runtime; most networks do not


def _dependents(nodes: list[ir.Node], wanted: set[str]) -> set[str]:
    """Names of the wanted values and of all that is computed from them, outside control flow."""
    needs = set(wanted)
    for node in nodes:
        if any(v is not None and str(v.name) in needs for v in node.inputs):
            needs.update(str(output.name) for output in node.outputs)
    return needs
