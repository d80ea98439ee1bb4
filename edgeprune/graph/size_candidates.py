"""Concrete sizes for inputs with open axes: which ones a model can plausibly run at, the most plausible first.

A size cannot be proved to be feasible, since a Reshape may need any divisor. So these are candidates to try: multiples
of the total stride for images, and the lengths of the constants that a model adds to its values (position tables).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import onnx
import onnx_ir as ir

from edgeprune.graph.batch_axis import batch_axes
from edgeprune.graph.edit import ints_attribute, is_op
from edgeprune.graph.shape_inference import lite_proto

InputShapes = dict[str, tuple[int, ...]]
"""Input name -> dimensions, for every input of a model that is no initializer."""

_SIZES = (64, 96, 32, 224, 128, 48, 16, 8, 7, 4, 1, 256, 384, 512, 640)
_MAX_LENGTH = 4096
"""A longer axis of a constant is no position table."""
_MOST_ELEMENTS = 1 << 22
"""A larger input takes more time and memory than a check is worth."""
_MOST_INFERRED = 60
_MOST_UNCHECKED = 16
_LARGEST_STRIDE = 128
"""A larger product comes from side paths that are broadcast back, as the keys of an attention with reduced keys."""
_USUAL_STRIDE = 32
_STRIDED = ("Conv", "MaxPool", "AveragePool", "LpPool")


def data_inputs(model: ir.Model) -> list[ir.Value]:
    """The inputs that a caller gives: those that are no initializers."""
    return [v for v in model.graph.inputs if not v.is_initializer() and v.name not in model.graph.initializers]


def open_axes(model: ir.Model) -> list[tuple[str, int]]:
    """(input, axis) of every axis whose length the model leaves open."""
    return [
        (value.name or "", axis)
        for value in data_inputs(model)
        for axis, dim in enumerate(value.shape or ())
        if not isinstance(dim, int)
    ]


def size_candidates(
    model: ir.Model, given: Mapping[str, Sequence[int]] | None = None, *, batch: int = 1
) -> Iterator[InputShapes]:
    """Shapes for all inputs of a model, the most plausible first. Equal symbols get equal sizes.

    Args:
        model: not changed.
        given: input name -> dimensions that are fixed already.
        batch: size of an open batch.
    """
    known, symbols = _bindings(model, given or {}, batch)
    if not symbols:
        yield _shapes(model, given or {}, known, {})
        return
    tried, passed = [], 0
    first = _first_symbols(model)
    for sizes in itertools.islice(_combinations(symbols, _plausible(model), first), _MOST_INFERRED):
        shapes = _shapes(model, given or {}, known, dict(zip(symbols, sizes, strict=True)))
        if not given and max(map(math.prod, shapes.values())) > _MOST_ELEMENTS:
            continue
        if _is_consistent(model, shapes):
            passed += 1
            yield shapes
        else:
            tried.append(shapes)
    if not passed:  # inference may be wrong about all of them
        yield from tried[:_MOST_UNCHECKED]


def _key(name: str, axis: int, dim: int | ir.SymbolicDim) -> str:
    """What has one size: a symbol, or a single axis without one."""
    symbol = None if isinstance(dim, int) else dim.value
    return symbol or f"{name}\0{axis}"


def _bindings(
    model: ir.Model, given: Mapping[str, Sequence[int]], batch: int
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Sizes of symbols that are given or batches, and the symbols that are left."""
    known: dict[str, int] = {}
    left: dict[str, None] = {}
    batches = batch_axes(model)
    for value in data_inputs(model):
        name = value.name or ""
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, int):
                continue
            if name in given:
                known[_key(name, axis, dim)] = int(given[name][axis])
            elif axis == batches[name]:
                known.setdefault(_key(name, axis, dim), batch)
            else:
                left[_key(name, axis, dim)] = None
    return known, tuple(symbol for symbol in left if symbol not in known)


def _shapes(
    model: ir.Model, given: Mapping[str, Sequence[int]], known: Mapping[str, int], chosen: Mapping[str, int]
) -> InputShapes:
    shapes: InputShapes = {}
    for value in data_inputs(model):
        name = value.name or ""
        if name in given:
            shapes[name] = tuple(int(d) for d in given[name])
            continue
        keys = [d if isinstance(d, int) else _key(name, axis, d) for axis, d in enumerate(value.shape or ())]
        shapes[name] = tuple(k if isinstance(k, int) else known[k] if k in known else chosen[k] for k in keys)
    return shapes


def _first_symbols(model: ir.Model) -> frozenset[str]:
    """The open sizes of the first input that has any."""
    for value in data_inputs(model):
        keys = [_key(value.name or "", axis, d) for axis, d in enumerate(value.shape or ()) if not isinstance(d, int)]
        if keys[1:]:
            return frozenset(keys)
    return frozenset()


def _combinations(symbols: Sequence[str], sizes: Sequence[int], first: frozenset[str]) -> Iterator[tuple[int, ...]]:
    """The same size for all symbols, or for those of the first input, with states of length one beside it.

    Last come combinations in which every symbol has a size of its own.
    """
    for size in sizes:
        yield (size,) * len(symbols)
        if not first.issuperset(symbols):
            yield tuple(size if symbol in first else 1 for symbol in symbols)
    if len(symbols) > 1:
        few = sizes[:8]
        yield from (c for c in itertools.product(few, repeat=len(symbols)) if len(set(c)) > 1)


def _plausible(model: ir.Model) -> list[int]:
    """Sizes to try: usual ones that the stride divides, then lengths of constants, then the others."""
    stride = _total_stride(model)
    usual = [*(s for s in _SIZES if s % stride == 0), *(k * stride for k in (2, 1, 4, 3, 8))]
    lengths = sorted(
        {
            int(d)
            for v in model.graph.initializers.values()
            if v.const_value is not None and 2 <= len(v.const_value.shape) <= 3
            for d in v.const_value.shape.numpy()[:-1]
            if 1 < d <= _MAX_LENGTH
        }
    )
    images = any(len(value.shape or ()) > 3 for value in data_inputs(model))
    first = len(usual) if images else 4
    return list(dict.fromkeys([*usual[:first], *lengths, *usual[first:], *_SIZES]))


def _total_stride(model: ir.Model) -> int:
    """The largest product of strides along a path of convolutions and poolings."""
    strides: dict[ir.Value, int] = {}
    for node in model.graph:
        before = max((strides.get(v, 1) for v in node.inputs if v is not None), default=1)
        if is_op(node, *_STRIDED):
            before *= max(ints_attribute(node, "strides") or (1,))
        for value in node.outputs:
            strides[value] = before
    largest = max(strides.values(), default=1)
    return largest if largest <= _LARGEST_STRIDE else _USUAL_STRIDE


def _is_consistent(model: ir.Model, shapes: InputShapes) -> bool:
    """Whether ONNX's shape inference finds no contradiction at these sizes."""
    proto = lite_proto(model, declared=frozenset())
    for info in proto.graph.input:
        if info.name in shapes:
            dims = info.type.tensor_type.shape.dim
            del dims[:]
            dims.extend(onnx.TensorShapeProto.Dimension(dim_value=d) for d in shapes[info.name])
    for info in proto.graph.output:
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")
    try:
        onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return False
    return True
