"""Where a wrong engine starts to be wrong: engines with inner values as outputs, by bisection.

As Polygraphy does, a few values of the graph become outputs of a new engine, and are compared with the simulation. The
first wrong one has all wrong ones behind it; what comes before a right one is taken as right. What remains between them
is searched again, until no value is left between the right ones and the first wrong one.

Making a value an output keeps TensorRT from fusing across it. So the fault may vanish: then the search is for the one
value that must not be fused away.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

AT_ONCE = 7
"""Values that one engine gives out: more would change what is fused too much."""

MOST_ENGINES = 12

_PASSED_ON = ("Cast", "QuantizeLinear", "DequantizeLinear", "Constant", "Identity", "Reshape", "Shape")
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


@dataclass(frozen=True)
class Seen:
    """What an engine with some inner values as outputs gives: the wrong ones of them, and of the model's outputs."""

    inner: Collection[str]
    outputs: Collection[str]


Probe = Callable[[Sequence[str]], Seen]
"""Builds and runs an engine with these values as further outputs."""


def locate(model: ir.Model, output: str, probe: Probe) -> str:
    """Where the engine starts to be wrong, as the end of a sentence.

    Args:
        model: the lowered model.
        output: its output that is wrong.
        probe: see there; at most `MOST_ENGINES` are built.

    Raises:
        BackendError: an engine with inner values as outputs cannot be built or run.
    """
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    order = [name for name, value in values.items() if _is_candidate(value)]
    wrong = output
    suspects = _before(values, order, wrong)
    for built in range(MOST_ENGINES):
        if not suspects:
            break
        chosen = _spread(suspects)
        seen = probe(chosen)
        if not seen.inner and output not in seen.outputs:
            return _fused(values, chosen, output, probe, MOST_ENGINES - built - 1)
        first = next((name for name in chosen if name in seen.inner), wrong)
        right = [name for name in chosen if name not in seen.inner]
        known = {*right, *(before for name in right for before in _before(values, order, name))}
        wrong = first
        near = set(_before(values, order, wrong))
        suspects = [name for name in suspects if name in near and name not in known]
    return _said(values, wrong, suspects)


def _fused(values: dict[str, ir.Value], chosen: Sequence[str], output: str, probe: Probe, engines: int) -> str:
    """The fault vanishes with these values as outputs: the fewest of them that have this effect."""
    while len(chosen) > 1 and engines > 0:
        middle = (len(chosen) + 1) // 2
        for half in (chosen[:middle], chosen[middle:]):
            engines -= 1
            seen = probe(half)
            if not seen.inner and output not in seen.outputs:
                chosen = half
                break
        else:
            break
    nodes = " and ".join(_node(values[name]) for name in chosen)
    return f"it is right if the result of {nodes} is an output too: TensorRT fuses something across it wrongly"


def _said(values: dict[str, ir.Value], wrong: str, suspects: Sequence[str]) -> str:
    node = _node(values[wrong])
    if not suspects:
        return f"wrong from {node} on, whose operands are right"
    return f"wrong at the latest from {node} on; {len(suspects)} values before it were not looked at"


def _node(value: ir.Value) -> str:
    """The node that computes a value, behind Q/DQ pairs and casts."""
    node = value.producer()
    while node is not None and node.op_type in _PASSED_ON and node.inputs and node.inputs[0] is not None:
        before = node.inputs[0].producer()
        if before is None:
            break
        node = before
    return "an input" if node is None else f"node {node.name!r} ({node.op_type})"


def _is_candidate(value: ir.Value) -> bool:
    node = value.producer()
    if node is None or node.op_type in _PASSED_ON or value.dtype not in _FLOATS or not value.name:
        return False
    return value.shape is not None and not value.is_graph_output() and bool(value.uses())


def _before(values: dict[str, ir.Value], order: Iterable[str], name: str) -> list[str]:
    """The candidates from which a value is computed, in the order of the graph."""
    found: set[str] = set()
    todo = [values[name]] if name in values else []
    while todo:
        node = todo.pop().producer()
        for value in node.inputs if node is not None else ():
            if value is not None and value.name and value.name not in found:
                found.add(str(value.name))
                todo.append(value)
    return [candidate for candidate in order if candidate in found]


def _spread(names: Sequence[str]) -> list[str]:
    """At most `AT_ONCE` of the names, evenly spread."""
    if len(names) <= AT_ONCE:
        return list(names)
    step = len(names) / (AT_ONCE + 1)
    return [names[int(step * (k + 1))] for k in range(AT_ONCE)]
