"""Open the batch of a model that was exported for one sample.

The axis of the samples is followed through the graph; where an axis is a product, such as time steps and samples, also
how much of it counts outside of the samples. Constants that hold a batch of one are rewritten: targets of Reshapes,
sizes of a Resize or an Expand, and a constant that is concatenated to every sample. An operator that would mix samples
is refused, with the reason.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.executor.batch_rules import ELEMENTWISE, RULES, elementwise
from edgeprune.executor.batch_work import BatchWork, RebatchError
from edgeprune.graph import add_node, int64_initializer, static_shape


def open_batch(model: ir.Model) -> tuple[ir.Model, dict[str, int]]:
    """A copy whose inputs have an open batch on their first axis, and output name -> axis of the samples.

    Raises:
        ModelError: shapes cannot be inferred.
        RebatchError: the model mixes samples, or it is not known whether it does.
    """
    fixed = graphs.infer_shapes(graphs.clone(model))
    work = BatchWork(fixed)
    for value in fixed.graph.inputs:
        shape = static_shape(value)
        if shape is None or not shape or shape[0] != 1:
            raise RebatchError(f"the input {value.name!r} has no batch of 1 on its first axis")
        work.axes[value] = 0
    for node in list(fixed.graph):
        _follow(work, node)
    lost = [str(v.name) for v in fixed.graph.outputs if work.axes.get(v) is None]
    if lost:
        raise RebatchError(f"the output {lost[0]!r} has no axis of the samples")
    if mixed := [str(v.name) for v in fixed.graph.outputs if work.outside.get(v, 1) != 1]:
        raise RebatchError(f"the output {mixed[0]!r} has the samples inside of another axis")
    for value in fixed.graph.inputs:
        assert value.shape is not None
        value.shape = ir.Shape(["batch", *list(value.shape)[1:]])
    for value in (*fixed.graph.outputs, *(o for n in fixed.graph for o in n.outputs)):
        if (axis := work.axes.get(value)) is not None and value.shape is not None:
            value.shape = ir.Shape([None if i == axis else d for i, d in enumerate(value.shape)])
    return fixed, {str(v.name): int(work.axes[v] or 0) for v in fixed.graph.outputs}


def _follow(work: BatchWork, node: ir.Node) -> None:
    """Find the axis of a node's outputs."""
    if node.op_type in ("Shape", "Size") or all(work.axis(v) is None for v in node.inputs):
        return
    rule = RULES.get(node.op_type, elementwise)
    if node.domain not in graphs.ONNX_DOMAINS or graphs.has_subgraph(node):
        raise RebatchError(f"{node.op_type} {node.name!r} is not known")
    if node.op_type in ELEMENTWISE:
        _align(work, node)
    outside = {work.outside.get(v, 1) for v in node.inputs if v is not None and work.axis(v) is not None}
    if len(outside) > 1:
        raise work.refuse(node, "has samples in different places of an axis")
    found = rule(work, node)
    for i, value in enumerate(node.outputs):
        work.axes[value] = found if isinstance(found, int) or found is None else found[i]
        work.outside.setdefault(value, *outside)


def _align(work: BatchWork, node: ir.Node) -> None:
    """Let samples come first in an input where they are innermost on the second axis, if they do in another.

    For one sample a Reshape may stand for a Transpose that exchanges an axis with that of the batch.
    """
    if {work.axis(v) for v in node.inputs} - {None} != {0, 1}:
        return
    for i, value in enumerate(node.inputs):
        shape = static_shape(value) if value is not None else None
        if value is None or shape is None or work.axis(value) != 1 or shape[0] != 1:
            continue
        if work.outside.get(value, 1) == shape[1]:
            target = int64_initializer(node, f"{node.name}_steps", [shape[1], -1, *shape[2:]], work.names)
            steps = add_node(node, "Reshape", [value, target], work.names, name=f"{node.name}_by_step", like=value)
            order = ir.AttrInt64s("perm", [1, 0, *range(2, len(shape))])
            moved = add_node(node, "Transpose", [steps], work.names, attributes=[order],
                             name=f"{node.name}_by_sample", like=value)  # fmt: skip
            node.replace_input_with(i, moved)
            work.axes[moved] = 0
