"""The canonical form of a model, on which the axis-relation solver, the planner and the other passes work.

A canonical model guarantees:

* No functions and no ``Constant`` nodes: constants are initializers, and no initializer is a graph input.
* Every node and every value has a unique name. The names, order and types of inputs and outputs are the user's.
* Shapes are inferred: ``value.shape`` is complete if it can be derived, and symbolic where the input is.
* Constants are folded (shape arithmetic on static shapes, transposed or reshaped weights, position tables), up to a
  size limit. If it can be proved, a Reshape whose target depends on a symbolic dimension has a constant target with 0
  (axis kept) and at most one -1.
* The opset is 13 or newer, unless an older model has control flow or an operator that cannot be converted.
* A Gather with a table of constant indices has a list of indices, and a Reshape after it.
* A fused query/key/value projection, whose channels are a product, is three projections. An Expand names only the axes
  that it repeats; a Resize to computed lengths has the known lengths as constants.
* A ScatterND that overwrites a box of positions is Slices and Concats; a mean over all spatial axes is a
  GlobalAveragePool.
* BatchNormalization is folded into the neighbouring Conv, ConvTranspose or Gemm if that is exact, else it stays. A
  factor for every channel behind a linear layer is part of its weights.
* What computes on channels-last tensors between Transposes, as in exports of Keras, computes on channels-first ones if
  that needs fewer Transposes.
* Nodes without effect (Identity, Dropout, casts, reshapes, slices, pairs that undo each other) and dead nodes are
  removed.
* Quantization stays visible: QuantizeLinear and DequantizeLinear are never folded. An asymmetric weight has a scale for
  every output channel. Custom operators and control flow, except an If with a constant condition, are unchanged.
* A weight that several layers read is one tensor, also if the exporter copied it for layers of which none depends on
  another. Vectors are shared only by nodes that belong to such layers. Other readers of equal tensors have one each,
  which can be cut independently. A weight that one layer reads transposed is two tensors.

By default the result is compared with the original in onnxruntime; a difference is an error.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.errors import ModelError
from edgeprune.graph import (
    LengthMemo,
    Names,
    add_initializer,
    dim_keys,
    fix_inputs,
    forced_lengths,
    input_at,
    int64_initializer,
    is_op,
    remove_dead,
    replace_value,
    subgraphs,
)
from edgeprune.passes.canonicalize.flatten_gather import flatten_gather
from edgeprune.passes.canonicalize.fold_batchnorm import fold_batchnorm
from edgeprune.passes.canonicalize.fold_constants import fold_node
from edgeprune.passes.canonicalize.inline_functions import inline_functions
from edgeprune.passes.canonicalize.inline_if import inline_if
from edgeprune.passes.canonicalize.lift_constants import lift_constants
from edgeprune.passes.canonicalize.merge_shuffles import merge_shuffles
from edgeprune.passes.canonicalize.modernize import is_old, modernize, restore_softmax
from edgeprune.passes.canonicalize.pool_means import pool_means
from edgeprune.passes.canonicalize.propagate_shapes import derived_constant, reshape_target, shape_from_facts
from edgeprune.passes.canonicalize.relax_expand import relax_expand
from edgeprune.passes.canonicalize.relax_resize import relax_resize
from edgeprune.passes.canonicalize.remove_noops import inverse_pair, passed_through
from edgeprune.passes.canonicalize.shared_weights import mark_shared, share_weights
from edgeprune.passes.canonicalize.simplify_views import simplify_view
from edgeprune.passes.canonicalize.split_qkv import split_qkv
from edgeprune.passes.canonicalize.spread_scales import spread_scales
from edgeprune.passes.canonicalize.unscatter import unscatter
from edgeprune.passes.layout import channels_first, flatten_rows
from edgeprune.passes.verify import check_operands

_MAX_ROUNDS = 6
"""Real exports need two or three rounds; a model that needs more stays slightly less simple."""


def canonicalize(model: ir.Model, *, verify: bool = True) -> ir.Model:
    """Return the canonical form of a model; the model itself is not changed.

    Args:
        model: any valid model.
        verify: whether to run both in onnxruntime and compare.

    Raises:
        ModelError: if the model is not valid or has no canonical form, or the result differs from the original.
    """
    try:
        return _canonical(model, verify=verify)
    except (LookupError, TypeError, ValueError, ArithmeticError, AssertionError) as error:
        # The checker looks at no attribute's value: axes out of range come to light only where they are used.
        if found := graphs.contradiction(model):
            raise ModelError(f"the model is not valid: {found}") from error
        raise


def _canonical(model: ir.Model, *, verify: bool) -> ir.Model:
    result = without_functions(model)
    check_operands(result)
    like = graphs.clone(result) if verify and graphs.open_axes(model) else None
    _settle(result)
    declared = _fix_forced(result)
    if is_old(result):
        # Only now: the conversion of some operators needs ranks, which had to be derived first.
        result = modernize(result)
        _settle(result)
    if channels_first(result):
        remove_dead(result.graph)
        _settle(result)
    if flatten_rows(result):
        remove_dead(result.graph)
    changed = fold_batchnorm(result, mark_shared(result))
    remove_dead(result.graph)
    changed += split_qkv(result)
    if pool_means(result) + merge_shuffles(result) + unscatter(result):
        remove_dead(result.graph)
    share_weights(result)
    spread_scales(result)
    if changed:
        remove_dead(result.graph)
        graphs.complete_shapes(result)
        _settle(result)
    name_everything(result)
    for value in result.graph.inputs:
        value.shape = declared.get(value.name or "", value.shape)
    graphs.check(result, "the canonical form")
    if verify:
        from edgeprune.passes.verify import verify_equal

        verify_equal(model, result, like=like)
    return result


def without_functions(model: ir.Model) -> ir.Model:
    """A copy without functions and ``Constant`` nodes, with unique names and inferred shapes and types.

    Raises:
        ModelError: if the functions cannot be inlined, or the model is inconsistent.
    """
    result = graphs.clone(model)
    inline_functions(result)
    lift_constants(result)
    name_everything(result)
    return graphs.infer_shapes(result)


def _fix_forced(model: ir.Model) -> dict[str, ir.Shape]:
    """Fix open lengths that a Reshape to a constant target needs; returns the declared shapes of the inputs."""
    declared: dict[str, ir.Shape] = {}
    while sizes := forced_lengths(model):
        declared = fix_inputs(model, sizes) | declared
        graphs.infer_shapes(model)
        _settle(model)
    return declared


def _settle(model: ir.Model) -> None:
    """Simplify until nothing changes: a round may need shapes that only the round before made derivable."""
    for _ in range(_MAX_ROUNDS):
        if not _simplify(model):
            break
        remove_dead(model.graph)
        graphs.complete_shapes(model)  # no rewrite changes the shape of a value, so known shapes stay


def _simplify(model: ir.Model) -> int:
    """One sweep in topological order over the main graph; returns the number of changes."""
    names, opset, changes = Names(model), model.opset_imports.get("", 1), 0
    facts: LengthMemo = {}
    for node in model.graph:
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            continue
        arrays = fold_node(node, opset)
        if arrays is None:
            known = derived_constant(node, facts)
            arrays = None if known is None else [known]
        if arrays is not None:
            changes += _store(node, arrays, names)
            continue
        dims = shape_from_facts(node, facts)
        if dims is not None and any(d != old for d, old in zip(dims, dim_keys(node.outputs[0]) or (), strict=False)):
            node.outputs[0].shape = ir.Shape(dims)
        source = passed_through(node) or inverse_pair(node)
        if source is not None:
            changes += replace_value(node.outputs[0], source)
            continue
        changes += (
            inline_if(node, names)
            or restore_softmax(node)
            or _constant_target(node, facts, names)
            or relax_expand(node, facts, names)
            or relax_resize(node, facts, names)
            or flatten_gather(node, names)
            or simplify_view(node, names)
        )
    return changes


def _store(node: ir.Node, arrays: list[np.ndarray], names: Names) -> int:
    """Replace the outputs of a node by initializers; outputs of the graph stay computed."""
    if any(value.is_graph_output() for value in node.outputs):
        return 0
    assert node.graph is not None
    named = [value for value in node.outputs if value.name]
    for value, array in zip(named, arrays, strict=True):
        name = value.name
        assert name is not None
        value.name = names.fresh(f"{name}__folded")
        value.replace_all_uses_with(add_initializer(node.graph, name, array))
    return 1


def _constant_target(node: ir.Node, facts: LengthMemo, names: Names) -> int:
    """Give a Reshape a constant target if its computed one allows it."""
    target = input_at(node, 1)
    if not is_op(node, "Reshape") or target is None or target.is_initializer():
        return 0
    dims = reshape_target(node, facts)
    if dims is None:
        return 0
    node.replace_input_with(1, int64_initializer(node, f"{node.name}_target", dims, names))
    node.attributes.pop("allowzero", None)  # a 0 keeps an axis now
    return 1


def name_everything(model: ir.Model) -> None:
    """Give every node a unique name, in place, keeping those that are unique already."""
    seen: set[str] = set()

    def visit(graph: ir.Graph) -> None:
        for index, node in enumerate(graph):
            base = node.name or f"{node.op_type}_{index}"
            name, number = base, 1
            while name in seen:
                name, number = f"{base}_{number}", number + 1
            seen.add(name)
            node.name = name
            for subgraph in subgraphs(node):
                visit(subgraph)

    visit(model.graph)
