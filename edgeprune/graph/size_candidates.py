"""Concrete sizes for inputs with open axes: which ones a model can plausibly run at, the most plausible first.

A size cannot be proved to be feasible. So these are candidates to try: solutions of what constants of the model need
(position tables, targets of Reshapes), multiples of the total stride for images, and lengths of constants.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence

import onnx
import onnx_ir as ir

from edgeprune.graph.batch_axis import batch_axes, data_inputs
from edgeprune.graph.edit import dim_keys, ints_attribute, is_op
from edgeprune.graph.length_equations import equations, solutions
from edgeprune.graph.shape_inference import lite_proto

InputShapes = dict[str, tuple[int, ...]]
"""Input name -> dimensions, for every input of a model that is no initializer."""

_SIZES = (64, 96, 32, 224, 128, 48, 16, 8, 7, 4, 1, 256, 384, 512, 640)
_MAX_LENGTH = 4096
"""A longer axis of a constant is no position table."""
_MOST_ELEMENTS = 1 << 22
"""A larger input takes more time and memory than a check is worth."""
_MOST_INFERRED = 60
_MOST_TRIED = 400
_MOST_COMBINED = 4096
"""Eight sizes for each of ten axes are 10^9 combinations."""
_MOST_SOLVED = 6
_MOST_BESIDE = 8
"""Sizes of the axes that no equation decides, for each solution of the others."""
_MOST_UNCHECKED = 16
_LARGEST_STRIDE = 128
"""A larger product comes from side paths that are broadcast back, as the keys of an attention with reduced keys."""
_USUAL_STRIDE = 32
_TOLD = ("imgsz", "image_size", "img_size", "input_size")
"""Names of metadata with the size of the images."""
_LINES = (320, 160, 128)
"""Widths of a line of text, which is at most as high as `_HIGHEST_LINE`."""
_HIGHEST_LINE = 64
_LABELS = (224,)
_MAPS = (320,)
"""Sides of images of networks for labels, and for maps or detections."""
_MOST_COLOURS = 4
_STRIDED = ("Conv", "MaxPool", "AveragePool", "LpPool")


def size_candidates(
    model: ir.Model,
    given: Mapping[str, Sequence[int]] | None = None,
    *,
    batch: int = 1,
    typical: bool = False,
    batches: Mapping[str, int] | None = None,
) -> Iterator[InputShapes]:
    """Shapes for all inputs of a model, the most plausible first. Equal symbols get equal sizes.

    Args:
        model: not changed.
        given: input name -> dimensions that are fixed already.
        batch: size of an open batch.
        typical: sizes that such networks are used at come first, else small ones, at which a check is fast.
        batches: `batch_axes` of the model, if they are known.
    """
    known, symbols = _bindings(model, given or {}, batch, batches or batch_axes(model))
    if not symbols:
        yield _shapes(model, given or {}, known, {})
        return
    steps, needed = _steps(model, symbols), equations(model)
    solved = solutions(needed, symbols, known, steps)
    usual = _plausible(model, max(steps.values()))
    decided = solved[0].keys() if solved else ()
    used = _typical(model, symbols, {s: 1 if s in decided else step for s, step in steps.items()}) if typical else []
    combined = itertools.islice(_combinations(symbols, usual, _first_symbols(model)), _MOST_COMBINED)
    chosen: Iterator[Mapping[str, int]] = itertools.chain(used, combined)
    if solved:
        few = itertools.islice(chosen, _MOST_BESIDE)
        chosen = ({**sizes, **found} for sizes, found in itertools.product(list(few), solved[:_MOST_SOLVED]))
    tried, passed, seen = [], 0, 0
    for sizes in chosen:
        shapes = _shapes(model, given or {}, known, sizes)
        if (not given and max(map(math.prod, shapes.values())) > _MOST_ELEMENTS) or shapes in tried:
            continue
        fits = all(equation.holds({**known, **sizes}) for equation in needed)
        if fits and _is_consistent(model, shapes):
            passed += 1
            yield shapes
        tried.append(shapes)
        seen += fits
        if seen > _MOST_INFERRED or len(tried) > _MOST_TRIED:
            break
    if not passed:  # what was derived may be wrong about all of them
        yield from tried[:_MOST_UNCHECKED]


def _bindings(
    model: ir.Model, given: Mapping[str, Sequence[int]], batch: int, batches: Mapping[str, int]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Sizes of symbols that are given or batches, and the symbols that are left."""
    known: dict[str, int] = {}
    left: dict[str, None] = {}
    for value in data_inputs(model):
        name = value.name or ""
        for axis, key in enumerate(dim_keys(value) or ()):
            if not isinstance(key, str):
                continue
            if name in given:
                known[key] = int(given[name][axis])
            elif axis == batches[name]:
                known.setdefault(key, batch)
            else:
                left[key] = None
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
        keys = dim_keys(value) or ()
        shapes[name] = tuple(k if isinstance(k, int) else known[str(k)] if k in known else chosen[str(k)] for k in keys)
    return shapes


