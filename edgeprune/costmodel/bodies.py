"""The bodies of Loop, Scan and If as part of the graph, so that their nodes are priced like all others.

A body stands once in the place of its node, and the number of its runs is noted: the trip count of a Loop where it is
constant, the length of what a Scan reads. Values that a body captures are read directly. Of an If whose condition is
not constant the branch with more weights is priced. What cannot be known is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.graph import Names, add_initializer, constant, detach, input_at, is_op, move_body, static_shape

IN_BODY = "::"
"""Between the name of a node and the name of a node in its body."""
_AXES_AS_INPUT = 13


@dataclass(frozen=True)
class Flat:
    """A model without bodies.

    Attributes:
        model: the model itself if it has none.
        runs: name of a node that had a body -> how often the body runs in one run of that node.
        notes: one sentence for each node whose price is not that of its real runs.
    """

    model: ir.Model
    runs: Mapping[str, int]
    notes: tuple[str, ...]

    def repeats(self, node: str) -> int:
        """How often a node runs in one inference."""
        parts = node.split(IN_BODY)
        names = [IN_BODY.join(parts[:k]) for k in range(1, len(parts))]
        return int(np.prod([self.runs.get(name, 1) for name in names], dtype=np.int64))


def flatten_bodies(model: ir.Model) -> Flat:
    """A copy of a canonical model in which every Loop, Scan and If is replaced by its body; other bodies stay."""
    if not any(is_op(node, *_INLINE) for node in model.graph):
        return Flat(model, {}, ())
    from edgeprune.passes.canonicalize import canonicalize

    flat, runs, notes = graphs.clone(model), dict[str, int](), list[str]()
    names = Names(flat)
    while (node := next((n for n in flat.graph if is_op(n, *_INLINE)), None)) is not None:
        _INLINE[node.op_type](node, names, runs, notes)
    graphs.complete_shapes(flat)
    return Flat(canonicalize(flat, verify=False), runs, tuple(notes))


def _loop(node: ir.Node, names: Names, runs: dict[str, int], notes: list[str]) -> None:
    body = node.attributes["body"].as_graph()
    trips = constant(input_at(node, 0))
    count = None if trips is None else int(trips.reshape(-1)[0])
    carried = list(node.inputs[2:])
    if count is None:
        scanned = (static_shape(value) for value in node.outputs[len(carried) :])
        count = next((shape[0] for shape in scanned if shape), None)
    if count is None:
        notes.append(f"the trip count of Loop {node.name!r} is not constant: its body is priced once")
    start = _constant(node, names, np.asarray(0, np.int64)), _constant(node, names, np.asarray(True))
    _inline(node, body, [*start, *carried], 1, len(carried), [], count or 1, names, runs)


def _scan(node: ir.Node, names: Names, runs: dict[str, int], notes: list[str]) -> None:
    body = node.attributes["body"].as_graph()
    scanned = node.attributes.get_int("num_scan_inputs") or 0
    states = len(node.inputs) - scanned
    axes = list(node.attributes.get_ints("scan_input_axes") or [0] * scanned)
    given, count = list(node.inputs[:states]), None
    for value, axis in zip(node.inputs[states:], axes, strict=True):
        shape = static_shape(value)
        count = shape[axis] if shape else count
        index = _constant(node, names, np.asarray(0, np.int64))
        given.append(_add(node, "Gather", [value, index], names, axis=axis))
    if count is None:
        notes.append(f"the length of what Scan {node.name!r} reads is not known: its body is priced once")
    out_axes = list(node.attributes.get_ints("scan_output_axes") or [0] * (len(node.outputs) - states))
    _inline(node, body, given, 0, states, out_axes, count or 1, names, runs)


def _if(node: ir.Node, names: Names, runs: dict[str, int], notes: list[str]) -> None:
    branches = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
    chosen = max(range(2), key=lambda k: _weights(branches[k]))
    name = ("then", "else")[chosen]
    notes.append(f"If {node.name!r} is priced by its {name} branch, which has more weights: its condition is computed")
    _inline(node, branches[chosen], [], 0, len(node.outputs), [], 1, names, runs)


_INLINE = {"Loop": _loop, "Scan": _scan, "If": _if}


def _weights(branch: ir.Graph) -> tuple[int, int]:
    """Elements of the constants that a branch reads, and the number of its nodes."""
    nodes = list(ir.traversal.RecursiveGraphIterator(branch))
    read = {id(v): v.const_value.size for n in nodes for v in n.inputs if v is not None and v.const_value is not None}
    own = sum(a.as_tensor().size for n in nodes if n.op_type == "Constant" for a in n.attributes.values()
              if a.type == ir.AttributeType.TENSOR)  # fmt: skip
    return sum(read.values()) + own, len(nodes)


def _inline(
    node: ir.Node,
    body: ir.Graph,
    given: list[ir.Value | None],
    skipped: int,
    states: int,
    axes: list[int],
    count: int,
    names: Names,
    runs: dict[str, int],
) -> None:
    """Put the body in the place of its node.

    ``given`` are the body's inputs; its first ``skipped`` results are conditions, the next ``states`` results of the
    node, and the others are stacked along ``axes`` (by default the first), ``count`` times.
    """
    graph, base = node.graph, str(node.name)
    assert graph is not None
    runs[base] = count
    bound = dict(zip(body.inputs, given, strict=False))
    results = [bound.get(value, value) for value in body.outputs]
    for inner, value in bound.items():
        if value is not None:
            inner.replace_all_uses_with(value)
    move_body(body, node, names, f"{base}{IN_BODY}")
    for k, (old, result) in enumerate(zip(node.outputs, results[skipped:], strict=False)):
        assert result is not None
        new = result if k < states else _stacked(node, result, axes[k - states] if axes else 0, count, names)
        if old.is_graph_output():
            new = _add(node, "Identity", [new], names)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    for output in node.outputs:
        output.name = names.fresh(f"{base}_replaced")
    detach(node)
    graph.remove(node, safe=True)


def _stacked(node: ir.Node, value: ir.Value, axis: int, count: int, names: Names) -> ir.Value:
    """What ``count`` runs of a body leave, along a new axis."""
    assert node.graph is not None
    if node.graph.opset_imports.get("", 1) >= _AXES_AS_INPUT:
        one = _add(node, "Unsqueeze", [value, _constant(node, names, np.asarray([axis], np.int64))], names)
    else:
        one = _add(node, "Unsqueeze", [value], names, axes=[axis])
    return one if count == 1 else _add(node, "Concat", [one] * count, names, axis=axis)


def _add(node: ir.Node, op: str, inputs: list[ir.Value | None], names: Names, **attributes: object) -> ir.Value:
    assert node.graph is not None
    made = ir.node(op, inputs, attributes=attributes, name=names.fresh(f"{node.name}_{op}"))  # type: ignore[arg-type]
    made.outputs[0].name = names.fresh(f"{node.name}_{op}_out")
    node.graph.insert_before(node, made)
    return made.outputs[0]


def _constant(node: ir.Node, names: Names, array: np.ndarray) -> ir.Value:
    assert node.graph is not None
    return add_initializer(node.graph, names.fresh(f"{node.name}_constant"), array)
