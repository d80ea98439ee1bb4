"""FP8 (E4M3) Q/DQ pairs for the Linears of a transformer, as TensorRT 10 and newer build them for Ada, Thor and newer.

Convolutions stay in INT8 or FP16: TensorRT has FP8 products first of all, and attention keeps its fused kernel in 16
bits. Scales are per tensor: the largest magnitude becomes 448, the largest E4M3 number.

Source: ONNX QuantizeLinear, opset 19 (FLOAT8E4M3FN); NVIDIA TensorRT documentation, Working with Quantized Types.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph as graphs
from edgeprune.errors import PassError
from edgeprune.graph import Refused, insert_qdq, is_op, naming, new_initializer, new_node, place_after

FP8_OPSET = 19
"""From this opset on QuantizeLinear has the types of FP8."""

_LARGEST = 448.0
_FP8 = ir.DataType.FLOAT8E4M3FN


def fp8_eligible(model: ir.Model) -> dict[str, bool | Refused]:
    """For every node of the main graph, whether it may be FP8: a MatMul or Gemm of an activation and a constant."""
    return {str(node.name): _eligible(node) for node in model.graph}


def quantize_fp8(model: ir.Model, nodes: Collection[str], ranges: Mapping[str, tuple[float, float]]) -> ir.Model:
    """A copy of the model with FP8 pairs at the operands of the named nodes.

    Args:
        model: opset 19 or newer; the pairs have the float types of the values that they stand at.
        nodes: names of eligible nodes.
        ranges: activation name -> observed (low, high), for all of their activations.

    Raises:
        PassError: a node is not eligible, a range is missing or not finite, or the opset is too old.
    """
    verdicts = fp8_eligible(model)
    for name in nodes:
        if not (verdict := verdicts.get(name, Refused("there is no such node"))):
            raise PassError(f"quantize_fp8: {name!r} cannot be FP8: {verdict}")
    if nodes and model.graph.opset_imports.get("", 1) < FP8_OPSET:
        raise PassError(f"quantize_fp8: the model has opset {model.graph.opset_imports.get('', 1)}, FP8 needs 19")
    copy = graphs.clone(model)
    readers: dict[ir.Value, list[ir.Node]] = {}
    with naming(copy.graph):
        for node in [n for n in copy.graph if n.name in nodes]:
            data, weight = node.inputs[0], node.inputs[1]
            assert data is not None
            assert weight is not None
            readers.setdefault(data, []).append(node)
            _quantize_weight(copy, weight, node)
        for value, consumers in readers.items():
            low, high = ranges.get(_observed(value), (np.nan, np.nan))
            if not (np.isfinite(low) and np.isfinite(high)):
                raise PassError(f"quantize_fp8: no range is given for {value.name!r}")
            kind = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
            insert_qdq(copy, value, _scale(max(abs(low), abs(high)), kind), dtype=_FP8, consumers=consumers)
    return copy


def _eligible(node: ir.Node) -> bool | Refused:
    if not is_op(node, "MatMul", "Gemm"):
        return Refused(f"{node.op_type} is no Linear")
    data, weight = node.inputs[0], node.inputs[1]
    if weight is None or weight.const_value is None or data is None or data.const_value is not None:
        return Refused("it does not multiply an activation by a constant")
    return True


def _observed(value: ir.Value) -> str:
    """The name under which a value was observed: that of the float32 value behind a Cast."""
    producer = value.producer()
    while producer is not None and producer.op_type == "Cast" and producer.inputs[0] is not None:
        value = producer.inputs[0]
        producer = value.producer()
    return str(value.name)


def _scale(largest: float, kind: np.dtype[Any]) -> NDArray[Any]:
    tiny = float(np.finfo(np.float16).tiny)
    return np.asarray(max(largest / _LARGEST, tiny), dtype=kind)


def _quantize_weight(model: ir.Model, weight: ir.Value, reader: ir.Node) -> None:
    assert weight.const_value is not None
    floats = weight.const_value.numpy()
    scale = _scale(float(np.abs(floats).max(initial=0.0)), floats.dtype)
    stored = np.clip(floats.astype(np.float32) / np.float32(scale), -_LARGEST, _LARGEST).astype(_FP8.numpy())
    base = weight.name or "weight"
    parts = [
        new_initializer(model.graph, f"{base}_fp8", stored),
        new_initializer(model.graph, f"{base}_scale", scale),
        new_initializer(model.graph, f"{base}_zero_point", np.zeros((), _FP8.numpy())),
    ]
    restored = new_node(
        model.graph, "DequantizeLinear", parts, f"{base}_dequantize", ir.DataType.from_numpy(floats.dtype)
    )
    place_after(model.graph, weight, [restored])
    reader.replace_input_with(1, restored.outputs[0])
    if not weight.uses() and base in model.graph.initializers:
        del model.graph.initializers[base]
