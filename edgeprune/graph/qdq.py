"""Q/DQ pairs on an ONNX graph: scales, quantized arrays and the nodes, for every pass that quantizes.

The passes decide which tensors are quantized, with what range, and in which form for a runtime. Scales are positive;
``real = (quantized - zero) * scale`` as in ONNX's DequantizeLinear. The float type of a scale (float32 or float16) is
the type of the pair's input and output.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.errors import PassError
from edgeprune.graph.edit import find_value, new_initializer, new_node, place_after, reroute

Floats: TypeAlias = NDArray[np.floating[Any]]
Integers: TypeAlias = NDArray[np.integer[Any]]

_SMALLEST_SCALE = {np.dtype(np.float32): 2.0**-100, np.dtype(np.float16): 2.0**-24}
"""Smaller scales would be zero (float16), or their reciprocal could overflow (float32)."""


@dataclass(frozen=True)
class Refused:
    """A refusal as a value: false in a boolean context; its text is the reason."""

    reason: str

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return self.reason


QDQ_OPSET = 13
"""The first opset with a scale for each channel."""


def opset_allows_int8(model: ir.Model) -> bool | Refused:
    """Whether the opset has the Q/DQ that INT8 needs; one that could not be raised, for a node with a body, may not."""
    opset = model.graph.opset_imports.get("", 0)
    return opset >= QDQ_OPSET or Refused(f"the model stays at opset {opset}, and INT8 needs opset {QDQ_OPSET}")


def require_int8(name: str, model: ir.Model, int8: Collection[str], eligible: Mapping[str, bool | Refused]) -> None:
    """Check what every quantizing pass requires.

    Args:
        name: the pass, for the error.
        model: the model to quantize.
        int8: names of the nodes that will be INT8.
        eligible: node name -> whether it can be INT8, or why not.

    Raises:
        PassError: the opset is older than 13, or a node is unknown or not eligible.
    """
    if not opset_allows_int8(model):
        raise PassError(f"{name}: per-channel DequantizeLinear needs opset 13 or newer")
    for node in int8:
        if node not in eligible:
            raise PassError(f"{name}: the model has no node {node!r}")
        if not eligible[node]:
            raise PassError(f"{name}: node {node!r} cannot be INT8: {eligible[node]}")


def representable_scale(scale: NDArray[Any] | float, dtype: np.dtype[Any] | type = np.float32) -> Floats:
    """The scale rounded *up* to ``dtype``, so that it still covers its range, and never zero; the shape is kept.

    Quantize with the returned scale, not with the exact one: a float16 scale may be subnormal and differ by several
    percent.
    """
    wanted = np.dtype(dtype)
    exact = np.maximum(np.asarray(scale, np.float64), _SMALLEST_SCALE[wanted])
    rounded = exact.astype(wanted)
    return np.asarray(np.where(rounded.astype(np.float64) < exact, np.nextafter(rounded, wanted.type(np.inf)), rounded))


def symmetric_scale(low: float, high: float, *, bits: int = 8, dtype: np.dtype[Any] | type = np.float32) -> Floats:
    """Scalar scale of a tensor with values in ``[low, high]``, for signed integers with zero point 0.

    ``max(|low|, |high|) / (2^(bits-1) - 1)``, as TensorRT's ``amax / 127``.
    """
    return representable_scale(max(abs(low), abs(high)) / (2 ** (bits - 1) - 1), dtype)


def asymmetric_scale(low: float, high: float, *, bits: int = 8) -> tuple[Floats, Integers]:
    """Scalar (scale, zero point) of a tensor with values in ``[low, high]``, for UINT8; zero stays exact."""
    low, high, top = min(low, 0.0), max(high, 0.0), 2**bits - 1
    scale = representable_scale((high - low) / top)
    zero = np.clip(np.rint(-low / float(scale)), 0, top)
    return scale, np.asarray(zero, np.uint8)


def quantize(
    array: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any], *, axis: int | None = None, low: int, high: int
) -> Integers:
    """ONNX QuantizeLinear in NumPy: ``clip(rint(x / scale) + zero, low, high)`` in the integer type of ``zero``.

    ``scale`` and ``zero`` are scalars, or of shape (array.shape[axis],). As in the standard, the division is in float32
    and rounding is half to even.
    """
    if axis is not None and scale.ndim:
        column = [1] * array.ndim
        column[axis] = -1
        scale, zero = scale.reshape(column), zero.reshape(column)
    steps = np.rint(array.astype(np.float32) / scale.astype(np.float32)) + zero.astype(np.float32)
    return np.asarray(np.clip(steps, low, high).astype(zero.dtype))


def quantize_weight(
    array: NDArray[Any],
    axis: int | None,
    bits: int = 8,
    symmetric: bool = True,
    *,
    scale_dtype: np.dtype[Any] | type = np.float32,
) -> tuple[Integers, Floats, Integers]:
    """Quantize a weight per channel of ``axis`` (per tensor if None): (quantized, scale, zero point).

    Symmetric: INT8 in [-(2^(bits-1) - 1), 2^(bits-1) - 1], zero points 0. Else UINT8 in [0, 2^bits - 1]. Scales and
    zero points have shape (array.shape[axis],), or () for axis None. A channel of zeros gets the smallest scale and
    stays zero.

    Raises PassError if ``bits`` is not in 2..8 or the weight is empty or not finite.
    """
    if not 2 <= bits <= 8:
        raise PassError(f"qdq: cannot quantize a weight to {bits} bits, only to 2 to 8")
    values = array.astype(np.float32)
    if not values.size or not np.isfinite(values).all():
        raise PassError(f"qdq: a weight of shape {array.shape} is empty or has values that are not finite")
    others = tuple(a for a in range(values.ndim) if axis is None or a != axis % values.ndim)
    low, high = (v.astype(np.float64) for v in (values.min(axis=others), values.max(axis=others)))
    if symmetric:
        top = 2 ** (bits - 1) - 1
        scale = representable_scale(np.maximum(np.abs(low), np.abs(high)) / top, scale_dtype)
        zero = np.zeros(scale.shape, np.int8)
        return quantize(values, scale, zero, axis=axis, low=-top, high=top), scale, zero
    top = 2**bits - 1
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    scale = representable_scale((high - low) / top, scale_dtype)
    zero = np.clip(np.rint(-low / scale.astype(np.float32)), 0, top).astype(np.uint8)
    return quantize(values, scale, zero, axis=axis, low=0, high=top), scale, zero


def insert_qdq(
    model: ir.Model,
    value: ir.Value | str,
    scale: NDArray[Any] | float,
    zero_point: NDArray[Any] | int = 0,
    dtype: ir.DataType = ir.DataType.INT8,
    consumers: Iterable[ir.Node] | None = None,
) -> ir.Value:
    """Insert a Q/DQ pair between ``value`` and ``consumers`` (all, if None); a graph output stays exact.

    Args:
        model: changed in place.
        value: a value of the main graph, or its name.
        scale: scalar, float32 or float16; ``value`` must have its type.
        zero_point: scalar in the range of ``dtype``.
        dtype: the quantized type, INT8 or UINT8.
        consumers: nodes of the main graph that read ``value``.

    Returns:
        The output of the DequantizeLinear, which ``consumers`` now read.

    Raises:
        PassError: ``value`` is not in the graph, or the scale is not a positive number.
    """
    graph = model.graph
    source = find_value(graph, value) if isinstance(value, str) else value
    base = source.name or "value"
    scales = np.asarray(scale) if isinstance(scale, (np.ndarray, np.generic)) else np.asarray(scale, np.float32)
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise PassError(f"qdq: the scale of {base!r} is {scales}, not a positive number")
    scale_value = new_initializer(graph, f"{base}_scale", scales)
    zero_value = new_initializer(graph, f"{base}_zero_point", np.full(scales.shape, zero_point, dtype.numpy()))
    quantized = new_node(graph, "QuantizeLinear", [source, scale_value, zero_value], f"{base}_quantize", dtype)
    inputs, float_type = [quantized.outputs[0], scale_value, zero_value], ir.DataType.from_numpy(scales.dtype)
    restored = new_node(graph, "DequantizeLinear", inputs, f"{base}_dequantize", float_type)
    place_after(graph, source, [quantized, restored])
    reroute(source, restored.outputs[0], consumers, keep=[quantized])
    return restored.outputs[0]


def dequantized_weight(
    model: ir.Model,
    initializer: ir.Value | str,
    axis: int | None,
    *,
    bits: int = 8,
    symmetric: bool = True,
    scale_dtype: np.dtype[Any] | type = np.float32,
    float_dtype: np.dtype[Any] | type | None = None,
    stored: bool = True,
    consumers: Iterable[ir.Node] | None = None,
) -> ir.Value:
    """Replace a float initializer by its quantized form and a DequantizeLinear.

    The float initializer is removed if nothing else reads it.

    Args:
        model: changed in place; per-axis Q/DQ needs opset 13, which the caller must ensure.
        initializer: a float initializer of the main graph, or its name.
        axis: the channel axis; None quantizes per tensor.
        bits: see `quantize_weight`.
        symmetric: see `quantize_weight`.
        scale_dtype: float32 or float16: the type in which the scales are exact.
        float_dtype: the type that the consumers read; by default ``scale_dtype``.
        stored: True stores quantized values and a DequantizeLinear; False keeps the floats and also inserts a
            QuantizeLinear, for runtimes whose importer rejects quantized constants.
        consumers: nodes that will read the quantized weight; all, if None.

    Returns:
        The output of the DequantizeLinear.
    """
    graph = model.graph
    source = find_value(graph, initializer) if isinstance(initializer, str) else initializer
    if source.const_value is None:
        raise PassError(f"qdq: {source.name!r} is not an initializer")
    base = source.name or "weight"
    array = source.const_value.numpy()
    quantized, scale, zero = quantize_weight(array, axis, bits, symmetric, scale_dtype=scale_dtype)
    scale = scale.astype(float_dtype or scale_dtype)
    attributes = {} if axis is None else {"axis": axis}
    grid = [new_initializer(graph, f"{base}_scale", scale), new_initializer(graph, f"{base}_zero_point", zero)]
    new: list[ir.Node] = []
    if stored:
        stored_value = new_initializer(graph, f"{base}_quantized", quantized)
    else:
        as_scale = array.dtype == scale.dtype
        floats = source if as_scale else new_initializer(graph, f"{base}_float", array.astype(scale.dtype))
        int_type = ir.DataType.from_numpy(quantized.dtype)
        new.append(new_node(graph, "QuantizeLinear", [floats, *grid], f"{base}_quantize", int_type, attributes))
        stored_value = new[0].outputs[0]
    float_type = ir.DataType.from_numpy(scale.dtype)
    new.append(new_node(graph, "DequantizeLinear", [stored_value, *grid], f"{base}_dequantize", float_type, attributes))
    place_after(graph, source, new)
    reroute(source, new[-1].outputs[0], consumers, keep=new)
    if not source.uses() and not source.is_graph_output():
        del graph.initializers[base]
    return new[-1].outputs[0]


def merge_equal_integers(graph: ir.Graph) -> None:
    """Let INT8 tensors with equal values, the quantized form of a shared weight, be one; vectors stay as they are."""
    known: dict[tuple[object, ...], ir.Value] = {}
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or len(tensor.shape) < 2 or tensor.dtype not in (ir.DataType.INT8, ir.DataType.UINT8):
            continue
        if value.is_graph_input() or value.is_graph_output():
            continue
        first = known.setdefault((tensor.dtype, tuple(tensor.shape), hash(tensor.tobytes())), value)
        if first is not value and np.array_equal(first.const_value.numpy(), tensor.numpy()):  # type: ignore[union-attr]
            for node, index in tuple(value.uses()):
                node.replace_input_with(index, first)
            del graph.initializers[name]
