"""The reverse pass over a graph: gradients of a weighted sum of values with respect to other values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune import graph
from edgeprune.errors import PassError
from edgeprune.gradients.tape import RULES, Call, Tape, Unsupported
from edgeprune.graph import ONNX_DOMAINS, convert_opset

GRADIENT_OPSET = 17
SCATTER_OPSET = 16
"""The first opset in which ScatterElements can add values."""


@dataclass(frozen=True)
class Gradients:
    """The result of a reverse pass.

    Attributes:
        of: name of a value -> its gradient, for the wanted values that have one.
        stopped: node name -> why no gradient passes through it.
    """

    of: Mapping[str, ir.Value]
    stopped: Mapping[str, str]


def backward(tape: Tape, seeds: Mapping[str, ir.Value], wanted: Collection[str]) -> Gradients:
    """Append the gradient of ``sum over seeds of <seed, value>`` to the tape's graph.

    Args:
        tape: a tape over the graph, whose shapes are static.
        seeds: value name -> gradient of that value, of the value's shape.
        wanted: names of the values (inputs, initializers, or computed) whose gradients are needed.

    Returns:
        The gradients. An operator without a rule counts as a constant: a gradient lacks the paths through it, or is
        absent, and `Gradients.stopped` names the operator.
    """
    nodes = [n for n in tape.graph if not tape.made(n)]
    needs = _dependents(nodes, set(wanted))
    pending: dict[str, list[ir.Value]] = {name: [value] for name, value in seeds.items()}
    found: dict[str, ir.Value] = {}
    stopped: dict[str, str] = {}

    def total(name: str) -> ir.Value | None:
        parts = pending.pop(name, [])
        if not parts:
            return None
        gradient = parts[0] if len(parts) == 1 else tape.op("Sum", *parts)
        if name in wanted:
            found[name] = gradient
        return gradient

    for node in reversed(nodes):
        dy = tuple(total(str(output.name)) for output in node.outputs)
        through = tuple(v is not None and str(v.name) in needs for v in node.inputs)
        if not any(d is not None for d in dy) or not any(through):
            continue
        try:
            if node.domain not in ONNX_DOMAINS or node.op_type not in RULES:
                raise Unsupported(f"there is no gradient of {node.op_type}")
            given = RULES[node.op_type](Call(tape, node, dy, through))
        except Unsupported as reason:
            stopped[str(node.name)] = str(reason)
            continue
        for value, use, gradient in zip(node.inputs, through, given, strict=False):
            if value is not None and use and gradient is not None:
                pending.setdefault(str(value.name), []).append(gradient)
    for name in [name for name in pending if name in wanted]:
        total(name)
    return Gradients(found, stopped)


def differentiable(model: ir.Model) -> ir.Model:
    """A copy in an opset that has all operators of the gradients, if the model can be converted."""
    copy = graph.clone(model)
    if copy.graph.opset_imports.get("", GRADIENT_OPSET) >= SCATTER_OPSET:
        return copy
    try:
        return convert_opset(copy, GRADIENT_OPSET)
    except PassError:
        return copy  # the runtime refuses gradients that need newer operators; most networks do not need them


def _dependents(nodes: list[ir.Node], wanted: set[str]) -> set[str]:
    """Names of the wanted values and of all values computed from them, outside control flow."""
    needs = set(wanted)
    for node in nodes:
        if any(v is not None and str(v.name) in needs for v in node.inputs):
            needs.update(str(output.name) for output in node.outputs)
    return needs
