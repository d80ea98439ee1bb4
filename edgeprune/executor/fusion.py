"""Groups of nodes that PyTorch has one kernel for, which is faster and keeps fewer values for the gradients."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import onnx_ir as ir
from torch.nn import functional

from edgeprune.executor.registry import Kernel, Tensor
from edgeprune.graph import constant, static_shape


@dataclass(frozen=True, eq=False)
class Fusion:
    """A group of nodes: what it reads, and what computes its only result."""

    inputs: tuple[ir.Value, ...]
    covers: tuple[ir.Node, ...]
    run: Kernel


def find_fusions(graph: ir.Graph, wanted: Collection[ir.Value]) -> dict[ir.Node, Fusion]:
    """Last node of a group -> the group. No value inside a group is wanted or read elsewhere."""
    found: dict[ir.Node, Fusion] = {}
    taken: set[ir.Node] = set()
    for node in graph:
        for match in (_gelu, _silu, _linear, _mish):
            fusion = match(node)
            if fusion is None or taken & set(fusion.covers):
                continue
            inside = [o for n in fusion.covers if n is not node for o in n.outputs]
            readers = {n for o in inside for n in o.consumers()}
            if readers <= set(fusion.covers) and not any(o in wanted or o.is_graph_output() for o in inside):
                found[node] = fusion
                taken |= set(fusion.covers)
                break
    return found


def _parts(node: ir.Node, op: str) -> tuple[ir.Value, ir.Value] | None:
    """Both inputs of a node of this operator."""
    if node.op_type != op or len(node.inputs) != 2 or node.inputs[0] is None or node.inputs[1] is None:
        return None
    return node.inputs[0], node.inputs[1]


def _made_by(value: ir.Value, op: str) -> ir.Node | None:
    node = value.producer()
    return node if node is not None and node.op_type == op else None


def _silu(node: ir.Node) -> Fusion | None:
    """``x * sigmoid(x)``."""
    for x, gate in _both_ways(_parts(node, "Mul")):
        made = _made_by(gate, "Sigmoid")
        if made is not None and made.inputs[0] is x:
            return Fusion((x,), (made, node), functional.silu)
    return None


def _mish(node: ir.Node) -> Fusion | None:
    """``x * tanh(softplus(x))``."""
    for x, gate in _both_ways(_parts(node, "Mul")):
        made = _made_by(gate, "Tanh")
        inner = _made_by(made.inputs[0], "Softplus") if made is not None and made.inputs[0] is not None else None
        if made is not None and inner is not None and inner.inputs[0] is x:
            return Fusion((x,), (inner, made, node), functional.mish)
    return None


def _gelu(node: ir.Node) -> Fusion | None:
    """``x * (erf(x / sqrt(2)) + 1) * 0.5``, in any order of the products."""
    factors, nodes = _product(node)
    scale = math.prod(n for f in factors if (n := _number(f)) is not None)
    values = [f for f in factors if _number(f) is None]
    if len(values) != 2 or not math.isclose(scale, 0.5, rel_tol=1e-4):
        return None
    for x, gate in _both_ways((values[0], values[1])):
        total = _made_by(gate, "Add")
        for inner, one in _both_ways(_parts(total, "Add")) if total is not None else ():
            erf = _made_by(inner, "Erf")
            if total is None or erf is None or erf.inputs[0] is None or _number(one) != 1:
                continue
            scaled = erf.inputs[0].producer()
            if scaled is not None and _scaled_by(scaled, x, 1 / math.sqrt(2)):
                return Fusion((x,), (scaled, erf, total, *nodes), functional.gelu)
    return None


def _product(node: ir.Node) -> tuple[list[ir.Value], list[ir.Node]]:
    """The factors of a product of up to three, and the nodes that multiply them."""
    parts = _parts(node, "Mul")
    if parts is None:
        return [], []
    for inner, other in _both_ways(parts):
        made = _made_by(inner, "Mul")
        below = _parts(made, "Mul") if made is not None else None
        if made is not None and below is not None and len(inner.consumers()) == 1:
            found = [*below, other]
            if any(_number(f) is not None for f in found):
                return found, [made, node]
    return list(parts), [node]


def _scaled_by(node: ir.Node, x: ir.Value, factor: float) -> bool:
    if node.op_type == "Div" and node.inputs[0] is x and node.inputs[1] is not None:
        number = _number(node.inputs[1])
        return number is not None and math.isclose(number * factor, 1, rel_tol=1e-4)
    parts = _parts(node, "Mul")
    return any(v is x and math.isclose(_number(c) or 0.0, factor, rel_tol=1e-4) for v, c in _both_ways(parts))


def _linear(node: ir.Node) -> Fusion | None:
    """A MatMul with a matrix, and the Add of its bias."""
    for product, bias in _both_ways(_parts(node, "Add")):
        made = _made_by(product, "MatMul")
        parts = _parts(made, "MatMul") if made is not None else None
        if made is None or parts is None or not _is_vector(bias):
            continue
        x, weight = parts
        matrix, vector = static_shape(weight), static_shape(bias)
        fits = matrix is not None and len(matrix) == 2 and vector == matrix[1:]
        if weight.is_initializer() and fits and x.shape is not None and len(x.shape) >= 2:
            return Fusion((x, weight, bias), (made, node), _run_linear)
    return None


def _run_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.linear(x, weight.t(), bias)


def _is_vector(value: ir.Value) -> bool:
    return value.is_initializer() and value.shape is not None and len(value.shape) == 1


def _number(value: ir.Value) -> float | None:
    """The constant scalar of a value."""
    array = constant(value)
    return None if array is None or array.size != 1 or array.dtype.kind != "f" else float(array.reshape(-1)[0])


def _both_ways(parts: tuple[ir.Value, ir.Value] | None) -> tuple[tuple[ir.Value, ir.Value], ...]:
    return () if parts is None else (parts, parts[::-1])
