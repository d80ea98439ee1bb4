"""Compensate attention logits for removed query and key dimensions, by mixing the dimensions that stay.

A head's logits are Q K'. With kept dimensions S and removed dimensions P, the best mix I + M of the kept queries is

    min over M of  sum over samples |Q_S M K_S' - Q_P K_P'|^2
    normal equations:  sum (Q_S'Q_S) M (K_S'K_S) = sum Q_S'Q_P K_P'K_S

(the closed form of CORP). It is solved exactly for small heads. For large heads M = A B', where A and B predict the
removed queries and keys from the kept ones. The mix goes into the weights of the query projection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.calibration import Calibration, IntermediateOutputs
from edgeprune.graph import (
    Floats,
    Linear,
    constant,
    find_linears,
    has_bias,
    layer_matrix,
    only_use,
    set_weights,
    static_shape,
    weights_read_once,
)
from edgeprune.recovery import Kept

DAMPING = 1e-3
"""Damping of the normal equations, as a fraction of their mean diagonal."""
EXACT_DIMENSIONS = 40
"""Up to this many kept dimensions the equations of all entries of M are solved together."""
SAMPLES = 64


@dataclass(frozen=True, eq=False)
class _Logits:
    """A MatMul of queries and keys that lost dimensions.

    Attributes:
        left, right: names of its operands, the same in both networks.
        kept: positions of the contracted axis that stay.
        layer: the query projection in the pruned network.
        channel: shape (heads, kept dimensions), the projection's output channel of each dimension.
    """

    left: str
    right: str
    kept: NDArray[np.int64]
    layer: Linear
    channel: NDArray[np.int64]


def match_logits(
    dense: ir.Model, pruned: ir.Model, kept: Kept, calibration: Calibration, threads: int = 1
) -> dict[str, Floats]:
    """Mix the queries of ``pruned``, in place, wherever query and key dimensions were removed.

    Returns:
        Node name of a projection -> its mix, shape (outputs, outputs). The target of the projection's outputs is the
        dense network's kept outputs times the mix.
    """
    shapes = {name: x.shape for name, x in next(iter(calibration.batches(1))).items()}
    found = list(_cut_logits(graph.infer_shapes(graph.clone(pruned), shapes), kept))
    if not found:
        return {}
    equations = {logits.layer.node: _Equations(logits) for logits in found}
    names = {name for logits in found for name in (logits.left, logits.right)}
    intermediate = IntermediateOutputs(dense, names, threads)
    for feeds in calibration.subset(SAMPLES).batches(1):
        values = intermediate.run(feeds)
        for logits in found:
            queries = _heads(values[logits.left], logits.left, kept, drop=-1)
            keys = _heads(values[logits.right], logits.right, kept, drop=-2)
            equations[logits.layer.node].add(queries, keys.swapaxes(-1, -2))
    mixes = {}
    for logits in found:
        mixes[logits.layer.node] = _mix(logits, equations[logits.layer.node].solve())
        _apply(pruned, logits.layer, mixes[logits.layer.node])
    return mixes


class _Equations:
    """The normal equations of one MatMul of queries and keys, for each head."""

    def __init__(self, logits: _Logits) -> None:
        heads, size = logits.channel.shape
        self._kept, self._exact = logits.kept, size <= EXACT_DIMENSIONS
        self._left = np.zeros((heads, size * size, size * size) if self._exact else (2, heads, size, size))
        self._right: Floats = np.zeros(())

    def add(self, queries: Floats, keys: Floats) -> None:
        """Add one sample of the dense network: shapes (heads, positions, dimensions)."""
        gone = np.setdiff1d(np.arange(queries.shape[-1]), self._kept)
        # The mean of the keys adds the same number to all logits of a query, which the softmax ignores.
        centred = keys.astype(np.float64) - keys.mean(axis=-2, keepdims=True, dtype=np.float64)
        grams = [x.swapaxes(-1, -2) @ x for x in (queries.astype(np.float64), centred)]
        rows = [np.take(gram, self._kept, axis=1) for gram in grams]
        inner, outer = [np.take(r, self._kept, axis=2) for r in rows], [np.take(r, gone, axis=2) for r in rows]
        if not self._exact:
            self._left += np.stack(inner)
            self._right = self._right + np.stack(outer)
            return
        self._right = self._right + outer[0] @ outer[1].swapaxes(-1, -2)
        for head, (left, right) in enumerate(zip(*inner, strict=True)):
            self._left[head] += np.kron(left, right)

    def solve(self) -> Floats:
        """M of each head: shape (heads, kept, kept)."""
        damped = self._left + _ridge(self._left)
        if not self._exact:
            queries, keys = np.linalg.solve(damped, self._right)
            return np.asarray(queries @ keys.swapaxes(-1, -2))
        heads, size, _ = self._right.shape
        return np.asarray(np.linalg.solve(damped, self._right.reshape(heads, -1, 1)).reshape(heads, size, size))


def _ridge(matrices: Floats) -> Floats:
    """Damping of each of the matrices, shape (..., size, size)."""
    size = matrices.shape[-1]
    level = DAMPING * np.trace(matrices, axis1=-2, axis2=-1) / size + np.finfo(np.float64).tiny
    return np.asarray(level[..., None, None] * np.eye(size))


def _cut_logits(model: ir.Model, kept: Kept) -> Iterator[_Logits]:
    """MatMuls of two activations whose contracted axis lost positions, if the query projection can be mixed."""
    linears = {layer.output: layer for layer in find_linears(model).values()}
    single = weights_read_once(model, linears.values())
    for node in model.graph:
        if node.op_type != "MatMul" or any(v is None or v.const_value is not None for v in node.inputs):
            continue
        left, right = (v for v in node.inputs if v is not None)
        shape = static_shape(left)
        if shape is None or len(shape) < 3 or static_shape(right) is None:
            continue
        here, there = kept.get((str(left.name), len(shape) - 1)), kept.get((str(right.name), len(shape) - 2))
        if here is None or there is None or not np.array_equal(here, there):
            continue
        found = _projection(left, linears)
        if found is not None and found[0].weight in single and has_bias(found[0]) and found[0].groups == 1:
            yield _Logits(str(left.name), str(right.name), here, *found)


def _projection(value: ir.Value, linears: Mapping[str, Linear]) -> tuple[Linear, NDArray[np.int64]] | None:
    """The layer that computes a value, before views and scalar factors, and its channel of each (head, dimension)."""
    views: list[ir.Node] = []
    while str(value.name) not in linears:
        node = value.producer()
        if node is None or node.inputs[0] is None or only_use(value) is None:
            return None
        data = node.inputs[0] if node.inputs[0].const_value is None else node.inputs[1]
        if data is None or node.op_type not in ("Reshape", "Transpose", "Mul", "Div", "Add"):
            return None
        if node.op_type in ("Mul", "Div", "Add"):
            other = next((constant(v) for v in node.inputs if v is not data), None)
            if other is None or (other.size > 1 and node.op_type != "Add"):
                return None
        views.append(node)
        value = data
    layer = linears[str(value.name)]
    shape = static_shape(value)
    if shape is None or any(n.op_type == "Add" and str(n.name) != layer.bias.node for n in views):
        return None
    column = [-1 if axis == layer.output_axis % len(shape) else 1 for axis in range(len(shape))]
    index = np.broadcast_to(np.arange(shape[layer.output_axis]).reshape(column), shape)
    for node in reversed(views):
        result = static_shape(node.outputs[0])
        if result is None:
            return None
        if node.op_type == "Reshape":
            index = index.reshape(result)
        elif node.op_type == "Transpose":
            index = index.transpose(node.attributes.get_ints("perm", tuple(reversed(range(index.ndim)))))
    places = index.reshape(-1, *index.shape[-2:])
    channel = places[:, 0, :]
    return (layer, channel.astype(np.int64)) if (places == channel[:, None]).all() else None


def _heads(value: Floats, name: str, kept: Kept, *, drop: int) -> Floats:
    """The value of one sample, shape (heads that stay, ...); the axis ``drop`` keeps all its positions."""
    for axis in range(value.ndim):
        if (name, axis) in kept and axis != value.ndim + drop:
            value = value.take(kept[name, axis], axis=axis)
    return value.reshape(-1, *value.shape[-2:])


def _mix(logits: _Logits, added: Floats) -> Floats:
    """I + M of every head at the projection's channels: shape (outputs, outputs)."""
    mix = np.eye(logits.layer.outputs)
    for channels, matrix in zip(logits.channel, added, strict=True):
        mix[np.ix_(channels, channels)] += matrix
    return mix


def _apply(model: ir.Model, layer: Linear, mix: Floats) -> None:
    matrix = np.einsum("oi,op->pi", layer_matrix(model, layer)[0], mix)[None]
    old = constant(model.graph.initializers[layer.bias.value]) if layer.bias.value else None
    bias = np.zeros(layer.outputs) if old is None else layer.bias.scale * old.astype(np.float64).reshape(-1)
    mixed = bias @ mix
    set_weights(model, layer, matrix, (mixed - bias if layer.op == "MatMul" else mixed)[None])
