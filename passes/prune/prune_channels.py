"""Remove units from a model: slice every weight, repair every node that states a length, and check all shapes.

If no unit of a group stays, the residual branch around the group is dropped.

Requires a canonical model and its analysis. Ensures, by inferring all shapes again, that every axis of every computed
value has the length that the analysis predicts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph as graphs
from edgeprune.dependency import Analysis, Branch, Cut, Repair, RepairFunction, droppable, repair_of
from edgeprune.errors import EdgepruneError, ModelError, PassError
from edgeprune.graph import remove_dead
from edgeprune.passes.prune.drop_branches import drop_branches


def prune_channels(model: ir.Model, analysis: Analysis, cut: Cut, *, inferred: bool = True) -> ir.Model:
    """Return a copy of the model without the units that the cut does not keep.

    Args:
        model: the canonical model that was analysed; it is not changed.
        analysis: of this model.
        cut: group id -> units that stay; a group that is not named stays whole.
        inferred: whether all shapes are inferred again and compared with those that the analysis predicts. Without it,
            which is for trials, values have the predicted shapes.

    Raises:
        ModelError: the cut does not fit the analysis, or it removes a whole group that is no residual branch.
        PassError: a node does not get the expected shape; the message names the node. No model is returned then.
    """
    branches = _branches(model, analysis, cut)
    # A group that is removed altogether keeps one unit for now: no operator takes an axis of length 0.
    kept = analysis.kept({g: units if g not in branches else np.zeros(1, np.int64) for g, units in cut.items()})
    pruned = graphs.clone(model)
    if not kept:
        return pruned
    expected = _expected_shapes(pruned, kept)
    changed = {name for name, _ in kept}
    wholes = analysis.wholes()
    for node in list(pruned.graph):
        touched = any(v is not None and v.name in changed for v in (*node.inputs, *node.outputs))
        function = repair_of(node, changed=touched)
        if function is not None:
            _run(function, Repair(node, pruned.graph, kept, wholes))
    _slice_initializers(pruned.graph, kept)
    if branches:
        drop_branches(pruned.graph, branches.values())
    if inferred:
        _infer(model, pruned, expected)
    else:
        _set_shapes(pruned, expected, {name for name, _ in kept})
    remove_dead(pruned.graph)  # nodes that the repairs replaced
    return pruned


def _branches(model: ir.Model, analysis: Analysis, cut: Cut) -> Mapping[str, Branch]:
    """The branch to drop for each group without any unit left."""
    emptied = [g for g, units in cut.items() if not len(units)]
    branches = droppable(model, [analysis.group(g) for g in emptied]) if emptied else {}
    for group in emptied:
        if group not in branches:
            raise ModelError(f"no unit of {group!r} would be left, and the group is no whole residual branch")
    return branches


def _run(function: RepairFunction, fix: Repair) -> None:
    try:
        function(fix)
    except EdgepruneError as error:
        raise PassError(f"prune_channels: {fix.node.op_type} {fix.node.name}: {error}") from error


def _expected_shapes(model: ir.Model, kept: dict[tuple[str, int], NDArray[np.int64]]) -> dict[str, list[int | None]]:
    """Computed value -> lengths after the cut; None for dynamic lengths."""
    out: dict[str, list[int | None]] = {}
    for node in model.graph:
        for value in node.outputs:
            if value.name and value.shape is not None:
                out[value.name] = [d if isinstance(d, int) else None for d in value.shape.dims]
    for (name, axis), positions in kept.items():
        if name in out and out[name][axis] is not None:
            out[name][axis] = len(positions)
    return out


def _slice_initializers(graph: ir.Graph, kept: dict[tuple[str, int], NDArray[np.int64]]) -> None:
    """Give every initializer that loses positions a smaller tensor; the dense tensor, which models share, stays."""
    axes: dict[str, dict[int, NDArray[np.int64]]] = {}
    for (name, axis), positions in kept.items():
        if name in graph.initializers:
            axes.setdefault(name, {})[axis] = positions
    for name, cuts in axes.items():
        value = graph.initializers[name]
        tensor = value.const_value
        assert tensor is not None
        lengths = [len(cuts[axis]) if axis in cuts else int(n) for axis, n in enumerate(tensor.shape.numpy())]
        value.shape = ir.Shape(lengths)
        if isinstance(tensor, ir.ExternalTensor):  # a tensor in a file is cut when the model is saved
            value.const_value = ir.LazyTensor(
                partial(_sliced, tensor, cuts, name), dtype=tensor.dtype, shape=ir.Shape(lengths), name=name
            )
        else:
            value.const_value = _sliced(tensor, cuts, name)


def _sliced(tensor: ir.TensorProtocol, cuts: Mapping[int, NDArray[np.int64]], name: str) -> ir.TensorProtocol:
    array = tensor.numpy()
    for axis, positions in sorted(cuts.items(), key=lambda c: len(c[1]) / array.shape[c[0]]):
        array = np.take(array, positions, axis=axis)
    return ir.Tensor(np.ascontiguousarray(array), dtype=tensor.dtype, name=name)


def _infer(dense: ir.Model, pruned: ir.Model, expected: dict[str, list[int | None]]) -> None:
    """Infer all shapes from the weights and inputs alone, and compare them with the expected ones."""
    _infer_again(pruned)
    unknown: dict[str, ir.Node] = {}
    for node in pruned.graph:
        for value in node.outputs:
            want = expected.get(value.name or "")
            if want is None:
                continue
            if value.shape is None:
                unknown[value.name or ""] = node
                value.shape = ir.Shape(want)
                continue
            have = [d if isinstance(d, int) else None for d in value.shape.dims]
            if len(have) != len(want) or any(a != b for a, b in zip(have, want, strict=True) if None not in (a, b)):
                raise _wrong(node, f"would give {value.name} the shape {have}, not {want}")
    if unknown:  # if the shape is inferred in the dense model, but not here, the node does not fit its operands
        reference = graphs.clone(dense)
        _infer_again(reference)
        known = {v.name for node in reference.graph for v in node.outputs if v.shape is not None}
        for name, node in unknown.items():
            if name in known:
                raise _wrong(node, f"does not fit its operands any more: {name} has no shape")


def _set_shapes(model: ir.Model, expected: Mapping[str, list[int | None]], names: Collection[str]) -> None:
    for node in model.graph:
        for value in node.outputs:
            if value.name and value.name in names and value.name in expected:
                value.shape = ir.Shape(expected[value.name])


def _infer_again(model: ir.Model) -> None:
    """Drop the shapes of computed values, except those of custom operators and control flow, and infer them again."""
    for node in model.graph:
        body = any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values())
        for value in node.outputs:
            if node.domain in ("", "ai.onnx") and not body and not value.is_graph_output():
                value.shape = None
    graphs.infer_shapes(model)


def _wrong(node: ir.Node, what: str) -> PassError:
    return PassError(f"prune_channels: {node.op_type} {node.name} {what}; nothing is written")
