"""Whether the shapes of a node's operands fit each other, and the indices in constants: what ONNX's inference skips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import constant, input_at, ints_attribute, static_shape

Shape = tuple[int, ...]

_REDUCED = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
_VECTORS: Mapping[str, Sequence[int]] = {
    "CenterCropPad": (1,), "Col2Im": (1, 2), "ConstantOfShape": (0,), "Pad": (1, 3), "Reshape": (1,),
    "Slice": (1, 2, 3, 4), "Split": (1,), "Squeeze": (1,), "Tile": (1,), "Unsqueeze": (1,),
    **{f"Reduce{kind}": (1,) for kind in _REDUCED},
}  # fmt: skip
"""Operator -> the inputs that are vectors, or scalars in their place; pads may be a matrix of one row."""

_SCALARS: Mapping[str, Sequence[int]] = {
    "Clip": (1, 2), "CumProd": (1,), "CumSum": (1,), "Dropout": (1, 2),
    "OneHot": (1,), "Range": (0, 1, 2), "TopK": (1,), "Trilu": (1,),
}  # fmt: skip
"""Operator -> the inputs that are single numbers; a vector of one stands for one."""

_GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
_POOLS = frozenset({"AveragePool", "LpPool", "MaxPool"})


def misfits(node: ir.Node) -> Iterator[str]:
    """What is wrong with the operands of a node, in the words that follow its name."""
    for position in _VECTORS.get(node.op_type, ()):
        shape = static_shape(input_at(node, position))
        if shape is not None and len(shape) > 1 and not (node.op_type == "Pad" and shape[0] == 1):
            yield f"has an input of shape {list(shape)} where a vector belongs"
    for position in _SCALARS.get(node.op_type, ()):
        shape = static_shape(input_at(node, position))
        if shape is not None and shape not in ((), (1,)):
            yield f"has an input of shape {list(shape)} where a single number belongs"
    if (rule := _RULES.get(node.op_type)) is not None:
        yield from rule(node, [static_shape(v) for v in node.inputs])


def _slice(node: ir.Node, shapes: Sequence[Shape | None]) -> Iterator[str]:
    lengths = {shape[0] for shape in shapes[1:] if shape is not None and len(shape) == 1}
    if len(lengths) > 1:
        yield f"has starts, ends, axes or steps of different lengths: {sorted(lengths)}"


def _window(node: ir.Node, shapes: Sequence[Shape | None]) -> Iterator[str]:
    data, weight = shapes[0], shapes[1] if len(shapes) > 1 else None
    kernel, pads = ints_attribute(node, "kernel_shape"), ints_attribute(node, "pads")
    if weight is not None and kernel is not None and tuple(kernel) != weight[2:]:
        yield f"has kernel_shape {list(kernel)}, but a weight of shape {list(weight)}"
    if data is not None and weight is not None and len(data) != len(weight):
        yield f"has a weight with {len(weight)} axes, but an input with {len(data)}"
    if node.op_type in _POOLS and kernel is not None and pads is not None:
        wide = [k for k, pad in zip((*kernel, *kernel), pads, strict=False) if pad >= k]
        if wide or len(pads) != 2 * len(kernel):
            yield f"has pads {list(pads)} for a kernel of {list(kernel)}"


def _gemm(node: ir.Node, shapes: Sequence[Shape | None]) -> Iterator[str]:
    made, bias = static_shape(node.outputs[0]), shapes[2] if len(shapes) > 2 else None
    if made is not None and bias is not None and not _fits(bias, made):
        yield f"adds a bias of shape {list(bias)} to {list(made)}"


def _fits(values: Shape, wanted: Shape) -> bool:
    """Whether values can be broadcast to a shape."""
    return len(values) <= len(wanted) and all(v in (1, d) for v, d in zip(values[::-1], wanted[::-1], strict=False))


def _recurrent(node: ir.Node, shapes: Sequence[Shape | None]) -> Iterator[str]:
    gates, size = _GATES[node.op_type], node.attributes.get_int("hidden_size", 0)
    ways = 2 if node.attributes.get_string("direction", "forward") == "bidirectional" else 1
    data = shapes[0]
    if not size or data is None or len(data) != 3:
        return
    wanted = {1: (ways, gates * size, data[2]), 2: (ways, gates * size, size), 3: (ways, 2 * gates * size)}
    if node.op_type == "LSTM":
        wanted[7] = (ways, 3 * size)
    for position, shape in wanted.items():
        given = shapes[position] if position < len(shapes) else None
        if given is not None and given != shape:
            yield f"has an input of shape {list(given)}, not {list(shape)}"


def _non_max(node: ir.Node, shapes: Sequence[Shape | None]) -> Iterator[str]:
    boxes, scores = shapes[:2]
    if boxes is None or scores is None:
        return
    if len(boxes) != 3 or len(scores) != 3 or (boxes[0], boxes[1]) != (scores[0], scores[2]) or boxes[2] != 4:
        yield f"has boxes of shape {list(boxes)} and scores of shape {list(scores)}, not [n, s, 4] and [n, c, s]"


def _scatter_elements(node: ir.Node, shapes: Sequence[Shape | None]) -> Iterator[str]:
    data, indices, updates = shapes[:3]
    if indices is not None and updates is not None and indices != updates:
        yield f"has indices of shape {list(indices)}, but updates of shape {list(updates)}"
    elif data is not None and indices is not None and len(data) != len(indices):
        yield f"has indices with {len(indices)} axes, but an input with {len(data)}"
    elif data is not None:
        axis = node.attributes.get_int("axis", 0)
        if -len(data) <= axis < len(data):
            yield from _outside(constant(input_at(node, 1)), data[axis])


def _gather_elements(node: ir.Node, shapes: Sequence[Shape | None]) -> Iterator[str]:
    data, indices = shapes[:2]
    if data is not None and indices is not None and len(data) != len(indices):
        yield f"has indices with {len(indices)} axes, but an input with {len(data)}"


def _gather_nd(node: ir.Node, shapes: Sequence[Shape | None]) -> Iterator[str]:
    yield from _tuples(node, shapes, node.attributes.get_int("batch_dims", 0))


def _scatter_nd(node: ir.Node, shapes: Sequence[Shape | None]) -> Iterator[str]:
    yield from _tuples(node, shapes, 0)
    data, indices, updates = shapes[:3]
    if data is not None and indices and updates is not None and indices[-1] <= len(data):
        wanted = indices[:-1] + data[indices[-1] :]
        if updates != wanted:
            yield f"has updates of shape {list(updates)}, not {list(wanted)}"


def _tuples(node: ir.Node, shapes: Sequence[Shape | None], batch: int) -> Iterator[str]:
    """Indices whose last axis holds a position in several axes of the data."""
    data, indices, values = shapes[0], shapes[1], constant(input_at(node, 1))
    if data is None or not indices:
        return
    if indices[-1] > len(data) - batch:
        yield f"reads {indices[-1]} indices at a time, but its input has {len(data)} axes"
    elif values is not None:
        for position, length in enumerate(data[batch : batch + indices[-1]]):
            yield from _outside(values[..., position], length)


def _einsum(node: ir.Node, shapes: Sequence[Shape | None]) -> Iterator[str]:
    equation = node.attributes.get_string("equation", "").replace(" ", "")
    terms = equation.split("->")[0].split(",")
    if len(terms) != len(shapes):
        yield f"has {len(shapes)} inputs for the equation {equation!r}"
        return
    lengths: dict[str, int] = {}
    for term, value in zip(terms, node.inputs, strict=True):
        if value is None or value.shape is None or "..." in term:
            continue
        if len(term) != len(value.shape):
            yield f"has an input with {len(value.shape)} axes for the term {term!r} of its equation"
            return
        for letter, dim in zip(term, value.shape, strict=True):
            if isinstance(dim, int) and dim != 1 and lengths.setdefault(letter, dim) != dim:
                yield f"has axes of length {lengths[letter]} and {dim} for the letter {letter!r} of its equation"


def _attention(node: ir.Node, shapes: Sequence[Shape | None]) -> Iterator[str]:
    queries, keys, values = shapes[:3]
    if queries is None or keys is None or values is None:
        return
    heads, shared = (node.attributes.get_int(f"{kind}_num_heads", 0) for kind in ("q", "kv"))
    fit = len(queries) == len(keys) == len(values) and queries[0] == keys[0] == values[0] and keys[-2] == values[-2]
    if fit and len(queries) == 4:
        fit = keys[1] == values[1] and queries[3] == keys[3] and not queries[1] % max(1, keys[1])
    elif fit and heads and shared:
        divided = not queries[-1] % heads and not keys[-1] % shared and not values[-1] % shared
        fit = divided and queries[-1] // heads == keys[-1] // shared
    if not fit:
        of = f"{list(queries)}, {list(keys)} and {list(values)}"
        yield f"has queries, keys and values of the shapes {of}, which do not go together"


def _outside(indices: NDArray[np.generic] | None, length: int) -> Iterator[str]:
    if indices is not None and indices.size and not -length <= indices.min() <= indices.max() < length:
        wrong = indices.max() if indices.max() >= length else indices.min()
        yield f"reads index {wrong} of an axis of length {length}"


_RULES: Mapping[str, Callable[[ir.Node, Sequence[Shape | None]], Iterator[str]]] = {
    "Attention": _attention,
    "Einsum": _einsum,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Gemm": _gemm,
    "NonMaxSuppression": _non_max,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Slice": _slice,
    **dict.fromkeys(("Conv", "ConvTranspose", *sorted(_POOLS)), _window),
    **dict.fromkeys(_GATES, _recurrent),
}
