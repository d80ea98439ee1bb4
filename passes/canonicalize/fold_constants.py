"""Compute the outputs of nodes whose inputs are all constants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import ONNX_DOMAINS, constant_tensor, has_subgraph, static_shape
from edgeprune.passes.canonicalize.numpy_ops import NUMPY

if TYPE_CHECKING:
    import onnx

GROWTH_LIMIT_BYTES = 4 << 20
"""A constant larger than all its inputs is stored only up to this size: an Expand to a huge tensor stays."""

_NEVER = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
    | {"DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"}
)
"""Random operators, and quantization, which must stay visible."""

Array = NDArray[Any]


def fold_node(node: ir.Node, opset: int) -> list[Array] | None:
    """The outputs of a node whose inputs are all constants; None for other nodes, or if it cannot or must not be run.

    Args:
        node: a node of any domain.
        opset: version of the default domain.
    """
    if node.domain not in ONNX_DOMAINS or node.op_type in _NEVER or has_subgraph(node) or not node.outputs:
        return None
    tensors = []
    for value in node.inputs:
        tensor = constant_tensor(value)
        if value is not None and (tensor is None or tensor.dtype is ir.DataType.STRING):
            return None
        tensors.append(tensor)
    if not tensors and node.op_type != "Constant":
        return None
    input_bytes = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    if not _small(node, input_bytes, tensors):
        return None
    arrays = [None if tensor is None else tensor.numpy() for tensor in tensors]
    direct = NUMPY.get(node.op_type)
    results = direct(node, arrays, opset) if direct is not None else None
    if results is None:
        results = _evaluate(node, arrays, opset)
    results = None if results is None else [np.asarray(r) for r in results]
    if results is None or sum(r.nbytes for r in results) > max(input_bytes, GROWTH_LIMIT_BYTES):
        return None
    return results


def _small(node: ir.Node, input_bytes: int, tensors: list[ir.TensorProtocol | None]) -> bool:
    """Whether the results are certain or likely to stay within the limit, before they are computed."""
    if node.op_type in ("Shape", "Size"):
        return True
    shapes = [static_shape(value) for value in node.outputs if value.name]
    if all(shape is not None for shape in shapes):
        item = max((t.dtype.itemsize for t in tensors if t is not None), default=8)
        return sum(math.prod(shape or ()) for shape in shapes) * item <= max(input_bytes, GROWTH_LIMIT_BYTES)
    if node.op_type in ("ConstantOfShape", "Expand", "Tile", "Range", "OneHot", "EyeLike", "Resize", "Upsample", "Pad"):
        target = tensors[-1] if node.op_type in ("ConstantOfShape", "Expand", "Tile") else None
        if target is None:
            return input_bytes <= 4096
        factor = math.prod(abs(int(d)) for d in target.numpy().reshape(-1))
        return factor * (input_bytes if node.op_type == "Tile" else 8) <= GROWTH_LIMIT_BYTES
    return True


_MOVES = frozenset({"Compress", "GatherElements", "GatherND", "Pad", "ScatterElements", "ScatterND", "Tile", "Trilu"})
"""Operators that only move elements, for which ONNX's reference gives the same bits as any runtime."""

_REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Exceptions of the evaluators for operators, versions or types that they do not know; such a node stays."""


def _evaluate(node: ir.Node, arrays: list[Array | None], opset: int) -> list[Array] | None:
    """Run a node alone in onnxruntime, for its rounding, else in ONNX's reference; None if neither can run it."""
    import onnx

    names = [f"i{k}" if array is not None else "" for k, array in enumerate(arrays)]
    proto = ir.serde.serialize_node(node)
    del proto.input[:]
    proto.input.extend(names)
    graph = onnx.GraphProto(name="constant", node=[proto])
    feeds = {name: array for name, array in zip(names, arrays, strict=True) if array is not None}
    for name, array in feeds.items():
        dtype = ir.DataType.from_numpy(array.dtype).value
        graph.input.append(onnx.helper.make_tensor_value_info(name, dtype, array.shape))
    for value in node.outputs:
        if value.name:
            dtype = onnx.TypeProto()
            if value.dtype is not None:
                dtype.tensor_type.elem_type = value.dtype.value
            graph.output.append(onnx.ValueInfoProto(name=value.name, type=dtype))
    model = onnx.ModelProto(ir_version=8, graph=graph, opset_import=[onnx.OperatorSetIdProto(version=opset)])
    runners = (_in_reference,) if node.op_type in _MOVES else (_in_onnxruntime, _in_reference)
    for run in runners:
        results = run(model, feeds)
        if results is not None:
            return results
    return None


def _in_onnxruntime(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array] | None:
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        results = session.run(None, feeds)
    except (state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented, state.RuntimeException):
        return None
    except _REFUSALS:
        return None
    return _arrays(results)


def _in_reference(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array] | None:
    from onnx.reference import ReferenceEvaluator

    try:
        with np.errstate(all="ignore"):
            return _arrays(list(ReferenceEvaluator(model).run(None, feeds)))
    except _REFUSALS:
        return None


def _arrays(results: Sequence[object]) -> list[Array] | None:
    """The results as arrays; None if one is a sequence, an optional or text."""
    found = [np.asarray(r) for r in results if isinstance(r, np.ndarray | np.generic)]
    return found if len(found) == len(results) and all(r.dtype.kind in "biufcV" for r in found) else None
