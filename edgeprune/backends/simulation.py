"""What a lowered graph computes, without the device: for accuracy alone, never for time.

onnxruntime is no good judge of a graph that was lowered for TensorRT if it is left to itself. On a CPU it has few
float16 kernels, computes in float32, and skips roundings to float16 between two such kernels. And it rewrites graphs
with Q/DQ pairs: it quantizes biases, in float16 even beyond what float16 can hold. So the graph is turned into one of
float32 tensors, each rounded to float16 right after it is computed where the graph says float16, and its Q/DQ pairs
are left alone. What onnxruntime then still optimizes (constants folded, float kernels fused between two roundings)
changes no result and halves the time. Its blocked convolutions stay off: they add in another order, which tips values
that lie on the edge between two integers.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.backends.onnxruntime import Runner, open_session
from edgeprune.errors import BackendError

FLOAT, FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16


def load(model: ir.Model, threads: int = 1) -> Runner:
    """Load a lowered model, to be run as its graph says.

    Raises:
        BackendError: onnxruntime does not accept it; plugin nodes of TensorRT, for instance.
        ModelError: the weights do not fit in a protobuf (2 GB).
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        return open_session(rounded_float32(model), options, threads)
    except _failures() as error:
        raise BackendError(f"onnxruntime cannot simulate the lowered model: {str(error).splitlines()[0]}") from error


def rounded_float32(model: ir.Model) -> ir.Model:
    """A copy in which every float16 tensor is a float32 one that is rounded to float16.

    A model whose own inputs or outputs are float16 was not lowered by edgeprune; it is copied as it is.
    """
    copy = graphs.clone(model)
    graph = copy.graph
    if any(value.dtype == FLOAT16 for value in (*graph.inputs, *graph.outputs)):
        return copy
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.dtype == FLOAT16:
            value.const_value = ir.tensor(tensor.numpy().astype(np.float32), name=value.name)
            value.type = ir.TensorType(FLOAT)
    for node in list(graph):
        halved = [value for value in node.outputs if value.dtype == FLOAT16]
        if halved and node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", FLOAT.value)
        elif halved and node.op_type == "ConstantOfShape":
            fill = node.attributes["value"].as_tensor().numpy().astype(np.float32)
            node.attributes["value"] = ir.AttrTensor("value", ir.tensor(fill))
        for value in halved:
            _round_after(graph, node, value)
    return copy


def _round_after(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    value.type = ir.TensorType(FLOAT)
    readers = tuple(value.uses())
    half = ir.node("Cast", [value], {"to": FLOAT16.value}, name=f"{value.name}/round")
    back = ir.node("Cast", [half.outputs[0]], {"to": FLOAT.value}, name=f"{value.name}/rounded")
    half.outputs[0].name, back.outputs[0].name = f"{value.name}/half", f"{value.name}/float"
    graph.insert_after(node, [half, back])
    for reader, index in readers:
        reader.replace_input_with(index, back.outputs[0])


def _failures() -> tuple[type[Exception], ...]:
    """What onnxruntime raises; its own exceptions have no common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (c for c in vars(state).values() if isinstance(c, type) and issubclass(c, Exception))
    return (RuntimeError, ValueError, *own)
