"""Lower a planned model to one ONNX graph that every TensorRT version of the target builds as planned.

TensorRT 11 and TensorRT for RTX are strongly typed: the graph states the precision. So the graph states every
precision: INT8 as symmetric Q/DQ pairs, FP8 as E4M3 pairs, FP16 as float16 tensors with casts, everything else float32.
TensorRT 8.6 and 10 build the same graph weakly typed with ``--fp16 --int8``.

If the result of an INT8 node is only read quantized again, the float type between is float32. TensorRT never writes
that result as a float, so this costs nothing. And onnxruntime quantizes the bias of such a node with a scale that
float16 cannot hold.

These depend on the target's versions (`edgeprune.passes.tensorrt.versions`):

    opset            19 where INT8 meets FP16 and all versions are 10 or newer: from this opset on QuantizeLinear takes
                     float16. At most 17 for 8.x; there the values around INT8 nodes are float32.
    stored weights   int8 constants with a DequantizeLinear if all versions are 10 or newer. The importer of 8.x refuses
                     int8 constants ("invalid weights type of Int8"). For 8.x the weights are float with Q and DQ, which
                     every version takes, at four times the size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.errors import ModelError, PassError
from edgeprune.graph import convert_opset
from edgeprune.passes.tensorrt.cast_fp16 import cast_fp16
from edgeprune.passes.tensorrt.cast_pixels import cast_pixels_first
from edgeprune.passes.tensorrt.fp16_rules import fp16_eligible
from edgeprune.passes.tensorrt.int8_nodes import COMPUTE_OPS
from edgeprune.passes.tensorrt.quantize_fp8 import quantize_fp8
from edgeprune.passes.tensorrt.quantize_tensorrt import quantize_tensorrt, read_only_quantized
from edgeprune.passes.tensorrt.versions import release

_FP16_QUANTIZE_OPSET = 19
_PRECISIONS = ("fp32", "fp16", "int8", "fp8")
_FOREIGN = frozenset({"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"})


def lower_tensorrt(
    model: ir.Model,
    precision: Mapping[str, str],
    ranges: Mapping[str, tuple[float, float]],
    *,
    target_versions: Iterable[str],
    int8_float: Literal["fp16", "fp32"] | None = None,
) -> ir.Model:
    """A copy of the model that states its precision, valid for all of ``target_versions``.

    Args:
        model: canonical, float32.
        precision: node name -> "fp32", "fp16", "int8" or, for a Linear, "fp8"; nodes that are not named are fp32.
            "int8" for an operator without an INT8 form of its own (Relu, MaxPool, Concat) means that it lies between
            INT8 nodes: it gets the type ``int8_float``, and TensorRT moves the Q/DQ pairs through it. A node with
            "fp16" that would overflow or lose its constants stays fp32: see
            `edgeprune.passes.tensorrt.fp16_rules.fp16_eligible`.
        ranges: value name -> observed (low, high). Needed for all of `values_to_quantize`; others decide where float16
            would overflow.
        target_versions: TensorRT versions that have to build the graph, such as ("10.3", "11.0").
        int8_float: the type of biases, outputs and scales of INT8 nodes; by default fp16 if any node is fp16. Always
        fp32 for 8.x.

    Raises:
        PassError: a node is unknown, cannot be INT8, or has no range; or an operator does not exist in the opset that
            the target needs.
    """
    versions = [_version(text) for text in target_versions]
    if not versions:
        raise PassError("lower_tensorrt: no TensorRT version is given")
    _check_precision(model, precision)
    _check_present_pairs(model)
    model = cast_pixels_first(model)
    present = {node.name for node in model.graph}
    precision = {name: kind for name, kind in precision.items() if name in present}
    int8 = {str(n.name) for n in model.graph if precision.get(str(n.name)) == "int8" and n.op_type in COMPUTE_OPS}
    modern = all(release(version).stored_int8 for version in versions)
    beside_int8 = int8_float or ("fp16" if "fp16" in precision.values() else "fp32")
    kinds = {"fp16", "fp8", "int8"} if modern and beside_int8 == "fp16" else {"fp16", "fp8"}
    fp8 = {name for name, kind in precision.items() if kind == "fp8"}
    if fp8 and not all(release(version).fp8 for version in versions):
        raise PassError("lower_tensorrt: FP8 needs TensorRT 10 or newer")
    lowest = _FP16_QUANTIZE_OPSET if fp8 or (modern and int8 and kinds & set(precision.values())) else 13
    converted = convert_opset(model, _target_opset(model, lowest, versions))
    allowed = fp16_eligible(converted, ranges)
    half = {name for name, kind in precision.items() if kind in kinds and allowed[name]}
    half -= read_only_quantized(converted, int8)
    quantized = quantize_tensorrt(converted, int8, ranges, half=half if modern else (), stored=modern)
    lowered = cast_fp16(quantized, half | (_half_pairs(quantized, half) if modern else set()))
    if fp8:
        lowered = quantize_fp8(lowered, fp8, ranges)
    try:
        graphs.check(lowered)
    except ModelError as error:
        raise PassError(f"lower_tensorrt: {error}") from error
    return lowered


def _target_opset(model: ir.Model, lowest: int, versions: Iterable[tuple[int, int]]) -> int:
    """The model's own opset, at least ``lowest``, and at most the newest that all parsers take."""
    newest = min(release(version).opset for version in versions)
    return min(max(model.graph.opset_imports.get("", 1), lowest), newest)


def _half_pairs(model: ir.Model, half: set[str]) -> set[str]:
    """The Q and DQ nodes with a float16 input or output: a pair can convert between the float types at no cost."""
    found = set()
    for node in model.graph:
        if node.op_type == "QuantizeLinear" and node.inputs[0] is not None:
            producer = node.inputs[0].producer()
            if producer is not None and producer.name in half:
                found.add(str(node.name))
        elif node.op_type == "DequantizeLinear":
            consumers = node.outputs[0].consumers()
            if consumers and all(consumer.name in half for consumer in consumers):
                found.add(str(node.name))
    return found


def _check_precision(model: ir.Model, precision: Mapping[str, str]) -> None:
    if unknown := sorted(set(precision) - {str(node.name) for node in model.graph}):
        raise PassError(f"lower_tensorrt: the model has no node {unknown[0]!r}")
    for name, kind in precision.items():
        if kind not in _PRECISIONS:
            raise PassError(
                f"lower_tensorrt: node {name!r} is to be {kind!r}, which is none of {', '.join(_PRECISIONS)}"
            )


def _check_present_pairs(model: ir.Model) -> None:
    """Refuse a quantized model unless its Q/DQ pairs are as TensorRT needs them."""
    for node in model.graph:
        if node.op_type in _FOREIGN:
            raise PassError(
                f"lower_tensorrt: TensorRT has no {node.op_type} ({node.name!r}); start from the float model"
            )
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = node.inputs[2] if len(node.inputs) > 2 else None
            symmetric = zero is not None and zero.dtype == ir.DataType.INT8 and zero.const_value is not None
            if not symmetric or (zero is not None and zero.const_value is not None and zero.const_value.numpy().any()):
                raise PassError(
                    f"lower_tensorrt: {node.op_type} {node.name!r} is not int8 with zero point 0, as TensorRT needs; "
                    "start from the float model"
                )


def _version(text: str) -> tuple[int, int]:
    match = re.match(r"(\d+)(?:\.(\d+))?(?:\.|$)", text)
    if match is None:
        raise PassError(f"lower_tensorrt: {text!r} is no TensorRT version")
    return int(match[1]), int(match[2] or 0)
