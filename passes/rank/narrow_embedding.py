"""A transformer with a narrower residual stream: its principal directions stay, and the norms count what is left.

The stream x of width d is read by LayerNormalizations, which subtract its mean and divide by its standard deviation. So
the layers that write it may write x - mean(x), and any rotation of that is the same function (SliceGPT, Ashkboos et al.
2024, for RMSNorm). Here the k - 1 principal directions P of x / std(x), over all norms and samples, stay:

    x'  = (x - mean(x)) P E      E: (k - 1) x k, E E' = I, and the rows of E have no mean
    y   = g * LN(x) + b    ->    LN(x') sqrt(d / k) (E' P') diag(g) + b

E lets a LayerNormalization of width k subtract nothing: the mean of x' is 0. Its statistics are those of what is left:
epsilon becomes epsilon d / k, and a factor for each norm makes up for the variance that the other directions had. The
scale g and the shift b go into the layers behind. With k = d nothing changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.calibration import Calibration, IntermediateOutputs
from edgeprune.errors import PassError
from edgeprune.graph import (
    Floats,
    add_initializer,
    constant,
    find_linears,
    fresh_name,
    layer_bias,
    layer_matrix,
    naming,
    new_initializer,
    set_weights,
)
from edgeprune.passes.prune import prune_channels
from edgeprune.passes.rank.embedding import Embedding

EPSILON = 1e-5
"""Of a LayerNormalization that states none."""


@dataclass(frozen=True, eq=False)
class Directions:
    """Principal directions of a residual stream, as its norms see it.

    Attributes:
        basis: orthonormal columns without mean, of most variance first, shape (d, d - 1).
        energy: variance along each, shape (d - 1,).
        covariances: norm -> that of its normalized input, shape (d, d).
    """

    basis: Floats
    energy: Floats
    covariances: dict[str, Floats]

    def kept(self, norm: str, width: int) -> float:
        """Share of the variance of a norm's input that stays in a stream of this width."""
        p, c = self.basis[:, : width - 1], self.covariances[norm]
        return float(np.einsum("ik,ij,jk->", p, c, p) / max(np.trace(c), 1e-30))


def stream_directions(model: ir.Model, embedding: Embedding, data: Calibration, threads: int = 1) -> Directions:
    """The directions of a stream on samples: every norm counts equally.

    Raises:
        CalibrationError: an activation is not finite on the data.
    """
    nodes = {str(n.name): n for n in model.graph}
    read = {norm: str(v.name) for norm in embedding.norms if (v := nodes[norm].inputs[0]) is not None}
    d = embedding.group.size
    second = {norm: np.zeros((d, d)) for norm in embedding.norms}
    outputs = IntermediateOutputs(model, read.values(), threads)
    for feeds in outputs.batches(data):
        found = outputs.run(feeds)
        for norm, name in read.items():
            x = found[name].reshape(-1, d).astype(np.float64)
            x = x - x.mean(axis=1, keepdims=True)
            x /= np.sqrt((x**2).mean(axis=1, keepdims=True) + _epsilon(nodes[norm]))
            second[norm] += x.T @ x
    mean = np.sum([c / max(np.trace(c), 1e-30) for c in second.values()], axis=0)
    centring = np.eye(d) - 1 / d
    energy, vectors = np.linalg.eigh(centring @ mean @ centring + np.eye(d) * 1e-12 - 1e-12 / d)
    order = np.argsort(-energy)
    without_mean = [i for i in order if abs(vectors[:, i].sum()) < 0.5 * np.sqrt(d)][: d - 1]
    basis, _ = np.linalg.qr(centring @ vectors[:, without_mean])
    return Directions(basis, energy[without_mean], second)