def _first_symbols(model: ir.Model) -> frozenset[str]:
    """The open sizes of the first input that has any."""
    for value in data_inputs(model):
        keys = [key for key in dim_keys(value) or () if isinstance(key, str)]
        if keys[1:]:
            return frozenset(keys)
    return frozenset()


def _combinations(symbols: Sequence[str], sizes: Sequence[int], first: frozenset[str]) -> Iterator[dict[str, int]]:
    """The same size for all symbols, or for those of the first input, with states of length one beside it.

    Last come combinations in which every symbol has a size of its own.
    """
    for size in sizes:
        yield dict.fromkeys(symbols, size)
        if not first.issuperset(symbols):
            yield {symbol: size if symbol in first else 1 for symbol in symbols}
    if len(symbols) > 1:
        few = itertools.product(sizes[:8], repeat=len(symbols))
        yield from (dict(zip(symbols, c, strict=True)) for c in few if len(set(c)) > 1)


def _plausible(model: ir.Model, stride: int) -> list[int]:
    """Sizes to try: usual ones that the stride divides, then lengths of constants, then the others."""
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


def _typical(model: ir.Model, symbols: Sequence[str], steps: Mapping[str, int]) -> list[dict[str, int]]:
    """Sizes that networks of this kind are used at: of the metadata, for lines of text, labels, or maps."""
    found: list[dict[str, int]] = []
    for value in data_inputs(model):
        keys = dim_keys(value) or ()
        if len(keys) != 4:
            continue
        axes = (1, 2) if isinstance(keys[3], int) and keys[3] <= _MOST_COLOURS < _large(keys[1]) else (2, 3)
        sides = [keys[axis] for axis in axes]
        fixed = [d for d in sides if isinstance(d, int)]
        if len(fixed) == 2 or any(not isinstance(d, int) and d not in symbols for d in sides):
            continue
        pairs = [[d if isinstance(d, int) else size for d in sides] for size in _usual_sides(model, fixed)]
        if not fixed and (told := _told_size(model)):
            pairs.insert(0, told)
        for pair in pairs:
            if all(isinstance(d, int) or size % steps[str(d)] == 0 for d, size in zip(sides, pair, strict=True)):
                own = {str(d): size for d, size in zip(sides, pair, strict=True) if not isinstance(d, int)}
                found.append({**dict.fromkeys(symbols, max(own.values())), **own})
        break
    return found


def _large(key: int | str | None) -> int:
    return key if isinstance(key, int) else _MAX_LENGTH


def _usual_sides(model: ir.Model, fixed: Sequence[int]) -> tuple[int, ...]:
    """Lengths of an open side of an image, beside a fixed one if there is one."""
    if fixed:
        return _LINES if fixed[0] <= _HIGHEST_LINE else (fixed[0],)
    free = {key for value in data_inputs(model) for key in (dim_keys(value) or ())[1:] if isinstance(key, str)}
    maps = any(
        isinstance(key, str) and any(symbol in key for symbol in free)
        for value in model.graph.outputs
        for key in dim_keys(value) or ()
    )
    return _MAPS if maps else _LABELS


def _told_size(model: ir.Model) -> list[int]:
    """Height and width that the exporter wrote into the metadata, as Ultralytics does; empty if it did not."""
    for name in _TOLD:
        numbers = [int(n) for n in re.findall(r"\d+", str(model.metadata_props.get(name, "")))]
        if 0 < len(numbers) <= 2 and all(0 < n <= _MAX_LENGTH for n in numbers):
            return numbers if len(numbers) == 2 else numbers * 2
    return []


def _steps(model: ir.Model, symbols: Sequence[str]) -> dict[str, int]:
    """The total stride of every open axis; of one that is no side of an image, the largest of all."""
    sides = [_total_stride(model, side) for side in (0, 1)]
    found = dict.fromkeys(symbols, max(sides))
    for value in data_inputs(model):
        keys = dim_keys(value) or ()
        if len(keys) == 4 and not (isinstance(keys[3], int) and keys[3] <= _MOST_COLOURS < _large(keys[1])):
            found |= {str(key): sides[side] for side, key in enumerate(keys[2:]) if key in found}
    return found


def _total_stride(model: ir.Model, side: int) -> int:
    """The largest product of strides of one side of images along a path of convolutions and poolings."""
    strides: dict[ir.Value, int] = {}
    for node in model.graph:
        before = max((strides.get(v, 1) for v in node.inputs if v is not None), default=1)
        if is_op(node, *_STRIDED):
            own = ints_attribute(node, "strides") or (1,)
            before *= own[min(side, len(own) - 1)]
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
