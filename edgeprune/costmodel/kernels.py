"""The kernels that a GPU inference runtime launches for a graph.

:mod:`edgeprune.costmodel.fusion` decides which nodes share a kernel, after TensorRT's documented and logged behaviour.
Here every group of nodes becomes a `edgeprune.costmodel.Kernel` with its sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from edgeprune.costmodel.fusion import Cluster, Fused, fuse
from edgeprune.costmodel.kernel import Kernel, Kind


def kernels_of(model: ir.Model) -> tuple[Kernel, ...]:
    """Kernels of a model whose shapes are known, in launch order.

    Raises:
        ModelError: the shape of a tensor is not fully known; the message names the tensor.
    """
    return kernels_from(fuse(model))


def kernels_from(fused: Fused) -> tuple[Kernel, ...]:
    """Kernels of a model, in launch order; one in the body of a Loop or Scan is one kernel with its repetitions."""
    return tuple(kernel_at(clusters, fused.shapes) for clusters in kernel_clusters(fused))


def kernel_clusters(fused: Fused) -> tuple[tuple[Cluster, ...], ...]:
    """The clusters of every kernel.

    MatMuls of one activation with several weights, such as the projections to Q, K and V, are one kernel.
    """
    joined: dict[object, list[Cluster]] = {}
    for i, cluster in enumerate(fused.clusters):
        k = _kernel(cluster, fused.shapes)
        alike = k.kind == "matmul" and k.weighted and k.epilogue == "none" and k.repeats == 1 and len(k.reads) == 1
        key = (k.reads, k.rows, k.cin, k.groups, k.quantized) if alike else i
        joined.setdefault(key, []).append(cluster)
    return tuple(tuple(clusters) for clusters in joined.values())


def kernel_at(clusters: Sequence[Cluster], shapes: Mapping[str, tuple[int, ...]]) -> Kernel:
    """The kernel with tensors of these shapes: those of the model, or of the model with channels removed."""
    first, *others = (_kernel(cluster, shapes) for cluster in clusters)
    for k in others:
        first = replace(first, nodes=first.nodes + k.nodes, cout=first.cout + k.cout, writes=first.writes + k.writes)
    return first


def _kernel(cluster: Cluster, shapes: Mapping[str, tuple[int, ...]]) -> Kernel:
    node = cluster.anchor
    builder = {
        "Conv": _convolution,
        "ConvTranspose": _convolution,
        "Gemm": _gemm,
        "MatMul": _matmul,
        "Einsum": _einsum,
        "LSTM": _recurrent,
        "GRU": _recurrent,
        "RNN": _recurrent,
    }.get(node.op_type, _movement)
    if cluster.kind == "attention":
        builder = _attention
    if cluster.kind == "unknown":
        builder = _movement
    kernel = builder(cluster, shapes)
    return kernel if cluster.repeats == 1 else replace(kernel, repeats=kernel.repeats * cluster.repeats)


def _make(cluster: Cluster, kind: Kind, **sizes: object) -> Kernel:
    common: dict[str, object] = {
        "anchor": str(cluster.anchor.name),
        "nodes": tuple(str(n.name) for n in cluster.nodes),
        "kind": kind,
        "input": cluster.input,
        "output": cluster.output,
        "epilogue": cluster.epilogue,
        "quantized": cluster.quantized,
        "image": cluster.image,
        "reads": tuple(cluster.sources),
        "writes": tuple(cluster.writes),
    }
    return Kernel(**{**common, **sizes})  # type: ignore[arg-type]


def _side(cluster: Cluster, shapes: Mapping[str, tuple[int, ...]], channels: int) -> float:
    """Elements per output channel of residual operands and of intermediate results that other kernels read."""
    return sum(math.prod(shapes[v]) for v in cluster.sides) / max(channels, 1)


def _convolution(cluster: Cluster, shapes: Mapping[str, tuple[int, ...]]) -> Kernel:
    node = cluster.anchor
    data, weight, out = (shapes[_name(v)] for v in (node.inputs[0], node.inputs[1], node.outputs[0]))
    cin, cout, rows = data[1], out[1], out[0] * math.prod(out[2:])
    groups, taps = max(1, cin // weight[1]), math.prod(weight[2:])
    if node.op_type == "ConvTranspose":
        # Every input position is multiplied by all taps: the same work as a convolution from output to input.
        groups, taps = max(1, cout // weight[1]), max(1, round(data[0] * math.prod(data[2:]) * taps / rows))
    depthwise = cluster.kind == "depthwise"
    return _make(
        cluster,
        "depthwise" if depthwise else "conv",
        groups=1 if depthwise else groups,
        rows=rows,
        cin=cin,
        cout=cout,
        taps=taps,
        read_positions=math.prod(data) / cin,
        write_positions=math.prod(out) / cout,
        side_elements=_side(cluster, shapes, cout),
    )


def _gemm(cluster: Cluster, shapes: Mapping[str, tuple[int, ...]]) -> Kernel:
    node = cluster.anchor
    data, out = shapes[_name(node.inputs[0])], shapes[_name(node.outputs[0])]
    k = data[0] if node.attributes.get_int("transA", 0) else data[1]
    return _multiplication(cluster, shapes, batch=1, rows=out[0], k=k, n=out[1], weighted=node.inputs[1] is not None)


def _matmul(cluster: Cluster, shapes: Mapping[str, tuple[int, ...]]) -> Kernel:
    node = cluster.anchor
    left, right, out = (shapes[_name(v)] for v in (node.inputs[0], node.inputs[1], node.outputs[0]))
    k = left[-1]
    rows = out[-2] if len(out) > 1 and len(left) > 1 else 1
    n = right[-1] if len(right) > 1 else 1
    batch = max(1, math.prod(out) // max(1, rows * n))
    if math.prod(right[:-2]) == 1:
        # One right-hand side for the whole batch: a single tall matrix.
        rows, batch = rows * batch, 1
    return _multiplication(cluster, shapes, batch=batch, rows=rows, k=k, n=n, weighted=cluster.weighted)


def _einsum(cluster: Cluster, shapes: Mapping[str, tuple[int, ...]]) -> Kernel:
    """A batched matrix multiplication: indices of both operands and the result are its batch, of both alone its k."""
    node = cluster.anchor
    terms, _, result = node.attributes["equation"].as_string().replace(" ", "").partition("->")
    names = terms.split(",")
    size = {
        index: dim
        for term, value in zip(names, node.inputs, strict=True)
        for index, dim in zip(term, shapes[_name(value)], strict=False)
    }

    def extent(kept: Callable[[str], bool]) -> int:
        return math.prod(n for index, n in size.items() if kept(index))

    left, right = names[0], names[-1]
    return _multiplication(
        cluster,
        shapes,
        batch=extent(lambda i: i in left and i in right and i in result),
        rows=extent(lambda i: i in left and i not in right and i in result),
        k=extent(lambda i: i not in result),
        n=extent(lambda i: i not in left and i in right and i in result),
        weighted=cluster.weighted,
    )


def _multiplication(
    cluster: Cluster, shapes: Mapping[str, tuple[int, ...]], *, batch: int, rows: int, k: int, n: int, weighted: bool
) -> Kernel:
    return _make(
        cluster,
        "matmul",
        groups=batch,
        rows=rows,
        cin=batch * k,
        cout=batch * n,
        taps=1,
        read_positions=float(rows),
        write_positions=float(rows),
        side_elements=_side(cluster, shapes, batch * n),
        weighted=weighted,
    )


def _attention(cluster: Cluster, shapes: Mapping[str, tuple[int, ...]]) -> Kernel:
    """Softmax(Q Kᵀ) V in one kernel: it reads only Q, K and V and writes only the result."""
    first, last = cluster.anchor, cluster.last_matmul
    q, scores = shapes[_name(first.inputs[0])], shapes[_name(first.outputs[0])]
    out = shapes[_name(last.outputs[0])]
    heads = max(1, math.prod(scores[:-2]))
    rows, keys = scores[-2], scores[-1]
    d_qk = q[-1]
    d_v = max(1, math.prod(out) // (heads * rows))
    return _make(
        cluster,
        "attention",
        groups=heads,
        rows=rows,
        keys=keys,
        cin=heads * d_qk,
        cout=heads * d_v,
        taps=1,
        read_positions=float(rows + keys),
        write_positions=float(rows + keys),
        side_elements=_side(cluster, shapes, heads * d_v),
        weighted=False,
    )


def _recurrent(cluster: Cluster, shapes: Mapping[str, tuple[int, ...]]) -> Kernel:
    """A recurrence is one small matrix multiplication after another: time steps do not overlap."""
    node = cluster.anchor
    data, weight = shapes[_name(node.inputs[0])], shapes[_name(node.inputs[1])]
    steps, batch = data[0], data[1]
    directions, gates, _ = weight
    hidden = shapes[_name(node.inputs[2])][-1]
    return _make(
        cluster,
        "matmul",
        groups=directions,
        rows=batch,
        cin=directions * (data[2] + hidden),
        cout=directions * gates,
        taps=1,
        read_positions=float(batch),
        write_positions=float(batch),
        repeats=steps,
    )


def _movement(cluster: Cluster, shapes: Mapping[str, tuple[int, ...]]) -> Kernel:
    """Kernels that are bound by memory: pointwise nodes, reductions, pooling, copies."""
    read = sum(math.prod(shapes[v]) for v in cluster.reads)
    written = sum(math.prod(shapes[v]) for v in cluster.writes)
    # A Concat is one copy for each operand.
    copies = len(cluster.reads) if cluster.kind == "concat" else 1
    cin = _channels(shapes.get(cluster.input, ()))
    cout = _channels(shapes.get(cluster.output, ()))
    return _make(
        cluster,
        cluster.kind,
        groups=1,
        rows=max(1, round(written / copies / cout)),
        cin=cin,
        cout=cout,
        taps=cluster.window,
        read_positions=read / copies / cin,
        write_positions=written / copies / cout,
        epilogue="none",
        repeats=copies,
    )


def _channels(shape: tuple[int, ...]) -> int:
    if not shape:
        return 1
    return max(1, shape[1] if len(shape) >= 4 else shape[-1])


def _name(value: ir.Value | None) -> str:
    return "" if value is None else str(value.name)