def narrow_embedding(model: ir.Model, embedding: Embedding, found: Directions, width: int) -> ir.Model:
    """A copy of the model whose residual stream has this width.

    Args:
        model: canonical, float; not changed.
        embedding: its residual stream.
        found: the directions of that stream.
        width: at least 2, at most the present one.

    Raises:
        PassError: the width is out of range, or a node states the width and cannot be repaired.
    """
    group, d = embedding.group, embedding.group.size
    if not 2 <= width <= d:
        raise PassError(f"narrow_embedding: a stream of {d} channels cannot have {width}")
    cut = {group.id: np.arange(width)} if width < d else {}
    copy = prune_channels(model, embedding.analysis, cut)
    change = found.basis[:, : width - 1] @ _without_mean(width).T
    dense = {name: constant(value) for name, value in model.graph.initializers.items()}
    for name, axis in embedding.written:
        old = dense[name]
        assert old is not None
        new = np.moveaxis(np.tensordot(np.moveaxis(old.astype(np.float64), axis, -1), change, axes=1), -1, axis)
        _store(copy, name, new, old.dtype)
    originals = {str(n.name): n for n in model.graph}
    scales: dict[str, Floats] = {}
    with naming(copy.graph):
        for node in list(copy.graph):
            norm = str(node.name)
            if norm not in embedding.norms:
                continue
            old, shift = constant(originals[norm].inputs[1]), _shift_of(originals[norm])
            assert old is not None
            scales[norm] = np.stack([np.asarray(old, np.float64).reshape(-1), shift])
            factor = np.full(width, np.sqrt(d / width * found.kept(norm, width))).astype(old.dtype)
            node.replace_input_with(1, new_initializer(copy.graph, f"{norm}_scale", factor))
            if len(node.inputs) > 2 and node.inputs[2] is not None:
                node.replace_input_with(2, new_initializer(copy.graph, f"{norm}_shift", np.zeros_like(factor)))
            node.attributes["epsilon"] = ir.AttrFloat32("epsilon", _epsilon(originals[norm]) * d / width)
        _set_readers(model, copy, embedding, scales, change)
    unused = [n for n, v in copy.graph.initializers.items() if not v.uses() and not v.is_graph_output()]
    for name in unused:
        copy.graph.initializers.pop(name)
    return copy


def _set_readers(
    model: ir.Model, copy: ir.Model, embedding: Embedding, scales: dict[str, Floats], change: Floats
) -> None:
    """Let the layers behind the norms read the new basis; a MatMul without a bias gets one if it needs it."""
    linears, dense = find_linears(copy), find_linears(model)
    for name, norm in embedding.readers.items():
        scale, shift = scales[norm]
        matrix = layer_matrix(model, dense[name])[0]
        taps = dense[name].taps
        by_tap = matrix.reshape(len(matrix), taps, -1)
        new = ((by_tap * scale) @ change).reshape(len(matrix), -1)
        offset = (by_tap @ shift).sum(axis=1)
        layer = linears[name]
        if layer.op == "MatMul" and not layer.bias.value:
            set_weights(copy, layer, new[None], np.zeros((1, len(new))))
            if np.abs(offset).max(initial=0.0) > 0:
                _add_bias(copy, name, offset)
            continue
        old = layer_bias(model, dense[name])
        set_weights(copy, layer, new[None], old + offset[None])


def _add_bias(model: ir.Model, name: str, offset: Floats) -> None:
    graph = model.graph
    node = next(n for n in graph if n.name == name)
    out = node.outputs[0]
    dtype = out.dtype.numpy() if out.dtype is not None else np.float32
    bias = add_initializer(graph, fresh_name(graph, f"{name}_bias"), offset.astype(dtype))
    total = ir.node("Add", [out, bias], num_outputs=1, name=fresh_name(graph, f"{name}_add"))
    (value,) = total.outputs
    value.shape, value.type, value.name = out.shape, out.type, fresh_name(graph, f"{out.name}_biased")
    out.replace_all_uses_with(value)
    total.replace_input_with(0, out)
    graph.insert_after(node, [total])


def _without_mean(width: int) -> Floats:
    """Orthonormal columns without mean, shape (width, width - 1)."""
    basis, _ = np.linalg.qr(np.eye(width)[:, : width - 1] - 1 / width)
    return np.asarray(basis)


def _shift_of(norm: ir.Node) -> Floats:
    scale, shift = constant(norm.inputs[1]), constant(norm.inputs[2]) if len(norm.inputs) > 2 else None
    assert scale is not None
    return np.zeros(scale.size) if shift is None else np.asarray(shift, np.float64).reshape(-1)


def _epsilon(norm: ir.Node) -> float:
    return norm.attributes.get_float("epsilon", EPSILON)


def _store(model: ir.Model, name: str, array: Floats, dtype: np.dtype[np.generic]) -> None:
    value = model.graph.initializers[name]
    value.const_value = ir.Tensor(np.ascontiguousarray(array.astype(dtype)), name=name)
    value.shape = ir.Shape(array.shape)
