"""Turn a mean over all spatial axes into a GlobalAveragePool, which runtimes run much faster than a ReduceMean.

Exporters write ``x.mean((2, 3))``, the squeeze of squeeze-and-excitation and the head of many classifiers, as a
ReduceMean. onnxruntime has no INT8 kernel for it, and none in the blocked layout of its convolutions, so every
ReduceMean also costs a conversion of the whole activation.

There must be two or more spatial axes: with three axes, a mean over the last may be over features. Means and variances
of normalizations are left alone, because the rules recognise a normalization by its ReduceMeans. Requires inferred
shapes.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.graph import constant, input_at, ints_attribute, is_op, naming, new_node, replace_value

_FEWEST_AXES = 4
_MOMENT_READERS = ("Add", "Sqrt", "Sub")
_DTYPES = (ir.DataType.DOUBLE, ir.DataType.FLOAT, ir.DataType.FLOAT16)


def pool_means(model: ir.Model) -> int:
    """Replace every such ReduceMean of the main graph; returns how many there were."""
    found = [n for n in model.graph if _is_spatial_mean(n)]
    with naming(model.graph):
        for node in found:
            _replace(model.graph, node)
    return len(found)


def _is_spatial_mean(node: ir.Node) -> bool:
    x = input_at(node, 0)
    if not is_op(node, "ReduceMean") or x is None or x.shape is None or x.dtype not in _DTYPES:
        return False
    rank, given = len(x.shape), input_at(node, 1)
    axes = ints_attribute(node, "axes") if given is None else constant(given)
    if axes is None or rank < _FEWEST_AXES or any(is_op(c, *_MOMENT_READERS) for c in node.outputs[0].consumers()):
        return False
    return sorted(int(a) % rank for a in axes) == list(range(2, rank))


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    x, old = node.inputs[0], node.outputs[0]
    assert x is not None
    assert x.shape is not None
    assert x.dtype is not None
    name, result, shape = str(node.name), str(old.name), tuple(x.shape)
    pool = new_node(graph, "GlobalAveragePool", [x], f"{name}_pool", x.dtype)
    pool.outputs[0].shape = ir.Shape([*shape[:2], *(1 for _ in shape[2:])])
    new = [pool]
    if not node.attributes.get_int("keepdims", 1):
        flat = new_node(graph, "Flatten", [pool.outputs[0]], f"{name}_flat", x.dtype, {"axis": 1})
        flat.outputs[0].shape = ir.Shape(shape[:2])
        new.append(flat)
    graph.insert_before(node, new)
    if replace_value(old, new[-1].outputs[0]):
        graph.remove(node, safe=True)
        pool.name, new[-1].outputs[0].name = name, result
