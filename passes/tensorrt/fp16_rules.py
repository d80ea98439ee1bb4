"""Which nodes may compute in float16: its largest number is 65504, and its precision is 2^-11.

Observed ranges decide if they are known. Otherwise convolutions, MatMuls and activation functions count as safe, and
nodes that square, sum or exponentiate do not: there LayerNorm and Softmax overflow (ViT-B falls to 19% top-1 in plain
float16 because of the square in its LayerNorm).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir

from edgeprune.graph import Refused, is_exact, value_roles

LARGEST = 65504.0
HEADROOM = 2.0
"""Calibration data is only a sample: values may be this many times as large as observed."""

_CONSTANT_ERROR = 0.01
"""A constant with a larger relative error in float16 (an epsilon of 1e-6 or 1e-12) keeps its node in float32."""

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
_SUMS = frozenset({"CumSum", "ReduceL1", "ReduceMean", "ReduceSum"})
_SQUARES = frozenset({
    "GlobalLpPool", "GroupNormalization", "InstanceNormalization", "LRN", "LpNormalization", "LpPool",
    "MeanVarianceNormalization", "RMSNormalization", "ReduceL2", "ReduceSumSquare",
})  # fmt: skip
_EXPONENTIALS = frozenset({"Exp", "LogSoftmax", "ReduceLogSum", "ReduceLogSumExp", "Softmax", "Softplus", "Mish"})
_STATISTICS = frozenset({"Add", "Clip", "Div", "Expand", "Max", "Reciprocal", "Sqrt", "Sub"})
"""Operators that turn a sum of squares into a normalized value, up to the division."""

_NEVER = frozenset({"If", "Loop", "NonMaxSuppression", "Range", "Scan"})
_TYPE_ATTRIBUTES = ("dtype", "output_datatype", "output_dtype")


def fp16_eligible(
    model: ir.Model, ranges: Mapping[str, tuple[float, float]] | None = None
) -> dict[str, bool | Refused]:
    """For every node of the main graph, whether it may compute in float16, or why not.

    Args:
        model: canonical, with types inferred.
        ranges: value name -> observed (low, high), as far as known; they decide for these values.
    """
    limits = {name: max(abs(low), abs(high)) for name, (low, high) in (ranges or {}).items()}
    opset = model.graph.opset_imports.get("", 1)
    found: dict[str, bool | Refused] = {}
    statistics: dict[ir.Value, str] = {}
    roles = value_roles(model.graph)
    for node in model.graph:
        verdict = _allowed(node, opset) and _constants_fit(node) and _values_fit(node, limits)
        if verdict and (role := next((roles[v] for v in node.outputs if is_exact(roles.get(v, ""))), "")):
            verdict = Refused(f"it computes {role}")
        if verdict and (source := _normalizes(node, statistics)) is not None:
            verdict = Refused(f"it normalizes with what {source!r} computes in float32")
        found[str(node.name)] = verdict
        if not verdict and (node.op_type in _SUMS | _STATISTICS | {"Pow", "Mul", "ReduceL2"}) and node.op_type != "Div":
            statistics.update(dict.fromkeys(node.outputs, str(node.name)))
    return found


@cache
def half_variables(op: str, domain: str, opset: int) -> frozenset[str]:
    """The type variables of an operator that may be float16; none if ONNX does not define the operator."""
    try:
        schema = onnx.defs.get_schema(op, opset, "" if domain == "ai.onnx" else domain)
    except onnx.defs.SchemaError:
        return frozenset()
    return frozenset(c.type_param_str for c in schema.type_constraints if "tensor(float16)" in c.allowed_type_strs)


def _allowed(node: ir.Node, opset: int) -> bool | Refused:
    if node.domain not in ("", "ai.onnx"):
        return Refused(f"nothing is known about {node.domain}::{node.op_type}")
    if node.op_type in _NEVER or any(name in node.attributes for name in _TYPE_ATTRIBUTES):
        return Refused(f"{node.op_type} keeps its types")
    if not half_variables(node.op_type, node.domain, opset):
        return Refused(f"{node.op_type} has no float16 form in opset {opset}")
    source, result = node.inputs[0] if node.inputs else None, node.outputs[0]
    if node.op_type == "Cast" and result.dtype in FLOATS and (source is None or source.dtype not in FLOATS):
        return Refused("it converts integers to float, and float16 is exact only up to 2048")
    return True


def _constants_fit(node: ir.Node) -> bool | Refused:
    for value in node.inputs:
        tensor = value.const_value if value is not None else None
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or not tensor.size:
            continue
        array = tensor.numpy()
        largest = float(np.abs(array).max())
        if largest > LARGEST:
            return Refused(f"its constant {tensor.name!r} reaches {largest:.3g}, which float16 cannot hold")
        if array.size == 1 and largest and abs(float(np.float16(largest)) - largest) > _CONSTANT_ERROR * largest:
            return Refused(f"its constant {tensor.name!r} is {largest:.3g}, which float16 holds badly")
    return True


def _values_fit(node: ir.Node, limits: Mapping[str, float]) -> bool | Refused:
    for value in (*node.inputs, *node.outputs):
        limit = limits.get(str(value.name)) if value is not None else None
        if limit is not None and not limit * HEADROOM <= LARGEST:
            assert value is not None
            return Refused(f"{value.name!r} reaches {limit:.3g}, too near to what float16 can hold")
    inner = _intermediate(node, limits)
    if inner is None or inner <= LARGEST:
        return True
    if math.isinf(inner):
        return Refused(f"{node.op_type} may overflow, and the range of its input is not known")
    return Refused(f"{node.op_type} computes with values of up to {inner:.3g}, which float16 cannot hold")


def _intermediate(node: ir.Node, limits: Mapping[str, float]) -> float | None:
    """The largest magnitude inside the node, including headroom: inf if unknown, None if the operator is safe."""
    source = node.inputs[0] if node.inputs else None
    if source is None or source.dtype not in FLOATS:
        return None
    known = limits.get(str(source.name))
    reach = math.inf if known is None else known * HEADROOM
    if node.op_type == "Pow":
        exponent = node.inputs[1].const_value if node.inputs[1] is not None else None
        if exponent is None or exponent.size != 1:
            return math.inf
        power = float(exponent.numpy().reshape(-1)[0])
        return math.inf if power < 0 else max(reach, 1.0) ** power
    if node.op_type == "Mul" and node.inputs[0] is node.inputs[1]:
        return reach**2
    if node.op_type in _SUMS:
        return reach * _summands(node)
    if node.op_type in _SQUARES:
        return reach**2
    if node.op_type == "LayerNormalization":
        # TensorRT and onnxruntime compute its statistics in float32 if the model says so (stash_type 1, the default).
        stash = node.attributes.get("stash_type")
        return reach if stash is None or stash.as_int() == 1 else reach**2
    if node.op_type in ("Softmax", "LogSoftmax"):
        return reach  # the largest input is subtracted first: no exponential exceeds 1
    if node.op_type in _EXPONENTIALS:
        return math.exp(min(reach, 700.0)) if math.isfinite(reach) else math.inf
    return None


def _summands(node: ir.Node) -> float:
    """How many elements enter one sum; infinite if the shapes are unknown."""
    before, after = node.inputs[0], node.outputs[0]
    sizes = [_elements(value) for value in (before, after)]
    if node.op_type == "CumSum" or sizes[0] is None or not sizes[1]:
        return math.inf if sizes[0] is None else float(sizes[0])
    return sizes[0] / sizes[1]


def _elements(value: ir.Value | None) -> int | None:
    if value is None or value.shape is None:
        return None
    # An open size, such as a batch, is the same before and after.
    return math.prod(d if isinstance(d, int) else 1 for d in value.shape)


def _normalizes(node: ir.Node, statistics: Mapping[ir.Value, str]) -> str | None:
    """The float32 node whose statistic this node computes with, up to the division that ends the normalization."""
    if node.op_type not in _STATISTICS:
        return None
    read = [statistics[value] for value in node.inputs if value is not None and value in statistics]
    if not read or (node.op_type == "Add" and all(v is not None and v.const_value is None for v in node.inputs)):
        return None
    return read[0]
